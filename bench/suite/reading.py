"""A suite file -> `Suite`: loaded, overridden, checked, narrowed, and put on the embedded world."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.suite import document as suite_yaml
from bench.suite import models as suite_models
from bench.suite import scorers as suite_scorers
from bench.suite import seeds as suite_seeds
from bench.suite import shipped
from bench.suite.document import Document
from bench.suite.narrowed import by_file, filtered
from bench.suite.schema import Suite
from bench.suite.twins import twinned
from bench.suite.written import Written, unmatched, validated

ENDINGS = (".yaml", ".yml")


def load(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    twin: bool = False,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Suite:
    """Read a suite file; see `text_of` and `parse`."""
    text = text_of(path)
    return parse(text, file=str(path), overrides=overrides, limit=limit, twin=twin, methods=methods, metrics=metrics)


def text_of(path: Path) -> str:
    """What a suite file holds, or the project's own suite of that name where there is no such file.

    UserError for one that cannot be read, or that is of another kind.
    """
    path = shipped.file_of(Path(path))
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
    if path.parent == Path() and not path.suffix:
        beside |= {name: name for name in shipped.names()}
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
    written = validated(document, [*wrong, *more])
    document.refuse(unmatched(written, document, gated_sets=not other_prompts))
    fields = {key: getattr(written, key) for key in Written.model_fields}
    suite = Suite(**fields, limit=limit, twin=twin, source_text=text, running=running, scorers=scorers)
    kept, given = suite_scorers.split(metrics)
    suite = filtered(suite, methods=methods, metrics=by_file(suite, kept) if twin else kept)
    if twin:
        return twinned(suite, document)
    suite = suite.model_copy(update={"scorers": suite_scorers.joined(suite.scorers, given)})
    return suite if suite.seeds else suite.model_copy(update={"notes": suite_seeds.notes(suite.prompts)})
