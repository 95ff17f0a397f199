"""YAML files of `collect` and `train`, read as strictly as suites: every mistake is one line with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from bench.errors import UserError, nearest
from bench.suite import document as suite_yaml

T = TypeVar("T", bound=BaseModel)


def load(path: Path, kind: type[T], *, overrides: Sequence[str] = ()) -> T:
    """A file's settings as a `kind`, after `key=value` overrides; UserError with file:line for what is wrong."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: no such file{nearest(path.name, beside)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return parse(text, kind, file=str(path), overrides=overrides)


def parse(text: str, kind: type[T], *, file: str, overrides: Sequence[str] = ()) -> T:
    """As `load`, from a text whose name in errors is `file`."""
    document = suite_yaml.read(text, file=file)
    for setting in overrides:
        document.override(setting)
    found: T | None = None
    faults: list[suite_yaml.Fault] = []
    fields = kind.model_fields
    # `selection:` with nothing after it is a slip, also where the field may hold None.
    written = {
        key: value
        for key, value in document.data.items()
        if value is not None or key not in fields or not fields[key].is_required()
    }
    try:
        found = kind.model_validate(written)
    except ValidationError as error:
        faults = list(_faults(error, kind))
    document.refuse(faults)
    assert found is not None
    return found


def _faults(error: ValidationError, kind: type[BaseModel]) -> Iterable[suite_yaml.Fault]:
    for one in error.errors():
        path: tuple[Any, ...] = one["loc"]
        subject = ".".join(map(str, path)) or "the file"
        yield path, suite_yaml.phrase(one, subject=repr(subject), known=_keys_beside(path, kind), noun="key")


def _keys_beside(path: Sequence[Any], kind: type[BaseModel]) -> Iterable[str]:
    """The keys that may stand where `path` ends, as far as they are a model's; those of the whole file otherwise."""
    within = kind
    for part in path[:-1]:
        field = within.model_fields.get(part) if isinstance(part, str) else None
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        within = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), kind)
    return within.model_fields
