"""Prompt sets of the user's own: `file:PATH` or `file:PATH:COLUMN` in the place of a set's name, or a bare `.jsonl`.

A column `prompt`, or the one that is named; where there, also `category`, `seed`, `metadata` (GenEval's) and
`control`, the path of a control image or paths by kind, or `control_KIND`. Paths are relative to the file and stay
below its folder. GenEval's own lines are read as they are.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import UserError, nearest
from bench.needs.base import Source, tilde
from bench.prompts.base import ANY_KIND, Prompt, PromptSet
from bench.prompts.clauses import GENEVAL, check_clauses
from bench.prompts.control import ControlImage
from bench.prompts.files import folder
from bench.prompts.rows import EXPECTED, PROMPT, READERS, Row, rows, said
from bench.registry import add_plugin

KEYS = (PROMPT, "category", "metadata", "control", "seed")
MAX_LETTERS = 20_000
"""Of a prompt: far more than any text encoder reads, and less than what fills a report."""
LAST_SEED = 2**31 - 1
SLIP = 0.77
"""How similar a column's name must be to a known one that is not there to be taken for it misspelt."""
_ENDINGS = "|".join(re.escape(ending) for ending in READERS)
_NAMED = re.compile(rf"file:(?P<path>.+?(?:{_ENDINGS}))(?::(?P<column>.+))?", re.IGNORECASE | re.DOTALL)


def read(path: Path, column: str = "") -> list[Prompt]:
    """The prompts of a file, `column` being where they stand; UserError with file and line for what is not as above.

    Images are not opened here: only a method that reads them needs them.
    """
    home = path.resolve().parent
    found: list[Prompt] = []
    seen: dict[Any, str] = {}
    repeated: list[tuple[str, str]] = []
    for row in rows(path):
        try:
            prompt = prompt_of(row, column or PROMPT, len(found), home)
        except UserError as error:
            raise UserError(f"{row.place}: {error}") from None
        key = _identity(prompt)
        if key in seen:
            repeated.append((row.place, seen[key]))
        seen.setdefault(key, row.place)
        found.append(prompt)
    if repeated:
        # Twice the same image is no second observation, and would make intervals narrower than they are.
        place, first = repeated[0]
        more = f", and {len(repeated) - 1} more repeat others" if len(repeated) > 1 else ""
        where = first.removeprefix(str(path)).lstrip(": ").removeprefix("row ")
        kind = "row" if ": row " in first else "line"
        raise UserError(
            f"{place}: the same prompt as {kind} {where}{more}; leave a prompt there once. Several images of a prompt "
            "are seeds: `seeds` or `images_per_prompt` in a suite; for `score`, --images-per-prompt N where they stand "
            "in a row, or a table with the columns path, prompt and seed"
        )
    if not found:
        raise UserError(f"{path}: no prompts there; {EXPECTED}")
    return found


def _identity(prompt: Prompt) -> Any:
    control = sorted((kind, str(image.path)) for kind, image in (prompt.control or {}).items())
    return prompt.text, json.dumps(prompt.metadata, sort_keys=True), tuple(control), prompt.seeds


def prompt_of(row: Row, column: str, index: int, home: Path) -> Prompt:
    """One row as a prompt; UserError without its place for what it is not. Control images lie below `home`."""
    cells = cased(row.cells)
    row = replace(row, cells=cells)
    if column not in cells and column != PROMPT:
        raise UserError(f"no column {column!r}{nearest(column, cells)}")
    _check_columns(cells, {*KEYS} - {PROMPT} | {column})
    if column not in cells and not row.typed:
        raise UserError(
            f"no column {PROMPT!r} (columns: {', '.join(cells)}); name the one with the prompts behind the file, "
            "such as file:PATH:caption"
        )
    text, category = cells.get(column), cells.get("category", "")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{column!r} should be text that is not empty, got {said(text)}")
    _check_text(text.strip(), column)
    metadata = _decoded(row, "metadata")
    if metadata is None and isinstance(cells.get("include"), list) and isinstance(cells.get("tag"), str):
        metadata = {key: cells[key] for key in GENEVAL if key in cells}
        category = category or cells["tag"]
    if not isinstance(category, str | None):
        raise UserError(f"'category' should be text, got {said(category)}")
    if not isinstance(metadata, dict | None):
        raise UserError(f"'metadata' should be a JSON object, got {said(metadata)}")
    check_clauses(metadata)
    control = _control(_decoded(row, "control"), home)
    by_kind = {key.removeprefix("control_"): value for key, value in cells.items() if key.startswith("control_")}
    by_kind = {kind: value for kind, value in by_kind.items() if value is not None}
    if by_kind:
        control = {**(control or {}), **(_control(by_kind, home) or {})}
    category = (category or "").strip()
    _check_text(category, "category")
    return Prompt(index, text.strip(), category, metadata, control, seeds=_seeds(_decoded(row, "seed")))


