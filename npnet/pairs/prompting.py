"""The prompts of a collection: a set named as suites name one, or a text file with one prompt a line. Imports no torch.

Such a file may hold a prompt several times, which then gets as many seeds; a set of the harness may not.
"""

from __future__ import annotations

from pathlib import Path

from bench import registry
from bench.errors import UserError, nearest
from bench.prompts.base import Prompt
from bench.prompts.places import is_place
from bench.suite import document as suite_yaml


def checked(name: str) -> str:
    """The name as it is; a fault of the configuration where nothing can be so named."""
    if is_file(name):
        return name
    if not is_place(name) and name not in registry.names("prompts"):
        known = nearest(name, registry.names("prompts"))
        suite_yaml.fault(f"unknown prompt set {name!r}{known}; a text file is written with its ending, such as my.txt")
    try:
        registry.get("prompts", name)
    except UserError as error:
        suite_yaml.fault(str(error))
    return name


def is_file(name: str) -> bool:
    """Whether it names a text file with a prompt a line."""
    return name not in registry.names("prompts") and not is_place(name) and bool(Path(name).suffix or "/" in name)


def recorded(name: str) -> str:
    """As a collection records it: of a file no more than its name, for the digest says what is in it."""
    if name.startswith("file:"):
        return f"file:{Path(name.removeprefix('file:')).name}"
    return Path(name).name if is_file(name) or name.endswith(".jsonl") else name


def read(name: str) -> list[Prompt]:
    """A set's prompts, or a text file's lines; UserError for a file that is missing or holds none."""
    if not is_file(name):
        found: list[Prompt] = registry.get("prompts", name).read()
        return found
    path = Path(name)
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path}: no such prompt file; expected a text file with one prompt a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    texts = [line for line in lines if line]
    if not texts:
        raise UserError(f"{path}: holds no prompt; expected one a line")
    return [Prompt(i, text) for i, text in enumerate(texts)]
