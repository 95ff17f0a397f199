"""YAML files of `collect` and `train`, read as strictly as suites: every mistake is one line with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench import suite_yaml
from bench.errors import UserError, nearest

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
    try:
        found = kind.model_validate(document.data)
    except ValidationError as error:
        faults = list(_faults(error, kind))
    document.refuse(faults)
    assert found is not None
    return found


def _faults(error: ValidationError, kind: type[BaseModel]) -> Iterable[suite_yaml.Fault]:
    for one in error.errors():
        path: tuple[Any, ...] = one["loc"]
        subject = ".".join(map(str, path)) or "the file"
        yield path, suite_yaml.phrase(one, subject=repr(subject), known=kind.model_fields, noun="key")
