"""Mistakes and mishaps: one line that says what to do, the right exit code, and nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import LIMIT, TINY, Bench, Plug, Run, call
from facts import missing
from suite_texts import suite_text

from bench import registry
from bench.models.base import ModelEntry
from bench.runner import generate
from bench.store import SCHEMA, Ledger, exclusive

SUITES = Path(__file__).parent.parent / "suites"


def suite_file(folder: Path, text: str = TINY) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


# The suite and the options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (TINY + "seeds: [4\n", None, "mine.yaml:"),
        (suite_text(methods=["standard", "inverson", "reseed"]), 12, "did you mean 'inversion'?"),
        (suite_text(steps="four"), 6, "steps"),
        (suite_text(methods=["standard", {"use": "best_of_n", "selecton_metric": "x"}]), 12, "'selection_metric'?"),
        (suite_text(samplers=["dimm"]), 5, "did you mean 'ddim'?"),
        ("", None, "mine.yaml"),
    ],
)
def test_a_mistake_in_a_suite_is_one_line_with_its_place(
    bench: Bench, tmp_path: Path, text: str, line: int | None, said: str
) -> None:
    runs = tmp_path / "runs"
    for command in ("run", "plan"):
        done = bench(command, suite_file(tmp_path, text), "--runs", runs)
        assert done.code == 2
        assert said in done.error
        if line:
            assert f"mine.yaml:{line}: " in done.error
    assert not runs.exists()


def test_an_unknown_suite_file_names_the_nearest_one(bench: Bench) -> None:
    done = bench("plan", SUITES / "shapes_quik.yaml")
    assert done.code == 2
    assert "no such file; did you mean 'shapes_quick.yaml'?" in done.error


@pytest.mark.parametrize("option", [("--limit", "-1"), ("--limit", "0"), ("--batch-size", "two"), ("--threads", "0")])
def test_a_number_that_cannot_be_is_refused(bench: Bench, tmp_path: Path, option: tuple[str, str]) -> None:
    done = bench("run", suite_file(tmp_path), *option, "--runs", tmp_path / "runs")
    assert done.code == 2
    assert f"argument {option[0]}: expected a whole number from 1, got '{option[1]}'" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_device_is_refused(bench: Bench, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    done = bench("run", suite_file(tmp_path), "--device", "cuda", "--runs", tmp_path)
    assert done.code == 2
    assert "--device cuda: torch sees no CUDA device here; use --device cpu" in done.error


def test_a_device_that_torch_does_not_know_is_refused(bench: Bench, tmp_path: Path) -> None:
    done = bench("run", suite_file(tmp_path), "--device", "gpu", "--runs", tmp_path)
    assert done.code == 2
    assert "--device gpu" in done.error


def test_a_metric_without_a_scorer_is_refused_before_anything_is_made(bench: Bench, tmp_path: Path, plug: Plug) -> None:
    entry = registry.get("metrics", "shapes-clipscore")
    plug("metrics", **{"shapes-clipscore": replace(entry, load=None)})
    done = bench("run", suite_file(tmp_path), "--runs", tmp_path / "runs")
    assert done.code == 2
    assert missing(done.error, "metric 'shapes-clipscore'", "its scorer is not built yet") == []
    assert not (tmp_path / "runs").exists()


def test_the_papers_suite_without_its_data_or_scorers_is_refused_before_anything_is_made(
    bench: Bench, tmp_path: Path
) -> None:
    done = bench("run", SUITES / "sdxl_main.yaml", "--runs", tmp_path / "runs")
    assert done.code == 2
    assert "not on this machine is what prompts pick-a-pic, " in done.error
    assert "python -m bench fetch" in done.error
    assert "--twin runs the suite on the embedded world" in done.error
    assert not (tmp_path / "runs").exists()


# Weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path, plug: Plug) -> Path:
    """A copy of the embedded model that may be broken, in the suites' place of it."""
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    folder = tmp_path / "weights" / "shapes-sdxl"
    shutil.copytree(entry.source, folder)
    plug("models", **{"shapes-sdxl": replace(entry, source=str(folder))})
    return folder


def lost(folder: Path) -> str:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    return "diffusion_pytorch_model.safetensors: missing; shapes-sdxl's card lists it"


def corrupt(folder: Path) -> str:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "unet/diffusion_pytorch_model.safetensors: corrupt (sha256 "


def cut_short_without_a_card(folder: Path) -> str:
    (folder / "card.json").unlink()
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    return f"model 'shapes-sdxl' does not load from {folder}: "


def card_cut_short(folder: Path) -> str:
    path = folder / "card.json"
    path.write_text(path.read_text()[:100])
    return "card.json"


def gone(folder: Path) -> str:
    shutil.rmtree(folder)
    return "no model_index.json there"


@pytest.mark.parametrize("harm", [lost, corrupt, cut_short_without_a_card, card_cut_short, gone])
def test_weights_that_are_not_whole_are_named(
    bench: Bench, tmp_path: Path, weights: Path, harm: Callable[[Path], str]
) -> None:
    said = harm(weights)
    done = bench("run", suite_file(tmp_path), "--limit", 1, "--runs", tmp_path / "runs", "--no-cache")
    assert done.code == 2, done.err
    assert said in done.error
    assert not list(tmp_path.glob("runs/*/images/*"))


