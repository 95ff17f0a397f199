"""Prompts of data sets on a hub on loopback, read by `datasets` itself in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hub as hubs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.catalogue import listing
from bench.errors import UserError
from bench.prompts import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import sys
from bench.errors import UserError
from bench.prompts import hub
for name in sys.argv[1:]:
    try:
        print([p.text for p in hub.set_of(name).read()])
    except UserError as error:
        print(error)
print("datasets" in sys.modules, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def hub_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hubs.Hub]:
    home = tmp_path_factory.mktemp("hub")
    data = home / "someone" / "votes" / "data"
    data.mkdir(parents=True)
    # As Pick-a-Pic has them: a row a vote, so captions repeat, and some are empty; pictures beside them.
    splits = {"train": ["a dog", "a dog ", None, " ", "two cats"], "test": ["a bird"]}
    for split, captions in splits.items():
        columns = {"caption": captions, "n": range(len(captions)), "jpg_0": [b"no picture"] * len(captions)}
        pq.write_table(pa.table(columns), data / f"{split}-00000-of-00001.parquet")
    code = home / "someone" / "code"
    code.mkdir()
    (code / "code.py").write_text("raise SystemExit('this must never run')")
    with hubs.serving(home) as serving:
        yield serving


def read_in_a_process(serving: hubs.Hub, folder: Path, *names: str, **more: str) -> list[str]:
    """What a fresh process says of each name, and at last which modules it has."""
    surroundings = {**os.environ, **serving.environment(folder / "cache"), "BENCH_DATA": str(folder), **more}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], capture_output=True, text=True, env=surroundings, check=True
    )
    return done.stdout.splitlines()


def test_a_column_is_read_once_and_then_without_the_hub(hub_here: hubs.Hub, tmp_path: Path) -> None:
    name = f"hf:someone/votes@{COMMIT}:train:caption"
    assert read_in_a_process(hub_here, tmp_path, name) == ["['a dog', 'two cats']", "True False"]
    hub_here.asked.clear()
    again = read_in_a_process(hub_here, tmp_path, name, f"hf:someone/votes@{COMMIT}:test:caption", HF_HUB_OFFLINE="1")
    assert again[0] == "['a dog', 'two cats']"
    assert "not here yet, and HF_HUB_OFFLINE forbids" in again[1]
    assert not hub_here.asked
    (kept,) = tmp_path.glob("hf/**/*.json")
    kept.write_text(kept.read_text().replace("a dog", "a cat"))
    (broken, modules) = read_in_a_process(hub_here, tmp_path, name)
    assert broken == f"{kept}: broken; remove it, and it is fetched again"
    assert modules == "False False"


def test_what_is_not_there_is_said_in_one_line(hub_here: hubs.Hub, tmp_path: Path) -> None:
    wrong = {
        f"hf:someone/votes@{COMMIT}:trian:caption": "no split 'trian'; did you mean 'train'?",
        f"hf:someone/votes@{COMMIT}:test:captions": "no column 'captions'; did you mean 'caption'?",
        f"hf:someone/votes@{COMMIT}:test:n": "row 1: 'n' should be text, got int",
        f"hf:someone/nothing@{COMMIT}:test:n": "not found at that commit, or gated: see https://huggingface.co/datasets/",
        f"hf:someone/votes@{'a' * 40}:test:caption": "not found at that commit",
        f"hf:someone/code@{COMMIT}:train:caption": "cannot be read (",
    }
    said = read_in_a_process(hub_here, tmp_path, *wrong)
    assert len(said) == len(wrong) + 1
    for line, (name, expected) in zip(said, wrong.items(), strict=False):
        assert line.startswith(f"{name}: ")
        assert expected in line
    assert not list(tmp_path.glob("hf/**/*.json"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:a/b:train:caption", "the commit is missing; expected hf:OWNER/NAME@COMMIT:SPLIT:COLUMN"),
        ("hf:a/b@main:train:caption", "'main' is no commit"),
        (f"hf:a/b@{COMMIT}:train", "expected hf:OWNER/NAME@COMMIT:SPLIT:COLUMN"),
        (f"hf:b@{COMMIT}:train:caption", "expected hf:OWNER/NAME@COMMIT:SPLIT:COLUMN"),
        (f"hf:../b@{COMMIT}:train:caption", "expected hf:OWNER/NAME@COMMIT:SPLIT:COLUMN"),
        (f"hf:a/b@{COMMIT}:train[:10]:caption", "expected hf:OWNER/NAME@COMMIT:SPLIT:COLUMN"),
    ],
)
def test_a_reference_names_a_commit_a_split_and_a_column(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        hub.parse(name)
    assert str(caught.value).startswith(f"{name!r}: {said}")


def test_a_reference_is_named_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    for name in (f"hf:a/b@{COMMIT}:train:caption", f"hf:a/b@{COMMIT}:en/train:the / caption"):
        of = hub.parse(name)
        assert of.name == name
        assert of.kept.parent == tmp_path / "hf" / "a" / "b" / COMMIT
        assert hub.set_of(name).size == 0


def test_doctor_fetches_nothing(hub_here: hubs.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    hub_here.asked.clear()
    with hub_here.used(tmp_path / "cache"):
        said = [*listing.doctor()]
    (line,) = (line for line in said if "pick-a-pic-train" in line)
    assert re.match(r"missing  \d+ prompt sets: dpg, ", line)
    assert line.endswith("`python -m bench fetch suites/sdxl_main.yaml` gets what that suite needs")
    assert not (tmp_path / "cache").exists()
    assert not hub_here.asked
