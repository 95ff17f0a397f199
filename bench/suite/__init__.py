"""A suite: what is compared, on what, and what is expected; read from YAML with strict keys and names.

Every mistake in a file is one UserError of one line, `suites/my.yaml:12: unknown method 'inverson'; did you mean
'inversion'?`; the first by line is told and the others are counted.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from bench import registry
from bench.errors import UserError, nearest
from bench.needs.base import Lacking
from bench.suite import document as suite_yaml
from bench.suite import gates as suite_gates
from bench.suite import models as suite_models
from bench.suite import scorers as suite_scorers
from bench.suite import seeds as suite_seeds
from bench.suite.document import Document, Fault, fault, faults, shown
from bench.suite.gates import COSTS as COSTS
from bench.suite.gates import EVERY_PROMPT_SET as EVERY_PROMPT_SET
from bench.suite.gates import Gate as Gate
from bench.suite.gates import Gates, Text
from bench.suite.models import ModelSettings
from bench.suite.scorers import ScorerSettings
from bench.suite.seeds import MAX_SEEDS as MAX_SEEDS
from bench.suite.seeds import Seed as Seed

ENDINGS = (".yaml", ".yml")
"""Of suite files; another name is one too where its content is."""
_SINGULAR = {"models": "model", "prompts": "prompt set", "metrics": "metric"}


Steps = Annotated[int, Field(strict=True, ge=1, le=1000)]
Guidance = Annotated[float, Field(strict=True, ge=0, le=100)]
Count = Annotated[int, Field(strict=True, ge=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Link(_Record):
    """One method of a chain with all of its parameters, those left at their defaults included."""

    use: str
    """Its registered name."""
    params: dict[str, Any] = {}
    """Its parameters, sorted by name, as JSON holds them."""


class MethodSpec(_Record):
    """One arm of the comparison."""

    label: str
    """What tables and gates call it."""
    chain: tuple[Link, ...]
    """The noise methods applied, in order."""


class Control(_Record):
    """A method whose true effect is known beforehand."""

    effect: Literal["zero", "positive"]
    """What a sound harness must find."""
    metric: Text | None = None
    """The one metric this is expected of; None: all of the suite's."""


class _Fields(_Record):
    """The fields that are kept as they were written."""

    name: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9_-]+$")]
    """What run folders and reports are named after; the file's stem unless given."""
    title: Text = ""
    """One line for the report's head."""
    reproduces: Text = ""
    """The table or figure of the paper that this suite is for."""
    images_per_prompt: Count | None = None
    """Images for each prompt and seed; None: as many as each prompt set's own protocol makes."""
    baseline: Text
    """The label of the method that all others are paired with."""
    headline: Text | None = None
    """The metric of the report's headline; None: by the report's own rule. It decides no image and no score."""
    negative_prompt: Text = ""
    """For every prompt."""
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Precision of the models' networks; None: fp32 on a CPU, fp16 on a GPU."""
    batch_size: Count | None = None
    """Images at once; it decides no pixel. None: the model's own."""
    gates: Gates = ()
    """The rules of `bench gate`."""
    made_by: dict[Text, Text] = {}
    """Commands that make files of the suite's own, by the files' names as its methods give them."""


