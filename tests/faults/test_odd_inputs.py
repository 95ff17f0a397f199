"""Names, texts and disks that are not planned for: one line each, and what the line says is so."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from conftest import Bench, Run
from suite_texts import BEST_OF_2, suite_text

from bench import gate
from bench.errors import UserError
from bench.store import Ledger
from bench.store import cache as cache_module
from bench.store.images import read_png


def suite_of(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "odd.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return file


def labelled(label: str, **changes: str) -> str:
    return suite_text(methods=["standard", BEST_OF_2 | {"name": label}, "reseed"], **changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (suite_text(name="a" * 300), "at most 200 characters"),
        (labelled("b" * 300), "a label has at most 200 characters"),
        (labelled("b\ud800"), "half of a surrogate pair"),
        (suite_text(prompts=["c" * 300]), "unknown prompt"),
        (suite_text(title=None) + "title: Four\ud800arms\n", "not UTF-8 text"),
        (suite_text(title="\ud800"), "half of a surrogate pair"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_name_without_end_or_a_text_that_is_none_is_one_line(
    bench: Bench, tmp_path: Path, command: str, text: str, said: str
) -> None:
    done = bench(command, suite_of(tmp_path, text), "--runs", tmp_path / "runs")
    assert done.code == 2
    assert said in done.error
    assert not (tmp_path / "runs").exists()


def test_the_longest_names_make_a_run(bench: Bench, tmp_path: Path) -> None:
    """What is allowed must also work: folders, pages and figures are named after it."""
    text = labelled("b" * 200, name="a" * 200)
    done = bench("run", suite_of(tmp_path, text), "--limit", 1, "--runs", tmp_path / "runs", "--no-cache",
                 "--device", "cpu", "--metric", "shapes-clipscore")  # fmt: skip
    assert done.code == 0, done.err
    (folder,) = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    for command in (("report", folder, "--format", "figures"), ("export", folder), ("verify", folder)):
        done = bench(*command)
        assert done.code == 0, done.err


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_half_a_surrogate_pair_in_a_prompt_is_named_with_its_row(bench: Bench, tmp_path: Path, suffix: str) -> None:
    texts = {
        "csv": "prompt\na cat\na \ud800 dog\n", "jsonl": '{"prompt": "a cat"}\n{"prompt": "a \\ud800 dog"}\n',
        "txt": "a cat\na \ud800 dog\n",
    }  # fmt: skip
    file = tmp_path / f"mine.{suffix}"
    file.write_bytes(texts[suffix].encode("utf-8", "surrogatepass"))
    done = bench("plan", suite_of(tmp_path, suite_text(prompts=[str(file)])))
    assert done.code == 2
    assert str(file) in done.error
    assert "surrogate" in done.error or "not UTF-8" in done.error


def test_a_png_with_a_broken_header_is_one_line(finished: Run, tmp_path: Path) -> None:
    """Whatever Pillow raises for it: every byte of the first chunk is tried."""
    png = next((finished.folder / "images").glob("*.png")).read_bytes()
    for at in range(40):
        for value in (0, 0x7F, 0xFF):
            data = bytearray(png)
            data[at] = value
            file = tmp_path / "x.png"
            file.write_bytes(data)
            try:
                read_png(file, advice="make it again")
            except UserError as error:
                line = str(error)
                assert line.startswith(f"{file}: not a whole PNG ("), line
                assert "\n" not in line


def test_a_clock_that_was_set_back_changes_nothing(bench: Bench, finished: Run, tmp_path: Path) -> None:
    """Made in 2099, by the clock of then: files are compared once, and the run is finished, read and resumed."""
    run = finished.copy(tmp_path)
    ledger = Ledger(run.folder)
    ledger.db.execute("UPDATE sessions SET started = '2099-01-01T00:00:00+00:00', ended = '2099-01-02T00:00:00+00:00'")
    ledger.db.execute("UPDATE images SET created = '2099-01-01T00:00:00+00:00'")
    ledger.close()
    for path in run.folder.rglob("*"):
        os.utime(path, (4e9, 4e9))
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert "nothing to do" in done.err
    next((run.folder / "images").glob("*.png")).unlink()
    done = bench(*run.arguments("--no-cache"))
    assert done.code == 0, done.err
    assert "generate: 1 images" in done.err
    assert bench("compare", finished.folder, run.folder).code == 0


def test_a_full_disk_of_the_cache_is_called_the_caches(
    bench: Bench, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own disk has room: its folder is not named. As the line says, --no-cache is another way on."""
    run = Run(finished.suite, tmp_path / "runs", tmp_path / "cache", tmp_path / "runs" / finished.folder.name)

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(cache_module, "clone_or_copy", full)
    done = bench(*run.arguments())
    assert done.code == 2
    assert (
        f"error: {run.cache}: the disk is full or failing; free some space and run again, or give --no-cache"
        in done.error
    )
    assert str(run.runs) not in done.error
    done = bench(*run.arguments("--no-cache"))
    assert done.code == 0, done.err
    assert run.scores("shapes-geneval") == finished.scores("shapes-geneval")


def test_a_flipped_bit_in_a_baseline_is_one_line_or_another_baseline(
    bench: Bench, finished: Run, tmp_path: Path
) -> None:
    """A digit that changes is still a digit; all else is found, and nothing ends in a traceback."""
    file, chance = tmp_path / "b.json", random.Random(7)
    assert bench("baseline", "freeze", finished.folder, "--out", file).code == 0
    data, refused = file.read_bytes(), 0
    for _ in range(200):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(changed)
        try:
            gate.load(file)
        except UserError as error:
            line = str(error)
            assert "\n" not in line
            refused += 1
    assert refused > 50