def cased(cells: Mapping[str, Any], known: Sequence[str] = KEYS) -> dict[str, Any]:
    """Known columns in small letters, however a table writes them."""
    named = {key: key.casefold() for key in cells if key.casefold() in known and key.casefold() not in cells}
    return {named.get(key, key): value for key, value in cells.items()}


def _check_columns(cells: Iterable[str], known: set[str]) -> None:
    """Other columns are let be, but for what looks like a known name misspelt."""
    absent = known.difference(cells)
    for key in cells:
        if key not in known and difflib.get_close_matches(key.casefold(), absent, n=1, cutoff=SLIP):
            raise UserError(f"unknown key {key!r}{nearest(key.casefold(), absent)}")


def _check_text(text: str, name: str) -> None:
    if len(text) > MAX_LETTERS:
        raise UserError(f"{name!r} has {len(text):,} characters; expected at most {MAX_LETTERS:,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name!r} has half of a surrogate pair, which is no character") from None
    if "\0" in text:
        raise UserError(f"{name!r} has a NUL character in it")


def _decoded(row: Row, key: str) -> Any:
    """A cell; where it is text that writes an object, a list or a number down, what is written."""
    value = row.cells.get(key)
    if not isinstance(value, str) or (row.typed and key != "metadata"):
        return value
    if key == "control" and not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _seeds(given: Any) -> tuple[int, ...]:
    listed = given if isinstance(given, list) else [given] if given is not None else []
    for one in listed:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= LAST_SEED:
            raise UserError(
                f"'seed' should be a whole number from 0 to {LAST_SEED}, or a list of them, got {said(given)}"
            )
    if len({*listed}) != len(listed):
        raise UserError(f"'seed' has one number twice: {said(given)}")
    return tuple(listed)


def _control(given: Any, home: Path) -> dict[str, ControlImage] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return {ANY_KIND: _image(given, home)}
    if not isinstance(given, Mapping) or not given or ANY_KIND in given:
        raise UserError(f"'control' should be a path, or paths by kind such as canny, got {said(given)}")
    return {kind: _image(place, home) for kind, place in given.items()}


def _image(given: Any, home: Path) -> ControlImage:
    if not isinstance(given, str) or not given or "\0" in given:
        raise UserError(f"'control' should name a file, got {said(given)}")
    try:
        place = (home / given).resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"'control' {given!r}: not a usable path ({error})") from error
    # A set may come from anywhere, and must not make a run read what lies elsewhere, not by a link either.
    if Path(given).is_absolute() or not place.is_relative_to(home):
        raise UserError(f"'control' {given!r} leads out of the folder of the prompt set; put the image below it")
    return ControlImage(place)


def place_of(name: str) -> tuple[Path, str]:
    """Path and column of a name; relative paths are looked for where the program was started."""
    if not name.startswith("file:"):
        return Path(name).expanduser(), ""
    found = _NAMED.fullmatch(name)
    if found is None:
        raise UserError(
            f"{name!r}: expected file:PATH or file:PATH:COLUMN, the path ending in one of {', '.join(READERS)}"
        )
    return Path(found["path"]).expanduser(), found["column"] or ""


def set_of(name: str) -> PromptSet:
    """The set of a file, named as a suite does."""
    path, column = place_of(name)
    prompts = read(path, column)
    own = {p.index: p.seeds for p in prompts if p.seeds}
    return PromptSet(name, len(prompts), lambda: read(path, column), name, about="a file of prompts", seeds=own)


@dataclass(frozen=True)
class Own(Source):
    """A file below `BENCH_DATA` that only the user can make."""

    file: str

    @property
    def where(self) -> str:
        return tilde(self.path)

    @property
    def path(self) -> Path:
        return folder() / self.file

    @property
    def command(self) -> str:
        return f"{tilde(self.path)}: missing, and there is no public file of it; make one: {EXPECTED}"

    def here(self) -> bool:
        return self.path.is_file()


_CONTROLLED = Own("controlnet/prompts.jsonl")


def _controlled() -> list[Prompt]:
    if not _CONTROLLED.here():
        raise UserError(_CONTROLLED.command)
    return read(_CONTROLLED.path)


add_plugin(
    "prompts",
    "controlnet",
    PromptSet(
        "controlnet",
        0,
        _controlled,
        "controlnet/prompts.jsonl in BENCH_DATA",
        about="as many prompts with control images as the file of your own has (the paper's are not published)",
        files=(_CONTROLLED,),
    ),
    "bench",
)
