"""docs/score.md keeps its promises: every command it shows runs, on the embedded world."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import Bench, Run
from foreign_images import Given, draw

DOCS = (Path(__file__).parents[1] / "docs" / "score.md").read_text()
pytestmark = pytest.mark.usefixtures("one_thread")


def shown(marker: str) -> str:
    """The block behind a marker."""
    found = re.search(rf"<!-- example {re.escape(marker)} -->\n```\w*\n(.*?)```", DOCS, re.S)
    assert found, f"docs/score.md has no block behind {marker!r}"
    return found[1]


def arguments(marker: str) -> list[str]:
    words = shlex.split(shown(marker))
    assert words[:3] == ["python", "-m", "bench"]
    return words[3:]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.chdir(tmp_path)
    found = draw(tmp_path)
    (tmp_path / "images").mkdir()
    for folder, name in (("right", "new"), ("wrong", "old")):
        (tmp_path / folder).rename(tmp_path / "images" / name)
    return found


@pytest.mark.usefixtures("whole_report")
def test_two_folders_and_then_a_table(bench: Bench, given: Given) -> None:
    done = bench(*arguments("two folders"))
    assert done.code == 0, done.err
    written = {p.name for p in Path("scored").iterdir()}
    for name in re.findall(r"`([a-z.]+\.\w+)`", DOCS.split("| file |")[1].split("\n\n")[0]):
        assert name in written
    for path in Path("scored").glob("ledger.sqlite*"):
        path.unlink()
    Path("images/table.csv").write_text(shown("table.csv"))
    done = bench(*arguments("table"))
    assert done.code == 0, done.err
    assert Path("scored/scores.csv").read_text().count("\n") == 1 + 4


def test_the_run_that_only_generates(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = arguments("generate only")
    words[1] = str(Path(__file__).parents[1] / words[1])
    monkeypatch.chdir(tmp_path)
    done = bench(*words, "--set", "steps=1", "--method", "standard")
    assert done.code == 0, done.err
    (run,) = Path("runs").iterdir()
    assert bench("score", run).code == 0


def test_the_export_for_geneval(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    words = [str(run.folder) if word == "RUN" else word for word in arguments("geneval")]
    words[-1] = str(tmp_path / "trees")
    assert bench(*words).code == 0
    assert (tmp_path / "trees" / "standard" / "00000" / "metadata.jsonl").is_file()


def test_every_option_that_it_names_is_there(bench: Bench) -> None:
    known = "".join(bench(command, "--help").out for command in ("score", "run", "export", "import"))
    own = DOCS.replace("--outfile", "").replace("--model-path", "")  # of the original code
    for option in set(re.findall(r"--[a-z-]+[a-z]", own)):
        assert option in known, option
