"""Plugins with settings of the user's in a suite: a mapping `{use: NAME, ...}` where a name is expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench import registry
from bench.errors import UserError
from bench.suite import document as suite_yaml
from bench.suite.document import Document, Fault, shown

S = TypeVar("S", bound=BaseModel)


def taken(
    document: Document, kind: str, settings: type[S], *, check: Callable[[str, S], Any]
) -> tuple[dict[str, S], list[Fault]]:
    """Settings by name, each mapping under `kind` giving way to its name; and what is wrong with them.

    `check(name, settings)` raises UserError where the plugin cannot have them.
    """
    noun = kind.rstrip("s")
    written: Any = document.data.get(kind)
    listed: list[Any] = written if isinstance(written, list) else []
    found: dict[str, S] = {}
    wrong: list[Fault] = []
    for at, entry in enumerate(listed):
        if not isinstance(entry, dict):
            continue
        name = entry.get("use")
        if not isinstance(name, str):
            wrong.append(((kind, at), f"a {noun} should be a name, or a mapping with 'use', got {shown(entry)}"))
            listed[at] = shown(entry)
            continue
        listed[at] = name
        try:
            one = settings.model_validate({key: value for key, value in entry.items() if key != "use"})
            check(name, one)
            found[name] = one
        except ValidationError as error:
            for each in error.errors():
                key = ".".join(map(str, each["loc"]))
                known = [*settings.model_fields, "use"]
                said = suite_yaml.phrase(each, subject=f"{key!r} of {noun} {name!r}", known=known)
                wrong.append(((kind, at, *each["loc"]), said))
        except UserError as error:
            if _known(kind, name):  # an unknown one is reported by whoever reads the names
                wrong.append(((kind, at), str(error)))
    return found, wrong


def _known(kind: str, name: str) -> bool:
    try:
        registry.get(kind, name)
    except UserError:
        return False
    return True
