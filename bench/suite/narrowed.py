"""What is kept of a suite: the methods and metrics that are asked for, and rules that still have what they name."""

from __future__ import annotations

from collections.abc import Sequence

from bench import registry
from bench.errors import UserError, nearest
from bench.suite.gates import COSTS, EVERY_PROMPT_SET
from bench.suite.models import ModelSettings
from bench.suite.schema import Suite


def filtered(suite: Suite, *, methods: Sequence[str], metrics: Sequence[str]) -> Suite:
    """Only the methods and metrics asked for, with the baseline, and what is said about them."""
    labels = [method.label for method in suite.methods]
    for option, asked, known in (("method", methods, labels), ("metric", metrics, suite.metrics)):
        for name in asked:
            if name not in known:
                raise UserError(f"--{option} {name}: {_not_of_suite(option, name, known, twin=suite.twin)}")
    kept = tuple(one for one in suite.methods if not methods or one.label in (*methods, suite.baseline))
    measured = tuple(one for one in suite.metrics if not metrics or one in metrics)
    return coherent(suite.model_copy(update={"methods": kept, "metrics": measured}))


def by_file(suite: Suite, asked: Sequence[str]) -> list[str]:
    """Names of metrics as the file has them, for those that were given by the names of their stand-ins."""
    stand_ins = {name: registry.twin("metrics", name) for name in suite.metrics}
    found = ([one] if one in suite.metrics else [n for n, twin in stand_ins.items() if twin == one] for one in asked)
    return [name for one, names in zip(asked, found, strict=True) for name in names or [one]]


def _not_of_suite(option: str, name: str, known: Sequence[str], *, twin: bool) -> str:
    """Why a filter's name is refused: nothing has it, or only other suites do."""
    kind = f"{option}s"
    pairs = [(one, registry.twin(kind, one)) for one in known] if twin and option == "metric" else []
    stand_ins = list(dict.fromkeys(other for one, other in pairs if other and other != one))
    if name not in registry.names(kind):
        return f"unknown {option} {name!r}{nearest(name, [*known, *stand_ins])}"
    also = f" (with --twin also {', '.join(stand_ins)})" if stand_ins else ""
    return f"this suite has no {option} {name!r}; it has {', '.join(known)}{also}; name it in the file's {kind}"


def coherent(suite: Suite) -> Suite:
    """The suite without the controls and gates whose method, metric or prompt set it no longer has."""
    labels = {None, *(method.label for method in suite.methods)}
    metrics = {None, *suite.metrics, *COSTS}
    prompts = {EVERY_PROMPT_SET, *suite.prompts}
    controls = {label: one for label, one in suite.controls.items() if label in labels and one.metric in metrics}
    gates = tuple(
        one for one in suite.gates if one.method in labels and one.metric in metrics and one.prompts in prompts
    )
    headline = suite.headline if suite.headline in metrics else None
    return suite.model_copy(update={"controls": controls, "gates": gates, "headline": headline})


def compiled(suite: Suite) -> Suite:
    """The suite with `torch.compile` of every denoiser, which its models' image ids say: what `--compile` asks for."""
    plain = ModelSettings()
    running = {name: suite.running.get(name, plain).model_copy(update={"compile": True}) for name in suite.models}
    return suite.model_copy(update={"running": running})