class Suite(_Fields):
    """A validated suite after `--set`, `--limit`, `--method`, `--metric` and `--twin`."""

    models: tuple[str, ...]
    """Registered models."""
    running: dict[str, ModelSettings] = {}
    """The user's settings by model."""
    prompts: tuple[str, ...]
    """Registered prompt sets."""
    samplers: tuple[str, ...]
    """Registered samplers."""
    steps: tuple[int, ...] | None = None
    """Numbers of sampling steps; None: each model's default."""
    guidance: tuple[float, ...] | None = None
    """Guidance scales as diffusers has them; None: each model's default."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the initial noise; empty: each prompt's own, and prompts without any are left out."""
    methods: tuple[MethodSpec, ...]
    """The arms, the baseline among them."""
    metrics: tuple[str, ...]
    """Registered metrics."""
    scorers: dict[str, ScorerSettings] = {}
    """The user's settings by metric; also for a metric that only chooses."""
    controls: dict[str, Control] = {}
    """Expected effects by method label."""
    limit: int | None = None
    """Prompts taken of each set; None: all."""
    twin: bool = False
    """Whether models, prompts and metrics are the embedded stand-ins."""
    notes: tuple[str, ...] = ()
    """What a reader must know about how this suite differs from its file."""
    source_text: str = ""
    """The YAML as given."""

    def canonical(self) -> str:
        """All that decides results, as JSON that is the same for the same suite."""
        told = {"name", "title", "reproduces", "headline", "batch_size", "gates", "notes", "source_text", "made_by"}
        kept = self.model_dump(mode="json", exclude=told)
        if self.dtype is None:
            del kept["dtype"]  # suites had no precision at first, and the same suite keeps its id
        for key in ("scorers", "running"):
            if not kept[key]:
                del kept[key]
        for settings in kept.get("scorers", {}).values():
            settings.pop("timeout", None)
        return json.dumps(kept, sort_keys=True, separators=(",", ":"))

    @property
    def id(self) -> str:
        """First ten hex digits of the SHA-256 of `canonical()`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:10]

    @contextmanager
    def configured(self) -> Iterator[None]:
        """Within, models and metrics are as `running` and `scorers` have them; UserError where a file has gone."""
        models = suite_models.entries(self.running)
        entries = {name: one.on(registry.get("metrics", name)) for name, one in self.scorers.items()}
        with registry.configured("metrics", entries), registry.configured("models", models):
            yield


def load(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    twin: bool = False,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Suite:
    """Read a suite file; see `parse`. UserError for a file that cannot be read."""
    text = text_of(path)
    return parse(text, file=str(path), overrides=overrides, limit=limit, twin=twin, methods=methods, metrics=metrics)


def text_of(path: Path) -> str:
    """What a suite file holds; UserError for one that cannot be read, or that is of another kind."""
    try:
        raw = Path(path).read_bytes()
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_near(Path(path))}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; expected a YAML file") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text (byte 0x{error.object[error.start]:02x})") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)!r}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    _check_kind(text, path)
    return text


def _near(path: Path) -> str:
    """`; did you mean 'x.yaml'?` where a suite beside it has nearly that name; the ending makes no name near."""
    beside = {other.stem: other.name for other in path.parent.glob("*.yaml")}
    close = difflib.get_close_matches(path.stem, sorted(beside), n=1, cutoff=0.6)
    return f"; did you mean {beside[close[0]]!r}?" if close else ""


def _check_kind(text: str, path: Path) -> None:
    """UserError for a file of another kind, of which a parser would only say where it is no YAML."""
    if Path(path).suffix.lower() in ENDINGS:
        return
    try:
        written = suite_yaml.read(text, file=str(path)).data
    except UserError:
        written = {}
    if not written.keys() & {"models", "methods"}:
        raise UserError(f"{path}: not a suite; expected a YAML file, such as suites/shapes_quick.yaml")


def parse(
    text: str,
    *,
    file: str,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    twin: bool = False,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Suite:
    """A YAML text as a Suite, `file` being its name in errors.

    `overrides` are `key.path=value` lines set before validation, `limit` the prompts taken of each set, `methods`
    and `metrics` the labels and names to keep (the baseline always stays), and `twin` puts the embedded stand-ins
    in the place of models, prompt sets and metrics. Filters use the names of the file, before twins. A metric as
    `hpsv2=FOLDER` is also given that checkpoint.
    """
    document = suite_yaml.read(text, file=file)
    for setting in overrides:
        document.override(setting)
    document.data.setdefault("name", Path(file).stem)
    return of_document(document, text=text, limit=limit, twin=twin, methods=methods, metrics=metrics)


def of_document(
    document: Document,
    *,
    text: str,
    limit: int | None = None,
    twin: bool = False,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
    other_prompts: bool = False,
) -> Suite:
    """What a document says as a Suite, as `parse` has it; `text` is kept as its source.

    With `other_prompts` its prompt sets have taken the place of those that its gates were written for: gates of a set
    that is no longer there are left out.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: expected a whole number of at least 1")
    running, wrong = suite_models.taken(document)
    scorers, more = suite_scorers.taken(document)
    written = _validated(document, [*wrong, *more])
    document.refuse(_unmatched(written, document, gated_sets=not other_prompts))
    fields = {key: getattr(written, key) for key in _Written.model_fields}
    suite = Suite(**fields, limit=limit, twin=twin, source_text=text, running=running, scorers=scorers)
    kept, given = suite_scorers.split(metrics)
    suite = _filtered(suite, methods=methods, metrics=_by_file(suite, kept) if twin else kept)
    if twin:
        return _twinned(suite, document)
    suite = suite.model_copy(update={"scorers": suite_scorers.joined(suite.scorers, given)})
    return suite if suite.seeds else suite.model_copy(update={"notes": suite_seeds.notes(suite.prompts)})


