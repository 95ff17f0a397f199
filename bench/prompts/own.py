"""Prompt sets of the user's own: a `.jsonl` file that a suite names in the place of a set's name.

One JSON object a line: `prompt`; optional are `category`, `metadata` (what metrics such as GenEval read), and
`control`, the path of a control image or paths by kind. Paths are relative to the file and stay below its folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.errors import UserError, nearest
from bench.prompts.base import ANY_KIND, Prompt, PromptSet
from bench.prompts.control import ControlImage
from bench.prompts.files import folder
from bench.registry import add_plugin, add_resolver

KEYS = ("prompt", "category", "metadata", "control")
EXPECTED = 'expected a line for each prompt, such as {"prompt": "a red car", "control": {"canny": "edges/1.png"}}'


def read(path: Path) -> list[Prompt]:
    """The prompts of a file; UserError with file and line for what is not as described above.

    Images are not opened here: only a method that reads them needs them.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {EXPECTED}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    home = path.resolve().parent
    found: list[Prompt] = []
    # Not splitlines, which would break a line at characters that JSON text may have.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(_prompt(json.loads(line), len(found), home))
        except (ValueError, RecursionError, UserError) as error:
            said = str(error) if isinstance(error, UserError) else f"not JSON ({error}); {EXPECTED}"
            raise UserError(f"{path}:{number}: {said}") from None
    if not found:
        raise UserError(f"{path}: no prompts there; {EXPECTED}")
    return found


def _prompt(row: Any, index: int, home: Path) -> Prompt:
    if not isinstance(row, dict):
        raise UserError(f"expected a JSON object, got {_said(row)}")
    for key in row:
        if key not in KEYS:
            raise UserError(f"unknown key {key!r}{nearest(key, KEYS)}")
    text, category, metadata = row.get("prompt"), row.get("category", ""), row.get("metadata")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"'prompt' should be text that is not empty, got {_said(text)}")
    if not isinstance(category, str):
        raise UserError(f"'category' should be text, got {_said(category)}")
    if not isinstance(metadata, dict | None):
        raise UserError(f"'metadata' should be a JSON object, got {_said(metadata)}")
    return Prompt(index, text.strip(), category.strip(), metadata, _control(row.get("control"), home))


def _control(given: Any, home: Path) -> dict[str, ControlImage] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return {ANY_KIND: _image(given, home)}
    if not isinstance(given, dict) or not given or ANY_KIND in given:
        raise UserError(f"'control' should be a path, or paths by kind such as canny, got {_said(given)}")
    return {kind: _image(place, home) for kind, place in given.items()}


def _image(given: Any, home: Path) -> ControlImage:
    if not isinstance(given, str) or not given or "\0" in given:
        raise UserError(f"'control' should name a file, got {_said(given)}")
    try:
        place = (home / given).resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"'control' {given!r}: not a usable path ({error})") from error
    # A set may come from anywhere, and must not make a run read what lies elsewhere, not by a link either.
    if Path(given).is_absolute() or not place.is_relative_to(home):
        raise UserError(f"'control' {given!r} leads out of the folder of the prompt set; put the image below it")
    return ControlImage(place)


def _said(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def is_file(name: str) -> bool:
    """Whether a suite names a file rather than a known set."""
    return name.endswith(".jsonl")


def set_of(name: str) -> PromptSet:
    """The set of a file, named as the suite does; relative paths are looked for where the program was started."""
    path = Path(name).expanduser()
    return PromptSet(name, len(read(path)), lambda: read(path), name, about="a file of prompts")


def _controlled() -> list[Prompt]:
    path = folder() / "controlnet" / "prompts.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: missing, and there is no public file of it; make one: {EXPECTED}")
    return read(path)


add_resolver("prompts", is_file, set_of)
add_plugin(
    "prompts",
    "controlnet",
    PromptSet(
        "controlnet",
        0,
        _controlled,
        "controlnet/prompts.jsonl in BENCH_DATA",
        about="as many prompts with control images as the file of your own has (the paper's are not published)",
    ),
    "bench",
)
