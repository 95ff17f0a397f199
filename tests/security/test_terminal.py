"""What a command prints is text alone, whoever wrote the text: no terminal acts on it."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Bench
from handmade import make
from suite_texts import TWO_ARMS, suite_text, write_suite

from bench import plugins, registry
from bench.cli.terminal import Inert, inert_output, plain, visible

CLEAR = "\x1b[2J\x1b]0;owned\x07"
"""Clears the screen and names the window."""
HOSTILE = f"{CLEAR}\x9b31m\u202egnp.exe\x08\x00"
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

PLUGIN = f"""
from bench.methods.base import Method

class LoudMethod(Method):
    about = {HOSTILE!r}
    def __init__(self):
        raise RuntimeError({HOSTILE!r})
    @property
    def version(self): return "1"
"""


@pytest.fixture
def loud(tmp_path: Path) -> Iterator[Path]:
    """A plugin whose description and whose error hold control characters."""
    file = tmp_path / "loud.py"
    file.write_text(PLUGIN)
    yield file
    registry.forget(str(file.resolve()))
    plugins._loaded.clear()
    sys.modules.pop("plugin_loud", None)


def test_what_acts_is_a_space_in_one_line_and_a_code_point_in_several() -> None:
    assert plain("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"
    assert visible("a\x1b[2J\r\n\tb\rc\u202e\ud800") == "a\\u001b[2J\r\n\tb\\u000dc\\u202e\\ud800"
    assert visible("größer 猫 😀\n") == "größer 猫 😀\n"


def test_json_that_is_printed_stays_the_same_json() -> None:
    given = {"title": "a\x1b\x7f\x9b\u202eb"}
    assert json.loads(visible(json.dumps(given, ensure_ascii=False))) == given


def test_a_plugins_description_is_listed_as_text(bench: Bench, loud: Path) -> None:
    for arguments in (("ls", "methods"), ("ls", "methods", "--json")):
        done = bench(*arguments, "--plugin", loud)
        assert done.code == 0, done.err
        assert "loud_method" in done.out
        assert "owned" in done.out, "the description is shown, and not left out"
        assert not ACTING.search(done.out + done.err)


def test_a_plugins_traceback_is_text(bench: Bench, loud: Path, tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "mine.yaml", TWO_ARMS, methods=["standard", "loud_method"])
    done = bench("plan", suite, "--plugin", loud, "--runs", tmp_path)
    assert done.code in (2, 4)
    assert "owned" in done.err
    assert not ACTING.search(done.out + done.err)


def test_a_strangers_run_is_compared_and_reported_as_text(bench: Bench, tmp_path: Path) -> None:
    suite = suite_text(TWO_ARMS, title=HOSTILE)
    for name in ("a", "b"):
        make(tmp_path / name, lambda spot: float(spot.index), suite=suite, texts=lambda *_: HOSTILE)
    for arguments in (
        ("report", tmp_path / "a"),
        ("compare", tmp_path / "a", tmp_path / "b"),
        ("gate", tmp_path / "a"),
    ):
        done = bench(*arguments)
        assert "Traceback" not in done.err
        assert done.out + done.err
        assert not ACTING.search(done.out + done.err)


@pytest.mark.parametrize("command", ["run", "plan", "report", "gate", "export", "serve"])
def test_a_hostile_name_of_a_file_is_text_in_the_error(bench: Bench, tmp_path: Path, command: str) -> None:
    done = bench(command, tmp_path / f"none{CLEAR}.yaml")
    assert done.code == 2
    assert "owned" in done.error
    assert not ACTING.search(done.out + done.err)


def test_an_unexpected_errors_traceback_is_text_and_so_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    import argparse
    import warnings

    from bench.cli.program import guarded

    def broken(_: argparse.Namespace) -> int:
        print(HOSTILE)
        warnings.warn(HOSTILE, stacklevel=1)
        raise RuntimeError(HOSTILE)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        assert guarded(broken, argparse.Namespace()) == 4
    out, err = capsys.readouterr()
    assert err.count("owned") == 2
    assert not ACTING.search(out + err)


def test_the_bars_of_other_libraries_still_move(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm import tqdm

    raw = io.StringIO()
    with inert_output():
        for _ in tqdm(range(3), file=Inert(raw, bars=True), ascii=True, mininterval=0):
            pass
        nested = Inert(raw, bars=True)
        nested.write("\n\x1b[A\x1b[A")
    assert raw.getvalue().count("\r") >= 3
    assert "\\u" not in raw.getvalue()
    assert capsys.readouterr().err == ""
    nested.write("\rbar \x1b[2J\r")
    assert raw.getvalue().endswith("\rbar \\u001b[2J\r")


def test_our_own_bar_is_drawn_on_the_terminal_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.progress import Progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    with inert_output(), Progress("generate", 2) as progress:
        progress.advance(2)
    assert "\x1b[" in terminal.getvalue()
    assert "\\u001b" not in terminal.getvalue()