# What may be written -----------------------------------------------------------------------------------------------


def _distinct(noun: str) -> AfterValidator:
    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        told = [value.label if isinstance(value, MethodSpec) else value for value in values]
        first = dict(zip(reversed(told), reversed(range(len(told))), strict=True))
        faults(((at,), f"duplicate {noun} {one!r}") for at, one in enumerate(told) if first[one] != at)
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


def _labelled(label: str) -> str:
    if not label.isprintable() or label != label.strip() or not label:
        fault(f"a label should be printable text without spaces around it, got {shown(label)}")
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


class _Named(_Record):
    name: Label


class _Chain(_Record):
    name: Label | None = None
    chain: Links


class _Written(_Fields):
    """The keys of a suite file, each value read into the form that `Suite` keeps."""

    models: Annotated[Names, _distinct("model"), _registered("models")]
    prompts: Annotated[Names, _distinct("prompt set"), _registered("prompts")]
    samplers: Annotated[Names, _distinct("sampler"), _registered("samplers")]
    steps: AnySteps | None = None
    guidance: AnyGuidance | None = None
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(suite_seeds.written), _distinct("seed")] = (0,)
    methods: Annotated[tuple[Annotated[MethodSpec, BeforeValidator(_method)], ...], NotEmpty, _distinct("method label")]
    metrics: Annotated[Names, _distinct("metric"), _registered("metrics")]
    controls: dict[str, Annotated[Control, BeforeValidator(_control)]] = {}


_KEYS_WITHIN: dict[str | int, list[str]] = {
    "gates": list(Gate.model_fields),
    "controls": list(Control.model_fields),
    "seeds": ["from", "to"],
    "methods": ["name", "chain"],
}


def _validated(document: Document, wrong: Sequence[Fault]) -> _Written:
    """The file's keys; `wrong` is what was found of them before."""
    try:
        written = _Written.model_validate(document.data)
    except ValidationError as error:
        document.refuse([*wrong, *_phrased(document, error)])
        raise
    document.refuse(wrong)
    return written


def _phrased(document: Document, error: ValidationError) -> Iterable[Fault]:
    """Pydantic's errors as faults; the absent keys of the file are told as one."""
    absent: list[str] = []
    misspelt: list[str] = []
    for one in error.errors():
        path = one["loc"]
        known = _KEYS_WITHIN[path[0]] if len(path) > 1 and path[0] in _KEYS_WITHIN else list(_Written.model_fields)
        subject = repr(".".join(map(str, document.known(path) or path)))
        if len(path) == 1 and one["type"] == "missing":
            absent.append(str(path[0]))
            continue
        if len(path) == 1 and one["type"] == "extra_forbidden":
            misspelt.append(nearest(str(path[0]), known))
        yield path, suite_yaml.phrase(one, subject=subject, known=known)
    # A misspelt key is one mistake: its correct spelling is not told as missing too.
    absent = [key for key in absent if nearest(key, [key]) not in misspelt]
    if absent:
        yield (), f"missing key{'s' * (len(absent) > 1)} {', '.join(map(repr, absent))}"


