"""Suites, methods, metrics and prompts that are Python objects -> the Suite that a file would have given.

An object becomes what a suite file says of it: a method its registered name and its parameters, a metric or a set of
prompts its name. A class, metric or set that has no name yet is registered for this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from bench import plugins, registry, suite
from bench.errors import UserError, first_line
from bench.methods.base import Chain, Method
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt, PromptSet
from bench.prompts.own import prompt_of
from bench.prompts.rows import PROMPT, Row
from bench.runner.plan import content_hash
from bench.suite import document as suite_yaml
from bench.suite.document import Document, Place

RESERVED = ("use", "name", "chain")
"""Keys of a suite's method that are not its parameters."""
MadeOf = str | Mapping[str, Any] | Method | type[Method] | Sequence[Any]
"""A method: its name or label, a mapping as in a suite file, an object, a class, or a list of these as a chain."""


def suite_of(
    given: str | Path | Mapping[str, Any],
    *,
    methods: Sequence[MadeOf] | Mapping[str, MadeOf] | None = None,
    metrics: Sequence[str | MetricEntry | Mapping[str, Any]] | None = None,
    prompts: str | PromptSet | Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    limit: int | None = None,
    twin: bool = False,
) -> suite.Suite:
    """A suite from its file, or from a mapping of the same keys, with other methods, metrics and prompts.

    `methods` and `metrics` are all that is kept of the suite's, with the baseline, and what is added to it; `prompts`
    take the place of its prompt sets. UserError for what a suite cannot be.
    """
    if isinstance(given, Mapping):
        document, text = _document(given), ""
        document.data.setdefault("name", "suite")
    else:
        text = suite.text_of(Path(given))
        document = suite_yaml.read(text, file=str(given))
    for key, value in (overrides or {}).items():
        document.override(f"{key}={json.dumps(_plain(value, key))}")
    if not isinstance(given, Mapping):
        document.data.setdefault("name", Path(given).stem)
    labels = [] if methods is None else _add(document, "methods", [*_methods(methods)], _label)
    names = [] if metrics is None else _add(document, "metrics", [*map(metric_entry, metrics)], _metric)
    if prompts is not None:
        document.data["prompts"] = _prompt_sets(prompts)
        document.places |= {("prompts", at): Place(0, "prompts") for at in range(len(document.data["prompts"]))}
    if not text or methods is not None or metrics is not None or prompts is not None or overrides:
        text = yaml.safe_dump(document.data, sort_keys=False, allow_unicode=True, width=120)
    return suite.of_document(
        document, text=text, limit=limit, twin=twin, methods=labels, metrics=names, other_prompts=prompts is not None
    )


# A suite that is a mapping -------------------------------------------------------------------------------------------


def _document(given: Mapping[str, Any]) -> Document:
    """A mapping as the document that its YAML would be; errors name the key: `suite['methods'][1]`."""
    named = dict(given)
    for key, entry in (("methods", method_entry), ("metrics", metric_entry), ("prompts", _set_name)):
        if isinstance(named.get(key), list | tuple):
            named[key] = [entry(one) for one in named[key]]
    data = _plain(named, "suite")
    places: dict[suite_yaml.Path, Place] = {}
    _place(data, (), places)
    return Document(data=data, places=places)


def _place(value: Any, path: suite_yaml.Path, places: dict[suite_yaml.Path, Place]) -> None:
    places[path] = Place(len(places) + 1, "suite" + "".join(f"[{part!r}]" for part in path))
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        _place(one, (*path, key), places)


