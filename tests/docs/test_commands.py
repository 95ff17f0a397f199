"""Every command that a page shows is one that the program takes: its name, its options and what they need."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import call_main

import bench.cli
import npnet.cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAM = r"[\w./]*python3? -m (?:bench|npnet) "
MENTIONED = re.compile(rf"`({PROGRAM}[^`\n\\]+)`")
GIVEN = re.compile(rf"^\s*({PROGRAM}.+)$", re.MULTILINE)
PLACES = {"N": "1", "S": "1", "KIND": "metrics", "$I/$N": "1/2", "METRIC:LOW:HIGH": "M:0:1", "...": None}
"""What stands in a placeholder's place; other names in capitals are as good as a path."""


def words(command: str) -> list[str]:
    """The words of a command as a page has it: optional ones are there, of several the first is."""
    found = []
    for word in shlex.split(command, comments=True):
        word = word[1:] if word.startswith("[") else word
        word = word[:-1] if word.endswith("]") and word.count("]") > word.count("[") else word
        word = word.partition("|")[0]
        found.append(PLACES.get(word, word))
    return [word for word in found if word is not None]


def shown() -> Iterator[tuple[str, bool]]:
    """Commands of all pages, and whether one is only mentioned, so that it may lack what it needs."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ").replace(r"\|", "|")
        blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        yield from ((found, False) for block in blocks for found in GIVEN.findall(block))
        yield from ((found, True) for found in MENTIONED.findall(text))


COMMANDS = sorted({one for one in shown() if "COMMAND" not in one[0]})


@pytest.mark.parametrize(("command", "mentioned"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_the_program_takes_it(command: str, mentioned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in (bench.cli, npnet.cli):
        monkeypatch.setattr(program, "guarded", lambda *_: 0)
    _, _, name, *arguments = words(command)
    done = call_main({"bench": bench.cli, "npnet": npnet.cli}[name].main, *arguments)
    assert done.code == 0 or (mentioned and "required" in done.err), done.err


def test_many_are_shown() -> None:
    assert len(COMMANDS) > 80
