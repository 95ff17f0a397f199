"""results.json -> Results, of whatever version wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import UserError
from bench.records.consistency import faults
from bench.records.document import Results
from bench.records.upgrades import SCHEMA, upgraded

_AGAIN = "`bench report RUN` writes it again from its run folder"


def read(path: Path) -> Results:
    """The results in a file, or in a run or report folder.

    UserError for a file that is not there, is no results, was edited by hand, or is of a newer version.
    """
    file = path / "results.json" if path.is_dir() else path
    return parse(content_of(file), str(file))


def parse(content: bytes, name: str) -> Results:
    """The results in a file's content; errors call the file by `name`."""
    given = json_of(content, name)
    version = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1 or "suite" not in given:
        raise UserError(f"{name}: no results (no `schema` of results.json in it); {_AGAIN}")
    if version > SCHEMA:
        raise UserError(
            f"{name}: written by a newer version (results schema {version}, this one reads up to {SCHEMA}); upgrade"
        )
    try:
        # As JSON, a string is no number and 1 no truth value; half of a surrogate pair, which is no text, becomes `?`.
        text = json.dumps(upgraded(given), ensure_ascii=False).encode("utf-8", "replace")
        found = Results.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise UserError(f"{name}: damaged or edited by hand ({first_fault(error, 'the whole')}); {_AGAIN}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        lacks = f"lacks {error}" if isinstance(error, KeyError) else "another form than any version has"
        raise UserError(f"{name}: damaged or edited by hand ({lacks}); {_AGAIN}") from error
    for fault in faults(found):
        raise UserError(f"{name}: damaged or edited by hand ({fault}); {_AGAIN}")
    return found


def first_fault(error: ValidationError, whole: str) -> str:
    """What is not as it should be, and where: of the first of its errors."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg'].lower()}"


def content_of(file: Path) -> bytes:
    """A file's content; UserError where there is none."""
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; expected results.json of a run folder; {_AGAIN}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def json_of(content: bytes, name: str) -> Any:
    """What JSON says; UserError, which calls the file by `name`, where it is none."""
    if not content.strip():
        raise UserError(f"{name}: empty; {_AGAIN}")
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(f"{name}:{error.lineno}: not JSON ({error.msg.lower()}); {_AGAIN}") from error
    except (ValueError, RecursionError) as error:  # no text, a number of 5,000 digits, nested without end
        raise UserError(f"{name}: not JSON; {_AGAIN}") from error