# The run folder ---------------------------------------------------------------------------------------------------


def test_a_run_of_a_newer_program_is_refused_and_kept(bench: Bench, finished: Run, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path)
    ledger = Ledger(copy.folder)
    ledger.set("schema", SCHEMA + 1)
    ledger.close()
    before = {p.name: p.stat().st_mtime_ns for p in (copy.folder / "images").iterdir()}
    for arguments in (copy.arguments(), ["report", copy.folder], ["gate", copy.folder], ["export", copy.folder]):
        done = bench(*arguments)
        assert done.code == 2
        assert f"written by a newer version (ledger schema {SCHEMA + 1}" in done.error
    assert {p.name: p.stat().st_mtime_ns for p in (copy.folder / "images").iterdir()} == before


def test_a_run_folder_in_use_is_left_to_its_process(bench: Bench, finished: Run, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path)
    with exclusive(copy.folder):
        for arguments in (copy.arguments(), ["report", copy.folder]):
            done = bench(*arguments)
            assert done.code == 2
            assert "in use by process" in done.error
    assert bench(*copy.arguments()).code == 0


@pytest.mark.parametrize("command", ["report", "gate", "export"])
def test_a_folder_without_a_run_is_named(bench: Bench, tmp_path: Path, command: str) -> None:
    done = bench(command, tmp_path / "typo")
    assert done.code == 2
    assert "typo: no run there" in done.error


@pytest.mark.parametrize("command", ["report", "gate"])
def test_a_run_that_was_killed_at_its_very_start_is_named(bench: Bench, tmp_path: Path, command: str) -> None:
    """The ledger was made, and nothing was written to it."""
    Ledger(tmp_path / "early", create=True).close()
    done = bench(command, tmp_path / "early")
    assert done.code == 2, done.err
    assert "early" in done.error


def test_a_file_where_run_folders_should_go_is_named(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    done = bench("run", suite_file(tmp_path), "--runs", tmp_path / "runs")
    assert done.code == 2, done.err
    assert str(tmp_path / "runs") in done.error


# A full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes: really a file system, so that the kernel says when it is full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a file system here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_everything_finished_is_kept(bench: Bench, finished: Run, small_disk: Path) -> None:
    """The run is tried with ever more room; it fails in one stage after the other and resumes where it was."""
    run = Run(finished.suite, small_disk / "runs", small_disk / "cache", small_disk / "runs" / finished.folder.name)
    filler = small_disk / "filler"
    seen, failures = 0, 0
    for room in (0, 24, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 640, 768, 1536, 3072):
        used = sum(p.stat().st_blocks * 512 for p in small_disk.rglob("*") if p.is_file() and p != filler)
        filler.write_bytes(b"\0" * max(0, 4 * 1024**2 - used - room * 1024))
        done = bench(*run.arguments("--no-cache"))
        if done.code == 0:
            break
        failures += 1
        assert done.code == 2, f"with {room} KiB: {done.err}"
        assert "the disk is full" in done.error, f"with {room} KiB"
        here = len(list((run.folder / "images").glob("*.png"))) if (run.folder / "images").is_dir() else 0
        assert here >= seen, "a finished image was lost"
        seen = here
    else:
        pytest.fail("it never finished")
    assert failures >= 3
    assert seen > 0, "no try failed after an image was made"
    assert not [p for p in small_disk.rglob("*") if p.name.endswith(".tmp")]
    query = "SELECT job_id, digest FROM images ORDER BY job_id"
    assert run.rows(query) == finished.rows(query)
    assert run.scores("shapes-clipscore") == pytest.approx(finished.scores("shapes-clipscore"), abs=1e-4)


def test_a_disk_that_fills_up_among_the_images_loses_none(
    bench: Bench, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above where nothing may be mounted: the writer says that the disk is full after some images."""
    run = Run(finished.suite, tmp_path / "runs", tmp_path / "cache", tmp_path / "runs" / finished.folder.name)
    write, written = generate.write_atomically, []

    def full(path: Path, data: bytes) -> None:
        if len(written) >= 5:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_atomically", full)
        done = bench(*run.arguments("--batch-size", 2))
    assert done.code == 2
    assert "the disk is full or failing; free some space and run again" in done.error
    assert len(run.rows("SELECT job_id FROM images")) == 4, "two whole batches; the third was not finished"
    done = bench(*run.arguments("--batch-size", 2))
    assert done.code == 0, done.err
    assert f"{3 * LIMIT - 4}/{3 * LIMIT - 4} images" in done.err
    assert run.scores("shapes-clipscore") == pytest.approx(finished.scores("shapes-clipscore"), abs=1e-3)


# Faults of ours ---------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_shows_its_trace_and_ends_with_4(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: str | None) -> None:
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("bench.catalogue.listing.lines", broken)
    done = call("ls")
    assert done.code == 4
    assert "ZeroDivisionError: deep inside" in done.err
    assert done.err.splitlines()[-1] == "error: internal error; please report it with the lines above"
