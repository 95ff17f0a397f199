"""`python -m npnet`: what it starts with, what it prints, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Done, call_main
from kept_models import kept
from kept_models import kept_models as kept_models

from npnet import NPNetConfig, method
from npnet.cli import main
from npnet.pairs import dataset

pytestmark = pytest.mark.usefixtures("kept_models")

CONFIG = """\
model: shapes-sdxl
prompts: shapes-pickapic
pairs: 3
steps: 2
metrics: [shapes-clipscore]
keep_images: true
chunk: 1
"""

HEAVY = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv = ["npnet", *words]
    try:
        runpy.run_module("npnet", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    print(words, [m for m in ("torch", "diffusers", "transformers") if m in sys.modules], code or 0, file=sys.stderr)
"""


def npnet(*arguments: object) -> Done:
    """`npnet ARGUMENTS` in this process."""
    return call_main(main, *arguments)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("configs") / "few.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def collected(config: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    out = tmp_path_factory.mktemp("pairs")
    with kept():
        done = npnet("collect", config, "--out", out, "--device", "cpu")
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    assert "3 pairs made, 5 denoiser calls a pair" in done.err
    return out


def test_help_imports_no_torch() -> None:
    named = [[command, "--help"] for command in ("collect", "merge", "score", "select", "train")]
    commands = [["--help"], ["--version"], *named]
    asked = [sys.executable, "-W", "ignore", "-c", HEAVY, json.dumps(commands)]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.stderr.splitlines() == [f"{words} [] 0" for words in commands]


def test_shares_merge_from_the_command_line(config: Path, collected: Path, tmp_path: Path) -> None:
    for share in ("1/2", "2/2"):
        done = npnet("collect", config, "--out", tmp_path / share[0], "--shard", share, "--device", "cpu")
        assert done.code == 0, done.err
    done = npnet("merge", tmp_path / "1", tmp_path / "2", "--out", tmp_path / "all")
    assert (done.code, done.out) == (0, f"{tmp_path / 'all'}: 3 of 3 shards\n"), done.err
    assert [p.read_bytes() for p in dataset.shards(tmp_path / "all")] == [
        p.read_bytes() for p in dataset.shards(collected)
    ]
    again = npnet("collect", config, "--out", tmp_path / "all", "--device", "cpu")
    assert "3 pairs were there already" in again.err


def test_set_and_score_and_select(config: Path, tmp_path: Path) -> None:
    done = npnet("collect", config, "--out", tmp_path, "--set", "pairs=2", "--set", "steps=3", "--device", "cpu")
    assert done.code == 0, done.err
    assert (dataset.read_manifest(tmp_path).pairs, dataset.read_manifest(tmp_path).steps) == (2, 3)
    scored = npnet("score", tmp_path, "--metric", "shapes-geneval", "--metric", "shapes-aesthetic", "--device", "cpu")
    assert (scored.code, scored.out) == (0, "8 scores added\n"), scored.err
    selected = npnet("select", tmp_path, "--threshold", "0", "--threshold", "0.1")
    assert selected.code == 0, selected.err
    for metric in ("shapes-clipscore", "shapes-geneval", "shapes-aesthetic"):
        assert metric in selected.out


def test_a_preset_runs_on_its_twin(tmp_path: Path) -> None:
    preset = Path(method.__file__).parent / "configs" / "sdxl.yaml"
    small = ("--set", "pairs=2", "--set", "steps=2", "--set", "metrics=[shapes-clipscore]")
    done = npnet("collect", preset, "--twin", *small, "--out", tmp_path, "--device", "cpu")
    assert done.code == 0, done.err
    assert "note: guidance is the twin model's own default" in done.err
    protocol = dataset.read_manifest(tmp_path)
    assert (protocol.model, protocol.prompts, protocol.guidance) == ("shapes-sdxl", "shapes-train", 5.0)