def _unmatched(written: _Written, document: Document, *, gated_sets: bool) -> Iterable[Fault]:
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


# What is kept of it, and what stands in for it ---------------------------------------------------------------------


def _filtered(suite: Suite, *, methods: Sequence[str], metrics: Sequence[str]) -> Suite:
    """Only the methods and metrics asked for, with the baseline, and what is said about them."""
    labels = [method.label for method in suite.methods]
    for option, asked, known in (("method", methods, labels), ("metric", metrics, suite.metrics)):
        for name in asked:
            if name not in known:
                raise UserError(f"--{option} {name}: {_not_of_suite(option, name, known, twin=suite.twin)}")
    kept = tuple(one for one in suite.methods if not methods or one.label in (*methods, suite.baseline))
    measured = tuple(one for one in suite.metrics if not metrics or one in metrics)
    return _coherent(suite.model_copy(update={"methods": kept, "metrics": measured}))


def _by_file(suite: Suite, asked: Sequence[str]) -> list[str]:
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


def _coherent(suite: Suite) -> Suite:
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


def _twinned(suite: Suite, document: Document) -> Suite:
    """The suite on the embedded stand-ins, with a note for all that has none."""
    update: dict[str, Any] = {}
    notes: list[str] = []
    twins = {kind: {name: registry.twin(kind, name) for name in getattr(suite, kind)} for kind in _SINGULAR}
    exchanged = [twin for name, twin in twins["models"].items() if twin and twin != name]
    if not exchanged:
        # Prompts of the user's own are kept where the suite's models are: they were written for these.
        twins["prompts"] = {name: twin or name for name, twin in twins["prompts"].items()}
    for kind, of in twins.items():
        gone = [name for name, twin in of.items() if twin is None]
        update[kind] = tuple(dict.fromkeys(twin for twin in of.values() if twin))
        if not update[kind]:
            said = f"--twin leaves no {_SINGULAR[kind]}, for none has a twin yet: {', '.join(map(repr, gone))}"
            raise UserError(f"{document.place((kind,)).shown}: {said}")
        notes += [f"{_SINGULAR[kind]} {name!r} has no twin yet: left out" for name in gone]
        for twin in update[kind]:
            alike = [name for name, one in of.items() if one == twin]
            if len(alike) > 1:
                notes.append(f"{_SINGULAR[kind]}s {', '.join(map(repr, alike))} are one on the twin: {twin!r}")
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
        told = ", ".join(suite.scorers)
        notes.append(f"checkpoint, dtype and reference of {told} play no part: the stand-ins have their own")
    update["headline"] = twins["metrics"].get(suite.headline or "") or suite.headline
    update |= _twinned_rules(suite, metrics=twins["metrics"], prompts=twins["prompts"])
    return _coherent(suite.model_copy(update={**update, "notes": tuple(notes)}))


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
    """Controls and gates by the names of the stand-ins; what has none keeps its name, and `_coherent` drops it."""

    def renamed(rule: Control | Gate) -> Control | Gate:
        changed = {"metric": metrics.get(rule.metric or "") or rule.metric}
        if isinstance(rule, Gate):
            changed["prompts"] = prompts.get(rule.prompts) or rule.prompts
        return rule.model_copy(update=changed)

    controls = {label: renamed(control) for label, control in suite.controls.items()}
    # Two metrics may share one stand-in, and then a rule written for both is one rule.
    return {"controls": controls, "gates": tuple(dict.fromkeys(renamed(gate) for gate in suite.gates))}
