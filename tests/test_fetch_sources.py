"""Which files of a repository are taken, files outside the hub, and scorers' files."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Done, Plug
from fetched import files as files
from fetched import hub as hub
from fetched import no_waits as no_waits
from fetched import served
from hub import Hub

from bench import registry
from bench.digests import COMMIT
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part
from bench.needs.base import Made, Need, Package
from bench.needs.choosing import of_folder, of_pipeline
from bench.needs.hub import OnHub
from bench.needs.web import WebFile, download
from bench.prompts.files import PromptFile, PromptFolder, digest

# Which files --------------------------------------------------------------------------------------------------------


INDEX: Mapping[str, Any] = {"_class_name": "X", "unet": ["diffusers", "UNet"], "tokenizer": ["transformers", "T"],
                            "safety_checker": [None, None]}  # fmt: skip
SMALL = ["model_index.json", "unet/config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"]


@pytest.mark.parametrize(
    ("weights", "variant", "taken"),
    [
        (["diffusion_pytorch_model.safetensors"], None, [0]),
        (["diffusion_pytorch_model.bin"], None, [0]),
        (["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"], None, [1]),
        (["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"], "fp16", [1]),
        (["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"], None, [0]),
        (["diffusion_pytorch_model.safetensors"], "fp16", [0]),
        (["diffusion_pytorch_model.fp16.safetensors"], None, None),
        (["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors",
          "diffusion_pytorch_model.safetensors.index.json"], None, [0, 1, 2]),
        (["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model.safetensors.index.json"],
         None, None),
        ([], None, None),
    ],
)  # fmt: skip
def test_a_pipelines_files_by_name(weights: list[str], variant: str | None, taken: list[int] | None) -> None:
    names = [*SMALL, *(f"unet/{name}" for name in weights), "unet.ckpt", "safety_checker/config.json"]
    found = of_pipeline(names, INDEX, variant)
    expected = [] if taken is None else [*SMALL, *(f"unet/{weights[i]}" for i in taken)]
    assert sorted(found) == sorted(expected)


def test_a_folders_files_by_name() -> None:
    names = ["config.json", "vocab.txt", "pytorch_model.bin", "model.safetensors", "README.md", "sub/config.json"]
    weights = ("model.safetensors", "pytorch_model.bin")
    assert of_folder(names, ("*.json", "*.txt"), weights) == ["config.json", "vocab.txt", "model.safetensors"]
    assert of_folder(names[:3], ("*.json", "*.txt"), weights) == ["config.json", "vocab.txt", "pytorch_model.bin"]
    assert of_folder(names[:2], ("*.json",), weights) == []
    assert of_folder(names, ("*.json",), (), "sub") == ["sub/config.json"]


# Outside the hub ----------------------------------------------------------------------------------------------------


def test_a_prompt_file_is_fetched_and_read(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    url, sha256 = served(hub, b"a dog\n" * 1000)
    file = PromptFile("prompts.csv", url, sha256)
    assert not file.here()
    with pytest.raises(UserError, match=r"missing; download .* which `python -m bench fetch` does"):
        file.text()
    file.get()
    assert file.here()
    assert file.text().startswith("a dog\n")
    (tmp_path / "data" / "prompts.csv").write_text("another file")
    assert not file.here()
    file.get()
    assert file.here(), "a file that is another one is fetched again"


@pytest.mark.usefixtures("no_waits")
def test_faults_of_an_address_are_one_line_and_leave_nothing(hub: Hub, tmp_path: Path) -> None:
    content = b"x" * 100_000
    url, sha256 = served(hub, content)
    path = "someone/code/data/prompts.csv"

    def refused(at: str = url, expected: str = sha256) -> str:
        with pytest.raises(UserError) as caught:
            download(at, tmp_path / "out" / "prompts.csv", expected)
        assert list((tmp_path / "out").iterdir()) == []
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "not there any more (404)" in refused(f"{url}x")
    assert "another file than the published one" in refused(expected="0" * 64)
    hub.lies.add(path)
    assert "another file than the published one" in refused()
    hub.lies.clear()
    hub.statuses[path] = [503] * 10
    assert "cannot be fetched (503" in refused()
    hub.statuses[path] = [503, 502]
    hub.cuts[path] = [10_000]
    download(url, tmp_path / "out" / "prompts.csv", sha256)
    assert (tmp_path / "out" / "prompts.csv").read_bytes() == content


def test_a_folder_of_an_archive_is_unpacked_and_checked(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    found = {f"{i}.txt": f"prompt {i}".encode() for i in range(3)}
    source = tmp_path / "source"
    (source / "code-abc" / "set" / "prompts" / "deeper").mkdir(parents=True)
    for name, content in {**found, "deeper/9.txt": b"no"}.items():
        (source / "code-abc" / "set" / "prompts" / name).write_bytes(content)
    (source / "code-abc" / "evil").symlink_to("/etc")
    archive = tmp_path / "code.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source / "code-abc", "code-abc")
        outside = tarfile.TarInfo("code-abc/set/prompts/../../../../escaped.txt")
        tar.addfile(outside)
    url, _ = served(hub, archive.read_bytes(), "code.tar.gz")
    folder = PromptFolder("set", url, "set/prompts", digest(found))
    assert not folder.here()
    folder.get()
    assert folder.here()
    assert folder.texts() == {"0": "prompt 0", "1": "prompt 1", "2": "prompt 2"}
    assert sorted(p.name for p in (tmp_path / "data").rglob("*")) == ["0.txt", "1.txt", "2.txt", "set"]
    other = PromptFolder("other", url, "set/prompts", "0" * 64)
    with pytest.raises(UserError, match="another file or another version"):
        other.get()
    assert not (tmp_path / "data" / "other").exists()
    torn, _ = served(hub, archive.read_bytes()[:100], "torn.tar.gz")
    with pytest.raises(UserError, match="not a readable archive"):
        PromptFolder("torn", torn, "set/prompts", digest(found)).get()


# Scorers ------------------------------------------------------------------------------------------------------------


def test_a_scorers_files_go_into_the_cache_or_a_folder_of_its_layout(
    hub: Hub, tmp_path: Path, bench: Bench, plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = hub.home / "small" / "tower"
    tower.mkdir()
    for name, content in {"config.json": "{}", "model.safetensors": "w", "file.pt": "f", "other.bin": "o"}.items():
        (tower / name).write_text(content)
    url, sha256 = served(hub, b"head", "head.pth")
    monkeypatch.setenv("BENCH_SCORERS", str(tmp_path / "scorers"))
    tower_part = Part("tower", "small/tower", hub.commit, weights=("model.safetensors",))
    parts = (Part("head.pth", url=url, sha256=sha256), tower_part, Part("file.pt", "small/tower", hub.commit))
    given: dict[str, Any] = {"load": lambda device: None, "needs": Checkpoint("mine", parts).needs}
    plug("metrics", mine=MetricEntry("mine", "Mine", "1", identify=str, **given))

    def fetched(*more: object) -> str:
        with hub.used(tmp_path / "hf"):
            done = bench("fetch", "--metric", "mine", *more)
        assert done.code == 0, done.err
        return done.err

    def here() -> list[bool]:
        with hub.used(tmp_path / "hf", offline=True):
            return [part.place() is not None for part in parts]

    apart = ("--to", tmp_path / "mine")
    fetched(*apart)
    assert here() == [False, False, False]
    laid = {p.relative_to(tmp_path / "mine").as_posix() for p in (tmp_path / "mine").rglob("*") if p.is_file()}
    laid = {name for name in laid if ".cache" not in name}
    assert laid == {"head.pth", "tower/config.json", "tower/model.safetensors", "file.pt"}
    (tmp_path / "mine" / "tower" / "model.safetensors").unlink()  # as where it was cut off
    assert "fetched 1 of 1; 2 were here" in fetched(*apart)
    assert "fetched 0 of 0; 3 were here" in fetched(*apart)
    laid_out = (Part("head.pth"), Part("tower"), Part("file.pt"))
    assert Checkpoint("mine", laid_out).at(str(tmp_path / "mine")).needs() == ()

    fetched()
    assert here() == [True, True, True]
    assert "fetched 0 of 0; 3 were here" in fetched()
    assert json.loads((tmp_path / "mine" / "tower" / "config.json").read_text()) == {}


def test_needs_that_cannot_be_fetched_name_what_brings_them(tmp_path: Path) -> None:
    absent = Made(tmp_path / "x.safetensors", "python -m npnet train ...")
    assert not absent.here()
    assert absent.command == "python -m npnet train ..."
    with pytest.raises(UserError, match="npnet train"):
        absent.get()
    assert Package("json", "json").here()
    assert not Package("no_such_module.inside", "it").here()
    assert Need("method x", "x", Package("torch", "torch")).source.here()


def test_a_web_file_is_here_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = WebFile("http://127.0.0.1:9/a", path, hashlib.sha256(b"a").hexdigest())
    assert not file.here()
    path.write_bytes(b"a")
    assert file.here()


def test_a_branch_is_fetched_and_its_commit_and_content_are_the_scorers_digest(
    hub: Hub, tmp_path: Path, bench: Bench, plug: Plug
) -> None:
    tower = hub.home / "small" / "tower"
    tower.mkdir(exist_ok=True)
    for name, content in {"config.json": "{}", "model.safetensors": "w", "other.bin": "o"}.items():
        (tower / name).write_text(content)

    checkpoint = Checkpoint("moving", (Part("tower", "small/tower", "main", weights=("model.safetensors",)),))
    given: dict[str, Any] = {"load": lambda device: None, "needs": checkpoint.needs}
    row = MetricEntry("moving", "Moving", "1", identify=checkpoint.identity, **given)
    plug("metrics", moving=row)

    def run(home: str, *arguments: object) -> tuple[str, str]:
        with hub.used(tmp_path / home):
            done = bench(*arguments) if arguments else Done(0, "", "")
            assert done.code == 0, done.err
            return row.digest(), done.err

    assert "@" not in run("hf")[0], "nothing is here yet"
    first, said = run("hf", "fetch", "--metric", "moving")
    assert "fetched 1 of 1" in said
    assert f"+small/tower@{hub.commit[:8]}" in first
    hub.commit = hub.commit[::-1]
    (tower / "model.safetensors").write_text("other weights")
    again, said = run("hf", "fetch", "--metric", "moving")
    assert (again, "fetched 0 of 0; 1 were here" in said) == (first, True), "what was fetched stays what it was"
    other, _ = run("elsewhere", "fetch", "--metric", "moving")
    assert f"+small/tower@{hub.commit[:8]}" in other
    assert other != first
    laid = tmp_path / "laid"
    _, said = run("third", "fetch", "--metric", "moving", "--to", laid)
    assert (laid / "tower" / "model.safetensors").read_text() == "other weights"
    assert "fetched 0 of 0; 1 were here" in run("third", "fetch", "--metric", "moving", "--to", laid)[1]


def test_every_scorers_file_of_the_hub_is_at_a_commit_or_said_to_move() -> None:
    moving = set()
    for name in registry.names("metrics"):
        for need in registry.get("metrics", name).needs():
            if isinstance(need.source, OnHub) and not COMMIT.fullmatch(need.source.revision):
                moving.add(need.source.repo)
    assert moving == {"facebook/mask2former-swin-small-coco-instance"}