def test_convert_writes_a_checkpoint_and_says_what(tmp_path: Path) -> None:
    from npnet import NPNet

    NPNet(NPNetConfig.small()).save_pretrained(tmp_path / "a.safetensors")
    done = npnet("convert", tmp_path / "a.safetensors", tmp_path / "b")
    assert done.code == 0, done.err
    assert "a.safetensors ->" in done.out
    assert (tmp_path / "b" / "npnet.safetensors").is_file()
    assert "svd, attention, residual" in done.out
    without = npnet("convert", tmp_path / "a.safetensors", tmp_path / "c", "--no-attention")
    assert "svd, residual" in without.out, without.err


def test_train_trains(collected: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(f"pairs: {json.dumps(str(collected))}\nselection: none\nepochs: 1\nbatch: 2\n")
    done = npnet("train", config, "--out", tmp_path / "trained", "--device", "cpu", "--threads", "1")
    assert done.code == 0, done.err
    assert npnet("train", config, "--out", tmp_path / "trained", "--threads", "0").code == 2
    assert (tmp_path / "trained" / "last.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["collect", "nowhere.yaml"], 2, "nowhere.yaml: no such file"),
        (["collect", "CONFIG", "--set", "pears=1"], 2, "unknown key 'pears'; did you mean 'pairs'?"),
        (["collect", "CONFIG", "--device", "tpu"], 2, "--device tpu: expected cpu, cuda or cuda:N"),
        (["score", "nowhere", "--metric", "shapes-clipscore"], 2, "nowhere: not a collection of noise pairs"),
        (["score", "COLLECTED", "--metric", "shapes-clip"], 2, "unknown metric 'shapes-clip'"),
        (["collect", "CONFIG", "--out", "CONFIG"], 2, "cannot be written (File exists); give another --out"),
        (["merge", "nowhere", "--out", "TMP"], 2, "nowhere: not a collection of noise pairs"),
        (["merge", "COLLECTED", "--out", "CONFIG"], 2, "cannot be written (File exists); give another --out"),
        (["select", "nowhere"], 2, "nowhere: not a collection of noise pairs"),
        (["train", "nowhere.yaml", "--out", "TMP"], 2, "nowhere.yaml: no such file"),
        (["convert", "nowhere.pth", "TMP"], 2, "nowhere.pth: no such checkpoint"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], code: int, said: str, config: Path, collected: Path, tmp_path: Path
) -> None:
    places = {"CONFIG": config, "COLLECTED": collected, "TMP": tmp_path / "out"}
    given = [str(places.get(a, a)) for a in arguments]
    if given[0] == "collect" and "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    done = npnet(*given)
    assert done.code == code
    assert said in done.error


@pytest.mark.parametrize("threshold", ["nan", "inf", "much"])
def test_a_threshold_that_is_no_number_is_refused(collected: Path, threshold: str) -> None:
    done = npnet("select", collected, "--threshold", threshold)
    assert done.code == 2
    assert f"argument --threshold: expected a number, got {threshold!r}" in done.err


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_share_that_is_none_is_refused(config: Path, share: str) -> None:
    done = npnet("collect", config, "--shard", share)
    assert done.code == 2
    assert "expected I/N with I from 1 to N, such as 3/16" in done.err


def test_a_fault_of_ours_says_so(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npnet.pairs import collect

    def fault(*_: object, **__: object) -> int:
        raise RuntimeError("boom")

    monkeypatch.setattr(collect, "run", fault)
    done = npnet("collect", config, "--out", tmp_path)
    assert done.code == 4
    assert done.err.endswith("error: internal error; please report it with the lines above\n")


def test_an_interrupted_collection_says_what_to_do(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npnet.pairs import collect

    def stop(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "run", stop)
    done = npnet("collect", config, "--out", tmp_path)
    assert (done.code, done.err) == (
        130,
        "interrupted; what is finished is kept, run the same command again to resume\n",
    )