def _plain(value: Any, name: str) -> Any:
    """A value as YAML has it: text, numbers, lists and mappings."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise UserError(f"{name}: a key should be text, got {odd[0]!r}")
        return {key: _plain(one, f"{name}[{key!r}]") for key, one in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(one, f"{name}[{at}]") for at, one in enumerate(value)]
    raise UserError(f"{name}: expected text, a number, a list or a mapping, got {type(value).__name__}")


def _add(document: Document, key: str, entries: list[Any], name: Any) -> list[str]:
    """Have entries in a list of the document, in the place of those of their names; returns the names of all.

    An entry that is a name leaves what the document has of that name as it is.
    """
    document.places.setdefault((key,), Place(0, key))
    written = document.data.setdefault(key, [])
    places = {name(one): at for at, one in enumerate(written)} if isinstance(written, list) else {}
    for number, entry in enumerate(entries if isinstance(written, list) else ()):
        if isinstance(entry, str) and name(entry) in places:
            continue
        at = places.pop(name(entry), len(written))
        written[at : at + 1] = [name(entry) if isinstance(entry, str) else entry]
        document.places = {path: one for path, one in document.places.items() if path[:2] != (key, at)}
        document.places[key, at] = Place(0, f"{key}[{number}]")
    return [entry if isinstance(entry, str) else name(entry) for entry in entries]


# Methods -------------------------------------------------------------------------------------------------------------


def _methods(given: Sequence[MadeOf] | Mapping[str, MadeOf]) -> Iterable[Any]:
    if isinstance(given, Mapping):
        return [method_entry(one, label) for label, one in given.items()]
    if isinstance(given, str | Method | type):
        raise UserError(f"methods: expected a list, or a mapping by label, got {given!r}; write [{given!r}]")
    return [method_entry(one) for one in given]


def method_entry(one: MadeOf, label: str | None = None) -> Any:
    """A method as a suite file has it, under that label; UserError for what is none."""
    if isinstance(one, Chain):
        one = one.links
    if isinstance(one, str):
        entry: Any = one if label is None else {"use": one}
    elif isinstance(one, Mapping):
        entry = dict(one)
    elif isinstance(one, list | tuple):
        entry = {"chain": [method_entry(link) for link in one]}
    else:
        entry = _parts(one)
    return entry if label is None else {**entry, "name": label}


def _parts(one: Any) -> dict[str, Any]:
    """The registered name and the parameters of a method, or of a class with its defaults."""
    if isinstance(one, type) and issubclass(one, Method):
        try:
            one = one()
        except ValidationError as error:
            raise UserError(
                f"method {one.__name__}: {first_line(error)}; give an object of it with its parameters"
            ) from None
    if not isinstance(one, Method):
        raise UserError(f"methods: expected a Method, a name, a mapping or a list, got {one!r}")
    kind = type(one)
    if taken := [name for name in RESERVED if name in kind.model_fields]:
        raise UserError(f"method {kind.__name__}: a parameter cannot be called {taken[0]!r}; rename it")
    try:
        params = one.model_dump(mode="json")
        same = kind(**params) == one
    except (PydanticSerializationError, ValidationError):
        same = False
    if not same:
        raise UserError(
            f"method {kind.__name__}: its parameters cannot be written down as text and numbers and read again; a "
            "suite and a job id need that"
        )
    name = registry.name_of("methods", kind)
    if name is None:
        name = plugins.name_of(kind)
        registry.put("methods", name, kind, kind.__module__)
    return {"use": name, **params}


def _label(entry: Any) -> str:
    """The label of a method of a suite, as `bench.suite` gives it."""
    if isinstance(entry, Mapping):
        links = entry.get("chain")
        return str(entry.get("name") or ("+".join(map(_label, links)) if links else entry.get("use")))
    return "+".join(map(_label, entry)) if isinstance(entry, list) else str(entry)


# Metrics and prompts -------------------------------------------------------------------------------------------------


def metric_entry(one: str | MetricEntry | Mapping[str, Any]) -> Any:
    """A metric as a suite file has it; UserError for what is none."""
    if isinstance(one, MetricEntry):
        if registry.name_of("metrics", one) is None:
            registry.put("metrics", one.name, one, registry.NOTEBOOK)
        return one.name
    if not isinstance(one, str | Mapping):
        raise UserError(f"metrics: expected a name, a MetricEntry or a mapping, got {one!r}")
    return one if isinstance(one, str) else dict(one)


def _metric(entry: Any) -> str:
    return str(entry.get("use")) if isinstance(entry, Mapping) else str(entry).partition("=")[0]


def _set_name(one: Any) -> Any:
    """The name of a prompt set; one that has none yet is registered."""
    if not isinstance(one, PromptSet):
        return one
    if registry.name_of("prompts", one) is None:
        registry.put("prompts", one.name, one, registry.NOTEBOOK)
    return one.name


def _prompt_sets(given: Any) -> list[str]:
    """The names of the prompt sets that were given."""
    if isinstance(given, str | PromptSet):
        return [str(_set_name(given))]
    if isinstance(given, Mapping):
        return [_listed(list(one), name) for name, one in given.items()]
    return [_listed(list(given))]


def _listed(given: list[Any], name: str | None = None) -> str:
    """The name of a prompt set of these texts, or mappings as a prompt file has them; by default after its content."""
    found: dict[str, Prompt] = {}
    for at, one in enumerate(given):
        place = f"prompts[{at}]" if name is None else f"prompts[{name!r}][{at}]"
        cells = {PROMPT: one} if isinstance(one, str) else one
        if not isinstance(cells, Mapping):
            raise UserError(f"{place}: expected text, or a mapping as a prompt file has it, got {one!r}")
        if isinstance(one, str) and one in registry.names("prompts"):
            raise UserError(f"{place}: {one!r} is the name of a prompt set; give it alone: prompts={one!r}")
        try:
            prompt = prompt_of(Row(place, dict(cells)), PROMPT, at, Path.cwd())
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        if before := found.get(_content(prompt)):
            raise UserError(f"{place}: the same prompt as number {before.index}; for several images of one give seeds")
        found[_content(prompt)] = prompt
    if not found:
        raise UserError("prompts: an empty list; expected texts, or mappings as a prompt file has them")
    prompts = list(found.values())
    name = name or f"prompts-{content_hash(list(found))[:8]}"
    seeds = {p.index: p.seeds for p in prompts if p.seeds}
    made = PromptSet(name, len(prompts), lambda: list(prompts), "a list", seeds=seeds)
    registry.put("prompts", name, made, registry.NOTEBOOK)
    return name


def _content(prompt: Prompt) -> str:
    """All that a prompt is, but its place."""
    control = sorted((kind, str(image.path)) for kind, image in (prompt.control or {}).items())
    return json.dumps([prompt.text, prompt.category, prompt.metadata, control, prompt.seeds], sort_keys=True)
