"""What any message of the programs advises exists: the command, its options, and the package that pip is to install.

`test_advice.py` has the tests that do what messages advise.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import call_main

import bench.cli
import npnet.cli

ROOT = Path(__file__).parents[2]
VALUE = "VALUE"
"""What stands for a value that a message fills in."""
COMMAND = re.compile(r"`((?:python -m )?(?:bench|npnet) [a-z][^`]*)`|(python -m (?:bench|npnet) [^;,(){}`'\"\n]+)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
PIP = re.compile(r"pip install ((?:'?[\w.-]+(?:\[[\w,]+\])?'?(?: |$))+)")
SOME = re.compile(r"--[a-z]|python -m|`bench |`npnet |pip install")
ELSEWHERE = {"--fresh", "--sets", "--seed", "--system-site-packages", "--version"}
"""Options of bench.shapes' own commands, and of other programs."""


@cache
def messages() -> list[tuple[str, str]]:
    """(place, text) of every string of the programs that is neither a docstring nor part of a larger one."""
    found = []
    for package in ("bench", "npnet"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if SOME.search(text := file.read_text(encoding="utf-8")):
                said = strings(ast.parse(text))
                found += [(f"{file.relative_to(ROOT)}:{line}", one) for line, one in said if SOME.search(one)]
    return found


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """A tree's strings with their lines."""
    if isinstance(node, ast.JoinedStr):
        yield node.lineno, "".join(filled(part) for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    elif not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def filled(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else VALUE


@cache
def helped(program: str, *words: str) -> str:
    main = {"bench": bench.cli, "npnet": npnet.cli}[program].main
    done = call_main(main, *words, "--help")
    assert done.code == 0, done.err
    return done.out


@cache
def commands(program: str) -> dict[str, set[str]]:
    """The options of each command of a program, with those of its parts, and under "" those of the program."""
    names = re.findall(r"^    ([a-z][\w-]+)(?:\s|$)", helped(program), re.MULTILINE)
    found = {"": set(OPTION.findall(helped(program)))}
    for name in names:
        text = helped(program, name)
        parts = re.search(r"\{([a-z,]+)\} \.\.\.", text)
        text += "".join(helped(program, name, part) for part in (parts[1].split(",") if parts else ()))
        found[name] = set(OPTION.findall(text))
    return found


def test_every_command_that_a_message_advises_is_taken_with_its_options() -> None:
    seen, wrong = 0, {}
    for place, text in messages():
        for quoted, bare in COMMAND.findall(text):
            program, _, rest = (quoted or bare).removeprefix("python -m ").partition(" ")
            name, *words = rest.split()
            if name in (VALUE, "ls") and VALUE in rest:
                continue
            seen += 1
            options = commands(program).get(name.rstrip(".:"))
            if options is None or not set(OPTION.findall(" ".join(words))) <= options:
                wrong[place] = quoted or bare
    assert seen > 40
    assert wrong == {}


def test_every_option_that_a_message_names_is_one_of_the_programs() -> None:
    known = {option for program in ("bench", "npnet") for options in commands(program).values() for option in options}
    named = {(option, place) for place, text in messages() if " " in text for option in OPTION.findall(text)}
    assert len(named) > 60
    assert sorted((o, place) for o, place in named if o not in known | ELSEWHERE) == []


def test_what_pip_is_to_install_is_an_extra_or_a_dependency_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    every = [*project["dependencies"], *(one for of in extras.values() for one in of)]
    dependencies = {re.split(r"[\s<>=!~;\[]", one)[0].lower() for one in every}
    found = [(place, word.strip("'")) for place, text in messages() for words in PIP.findall(text)
             for word in words.split() if VALUE not in word and not word.startswith(("-", "@"))]  # fmt: skip
    assert len(found) > 8
    for place, word in found:
        name, _, extra = word.rstrip("]").partition("[")
        if name == "noisebench":
            assert extra in extras, place
        else:
            assert name.lower() in dependencies, f"{place}: {word}"


@pytest.mark.parametrize("program", ["bench", "npnet"])
def test_help_names_commands_and_options(program: str) -> None:
    assert len(commands(program)) > 5
    assert all(any(option != "--help" for option in options) for name, options in commands(program).items() if name)
