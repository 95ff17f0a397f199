"""A suite file as it is written: each value read into the form that `Suite` keeps, and what in it does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from bench import registry
from bench.errors import UserError, nearest
from bench.moved import deprecated, key_sentence
from bench.suite import document as suite_yaml
from bench.suite import gates as suite_gates
from bench.suite import seeds as suite_seeds
from bench.suite.document import Document, Fault, fault, faults, shown
from bench.suite.gates import COSTS, EVERY_PROMPT_SET, Gate, Text
from bench.suite.schema import Control, Fields, Guidance, Link, MethodSpec, Part, Steps
from bench.suite.seeds import Seed


def _distinct(noun: str) -> AfterValidator:
    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        labels = [value.label if isinstance(value, MethodSpec) else value for value in values]
        first = dict(zip(reversed(labels), reversed(range(len(labels))), strict=True))
        faults(((at,), f"duplicate {noun} {one!r}") for at, one in enumerate(labels) if first[one] != at)
        return values

    return AfterValidator(check)


def _registered(kind: str) -> AfterValidator:
    def unknown(names: tuple[str, ...]) -> Iterable[Fault]:
        for at, name in enumerate(names):
            try:
                registry.get(kind, name)
            except UserError as error:
                yield (at,), str(error)

    def check(names: tuple[str, ...]) -> tuple[str, ...]:
        faults(unknown(names))
        return names

    return AfterValidator(check)


LONGEST_LABEL = 200


def _labelled(label: str) -> str:
    if not label.isprintable() or label != label.strip() or not label:
        fault(f"a label should be printable text without spaces around it, got {shown(label)}")
    if len(label) > LONGEST_LABEL:
        fault(f"a label has at most {LONGEST_LABEL} characters, for files are named after it; got {len(label)}")
    return label


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else (value,)


def _control(value: Any) -> Any:
    return {"effect": value} if isinstance(value, str) else value


def _link(value: Any) -> Link:
    """A method's name, or a mapping of `use` and parameters; the plugin itself judges the parameters."""
    if not isinstance(value, str | dict):
        fault(f"a method should be a name, a mapping or a list, got {shown(value)}")
    given = {"use": value} if isinstance(value, str) else value
    if "use" not in given:
        fault(f"a method needs 'use' or 'chain', got {shown(value)}")
    use = given["use"]
    if not isinstance(use, str):
        fault(f"'use' should be text, got {shown(use)}", "use")
    try:
        plugin = registry.get("methods", use)
        renamed = getattr(plugin, "renamed", {})
        for old in renamed.keys() & given.keys():
            deprecated(key_sentence(old, renamed[old]))
        built = plugin(**{key: entry for key, entry in given.items() if key != "use"})
        return Link(use=use, params=dict(sorted(built.model_dump(mode="json").items())))
    except UserError as error:
        fault(str(error), "use")
    except ValidationError as error:
        faults(_parameter_faults(error, use=use, known=list(plugin.model_fields)))
        raise


def _parameter_faults(error: ValidationError, *, use: str, known: list[str]) -> Iterable[Fault]:
    for one in error.errors():
        name = ".".join(map(str, one["loc"]))
        subject = f"parameter {name!r} of method {use!r}" if name else f"method {use!r}"
        yield one["loc"], suite_yaml.phrase(one, subject=subject, known=known, noun=f"parameter of method {use!r}:")


def _method(value: Any) -> MethodSpec:
    """One entry of `methods` in any of its forms: name, mapping, list, mapping with a chain."""
    if isinstance(value, list):
        return _chained(TypeAdapter(Links).validate_python(value))
    if isinstance(value, dict) and "chain" in value:
        if "use" in value:
            fault("a method needs either 'use' or 'chain', got both", "use")
        chain = _Chain.model_validate(value)
        return _chained(chain.chain, label=chain.name)
    if isinstance(value, dict) and "name" in value:
        label = _Named(name=value["name"]).name
        return _chained((_link({key: entry for key, entry in value.items() if key != "name"}),), label=label)
    return _chained((_link(value),))


def _chained(links: tuple[Link, ...], *, label: str | None = None) -> MethodSpec:
    return MethodSpec(label=label or "+".join(link.use for link in links), chain=links)


