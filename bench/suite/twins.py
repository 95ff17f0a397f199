"""A suite on the embedded stand-ins of its models, prompt sets, metrics and methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.needs.base import Lacking
from bench.suite.document import Document
from bench.suite.gates import Gate
from bench.suite.narrowed import coherent
from bench.suite.schema import Control, MethodSpec, Suite

SINGULAR = {"models": "model", "prompts": "prompt set", "metrics": "metric"}


def twinned(suite: Suite, document: Document) -> Suite:
    """The suite on the embedded stand-ins, with a note for all that has none."""
    update: dict[str, Any] = {}
    notes: list[str] = []
    twins = {kind: {name: registry.twin(kind, name) for name in getattr(suite, kind)} for kind in SINGULAR}
    exchanged = [twin for name, twin in twins["models"].items() if twin and twin != name]
    if not exchanged:
        # Prompts of the user's own are kept where the suite's models are: they were written for these.
        twins["prompts"] = {name: twin or name for name, twin in twins["prompts"].items()}
    for kind, of in twins.items():
        gone = [name for name, twin in of.items() if twin is None]
        update[kind] = tuple(dict.fromkeys(twin for twin in of.values() if twin))
        if not update[kind]:
            said = f"--twin leaves no {SINGULAR[kind]}, for none has a twin yet: {', '.join(map(repr, gone))}"
            raise UserError(f"{document.place((kind,)).shown}: {said}")
        notes += [f"{SINGULAR[kind]} {name!r} has no twin yet: left out" for name in gone]
        for twin in update[kind]:
            same = [name for name, one in of.items() if one == twin]
            if len(same) > 1:
                notes.append(f"{SINGULAR[kind]}s {', '.join(map(repr, same))} are one on the twin: {twin!r}")
    kept: list[MethodSpec] = []
    for method in suite.methods:
        found = _twinned_method(method, exchanged, update["models"])
        if isinstance(found, MethodSpec):
            kept.append(found)
            notes += _changed(method, found)
        elif method.label == suite.baseline:
            raise UserError(f"{document.place(('baseline',)).shown}: --twin leaves no baseline: {found.of_baseline}")
        else:
            notes.append(f"{found.of_arm}: left out")
    update["methods"] = tuple(kept)
    if not suite.seeds:
        update["seeds"] = (0,)
        notes.append("seeds are 0, for the twin's prompts have none of their own; --set seeds=... sets others")
    for key in ("steps", "guidance"):
        values = getattr(suite, key)
        if values is None or key in document.overridden or not exchanged:
            continue
        if len(values) > 1:
            continue  # the suite compares them: it would have nothing to show at one value
        update[key] = None
        notes.append(f"{key} is the twin model's own default, not the suite's; --set {key}=... sets it")
    update |= {"scorers": {}, "running": {}}
    if suite.running:
        notes.append(f"settings of {', '.join(suite.running)} play no part: the stand-ins run as they are")
    if suite.scorers:
        names = ", ".join(suite.scorers)
        notes.append(f"checkpoint, dtype and reference of {names} play no part: the stand-ins have their own")
    update["headline"] = twins["metrics"].get(suite.headline or "") or suite.headline
    update |= _twinned_rules(suite, metrics=twins["metrics"], prompts=twins["prompts"])
    return coherent(suite.model_copy(update={**update, "notes": tuple(notes)}))


@dataclass(frozen=True)
class _Absent:
    """Why an arm has no place in the embedded world, as it is said of an arm and of the baseline."""

    of_arm: str
    of_baseline: str


def _changed(method: MethodSpec, found: MethodSpec) -> Iterator[str]:
    """What the stand-in of a method has of its own, besides metrics."""
    for link, other in zip(method.chain, found.chain, strict=True):
        metrics = registry.named_fields(registry.get("methods", link.use), "metrics")
        for key, value in other.params.items():
            if link.params.get(key) != value and key not in metrics:
                yield f"method {method.label!r}: {key} is {value!r} on the twin, not {link.params.get(key)!r}"


def _twinned_method(method: MethodSpec, exchanged: Sequence[str], models: Sequence[str]) -> MethodSpec | _Absent:
    """The method on stand-ins; or why not: its chooser has none, or it cannot serve a model that was exchanged.

    A method says by `for_model` which models it can serve, such as those that it has weights for. Files that are not
    here are no reason: `plan` lists them.
    """
    links = []
    for link in method.chain:
        plugin = registry.get("methods", link.use)
        for name in registry.named_fields(plugin, "metrics"):
            metric = link.params.get(name)
            if not isinstance(metric, str) or metric not in registry.names("metrics"):
                continue
            twin = registry.twin("metrics", metric)
            if twin is None:
                return _Absent(
                    f"method {method.label!r} chooses by {metric!r}, which has no twin yet",
                    f"{method.label!r} chooses by a metric that has no twin yet",
                )
            link = link.model_copy(update={"params": {**link.params, name: twin}})
        built = plugin(**link.params)
        for model in models:
            built = built.twinned(registry.get("models", model))
        link = link.model_copy(update={"params": dict(sorted(built.model_dump(mode="json").items()))})
        for model in exchanged:
            try:
                built.for_model(registry.get("models", model))
            except Lacking:
                continue
            except UserError as error:
                why = f"{method.label!r} cannot serve the twin model {model!r} ({str(error).split(';')[0]})"
                return _Absent(f"method {why}", why)
        links.append(link)
    return method.model_copy(update={"chain": tuple(links)})


def _twinned_rules(suite: Suite, *, metrics: dict[str, str | None], prompts: dict[str, str | None]) -> dict[str, Any]:
    """Controls and gates by the names of the stand-ins; what has none keeps its name, and `coherent` drops it."""

    def renamed(rule: Control | Gate) -> Control | Gate:
        changed = {"metric": metrics.get(rule.metric or "") or rule.metric}
        if isinstance(rule, Gate):
            changed["prompts"] = prompts.get(rule.prompts) or rule.prompts
        return rule.model_copy(update=changed)

    controls = {label: renamed(control) for label, control in suite.controls.items()}
    # Two metrics may share one stand-in, and then a rule written for both is one rule.
    return {"controls": controls, "gates": tuple(dict.fromkeys(renamed(gate) for gate in suite.gates))}