NotEmpty = Field(min_length=1)
Label = Annotated[Text, AfterValidator(_labelled)]
Links = Annotated[tuple[Annotated[Link, BeforeValidator(_link)], ...], NotEmpty]
Names = Annotated[tuple[Text, ...], NotEmpty]
AnySteps = Annotated[tuple[Steps, ...], BeforeValidator(_listed), NotEmpty, _distinct("number of steps")]
AnyGuidance = Annotated[tuple[Guidance, ...], BeforeValidator(_listed), NotEmpty, _distinct("guidance")]


class _Named(Part):
    name: Label


class _Chain(Part):
    name: Label | None = None
    chain: Links


class Written(Fields):
    """The keys of a suite file, each value read into the form that `Suite` keeps."""

    models: Annotated[Names, _distinct("model"), _registered("models")]
    prompts: Annotated[Names, _distinct("prompt set"), _registered("prompts")]
    samplers: Annotated[Names, _distinct("sampler"), _registered("samplers")]
    steps: AnySteps | None = None
    guidance: AnyGuidance | None = None
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(suite_seeds.written), _distinct("seed")] = (0,)
    methods: Annotated[tuple[Annotated[MethodSpec, BeforeValidator(_method)], ...], NotEmpty, _distinct("method label")]
    metrics: Annotated[Names, _distinct("metric"), _registered("metrics")]
    controls: dict[str, Annotated[Control, BeforeValidator(_control)]] = Field(default_factory=dict)


_KEYS_WITHIN: dict[str | int, list[str]] = {
    "gates": list(Gate.model_fields),
    "controls": list(Control.model_fields),
    "seeds": ["from", "to"],
    "methods": ["name", "chain"],
}


def validated(document: Document, wrong: Sequence[Fault]) -> Written:
    """The file's keys; `wrong` is what was found of them before."""
    try:
        written = Written.model_validate(document.data)
    except ValidationError as error:
        document.refuse([*wrong, *_phrased(document, error)])
        raise
    document.refuse(wrong)
    return written


def _phrased(document: Document, error: ValidationError) -> Iterable[Fault]:
    """Pydantic's errors as faults; the absent keys of the file are reported as one."""
    absent: list[str] = []
    misspelt: list[str] = []
    for one in error.errors():
        path = one["loc"]
        known = _KEYS_WITHIN[path[0]] if len(path) > 1 and path[0] in _KEYS_WITHIN else list(Written.model_fields)
        subject = repr(".".join(map(str, document.known(path) or path)))
        if len(path) == 1 and one["type"] == "missing":
            absent.append(str(path[0]))
            continue
        if len(path) == 1 and one["type"] == "extra_forbidden":
            misspelt.append(nearest(str(path[0]), known))
        yield path, suite_yaml.phrase(one, subject=subject, known=known)
    # A misspelt key is one mistake: its correct spelling is not reported as missing too.
    absent = [key for key in absent if nearest(key, [key]) not in misspelt]
    if absent:
        yield (), f"missing key{'s' * (len(absent) > 1)} {', '.join(map(repr, absent))}"


def unmatched(written: Written, document: Document, *, gated_sets: bool) -> Iterable[Fault]:
    """What names another part of the suite that is not there."""
    baseline = written.baseline
    labels = [method.label for method in written.methods]
    measured = [*written.metrics, *COSTS]
    if baseline not in labels:
        yield ("baseline",), f"baseline {baseline!r} is not a method of this suite{nearest(baseline, labels)}"
    yield from _absent("metric", written.headline, among=written.metrics, path=("headline",))
    for label, control in written.controls.items():
        path = ("controls", label)
        yield from _absent("method", label, among=labels, path=path, baseline=baseline)
        yield from _absent("metric", control.metric, among=written.metrics, path=(*path, "metric"))
    for at, gate in zip(suite_gates.paths(document.data.get("gates")), written.gates, strict=True):
        yield from _absent("metric", gate.metric, among=measured, path=(*at, "metric"))
        yield from _absent("method", gate.method, among=labels, path=(*at, "method"), baseline=baseline)
        if gated_sets and gate.prompts != EVERY_PROMPT_SET:
            yield from _absent("prompt set", gate.prompts, among=written.prompts, path=(*at, "prompts"))
    if not written.seeds:
        yield from suite_seeds.unowned(written.prompts, written.images_per_prompt)


def _absent(
    noun: str, name: str | None, *, among: Sequence[str], path: suite_yaml.Path, baseline: str | None = None
) -> Iterable[Fault]:
    if name is None:
        return
    if name not in among:
        yield path, f"{noun} {name!r} is not in this suite{nearest(name, among)}"
    elif name == baseline:
        yield path, f"{name!r} is the baseline, which is not compared with itself"
