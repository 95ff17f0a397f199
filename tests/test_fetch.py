"""`bench fetch` against a hub on loopback: what it takes, what goes wrong, and that a run then needs no hub."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import tiny_unet
from conftest import Bench, Done, InTurn, Plug
from hub import Hub, serving

from bench import registry
from bench.digests import COMMIT
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part
from bench.needs.base import Made, Need, Package, gigabytes
from bench.needs.choosing import of_folder, of_pipeline
from bench.needs.hub import HubFile, HubFolder, HubPipeline, OnHub
from bench.needs.web import WebFile, download
from bench.prompts.files import PromptFile, PromptFolder, digest

# diffusers calls numpy in ways that numpy 2 deprecates.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")]
SUITE = """\
name: fetched
models: ["small/model@{commit}"]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 2
baseline: standard
methods: [standard, {{use: dpo, weights: "small/tuned@{commit}:unet"}}]
metrics: [shapes-clipscore]
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two repositories: a pipeline, and another denoiser for it."""
    home = tmp_path_factory.mktemp("repositories")
    for name in ("model", "tuned"):
        tiny_unet.save_sd(home / "small" / name, sharpness=1.0 if name == "model" else 0.5)
    return home


@pytest.fixture
def hub(files: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub of copies that a test may change."""
    with serving(shutil.copytree(files, tmp_path / "hub")) as found:
        yield found


def got(hub: Hub, source: OnHub, home: Path) -> list[str]:
    """What is said while a source is brought here, and whether it is then here."""
    said = []
    with hub.used(home / "hf"):
        try:
            source.size()
            source.get(tell=lambda line: None)
        except UserError as error:
            said.append(str(error))
        return [*said, f"here {source.here()}"]


def weights(hub: Hub, repo: str = "model") -> str:
    return f"small/{repo}/unet/diffusion_pytorch_model.safetensors"


def pipeline(hub: Hub) -> HubPipeline:
    return HubPipeline("small/model", hub.commit)


# The whole way ------------------------------------------------------------------------------------------------------


LIMIT = ("--limit", 1)


def test_a_suite_is_planned_fetched_and_run_without_the_hub(
    hub: Hub, tmp_path: Path, bench: Bench, bench_in_turn: InTurn
) -> None:
    suite = tmp_path / "fetched.yaml"
    suite.write_text(SUITE.format(commit=hub.commit))
    online = hub.environment(tmp_path / "hf")

    def elsewhere(*commands: tuple[object, ...]) -> list[Done]:
        return bench_in_turn(*((*command, *LIMIT) for command in commands), env=online)

    run = ("run", suite, "--runs", tmp_path / "runs", "--device", "cpu")
    plan, refused, dry = elsewhere(("plan", suite), run, ("fetch", suite, "--dry-run"))
    assert plan.code == 0, plan.err
    assert f"get them:       python -m bench fetch {suite}" in plan.out
    assert "model small/model" in plan.out
    assert "small/tuned/unet" in plan.out
    assert refused.code == 2
    assert f"`python -m bench fetch {suite}`" in refused.error
    assert "--twin" in refused.error
    assert not (tmp_path / "runs").exists()

    size = sum(p.stat().st_size for p in (hub.home / "small" / "model").rglob("*") if p.is_file())
    unet = hub.home / "small" / "tuned" / "unet"
    size += sum(p.stat().st_size for p in unet.iterdir())
    assert f"in all {gigabytes(size)} to fetch; 0 are here" in dry.out
    assert hub.sent < 50_000, "settings at most"

    fetched, again = elsewhere(("fetch", suite), ("fetch", suite))
    assert fetched.code == 0, fetched.err
    assert "[1/2] model small/model" in fetched.err
    assert "fetched 2 of 2" in fetched.err
    assert "fetched 0 of 0; 2 were here" in again.err

    hub.asked.clear()
    with hub.used(tmp_path / "hf", offline=True):
        done, planned = bench(*run, *LIMIT, "--no-cache"), bench("plan", suite, *LIMIT)
    assert done.code == 0, done.err
    assert not hub.asked
    assert "0 are not on this machine" in planned.out


@contextmanager
def mute(*, drops: bool) -> Iterator[tuple[str, list[socket.socket]]]:
    """A host that takes connections and answers none: it drops them, or keeps them open; and those that it took."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return
                if drops:
                    taken[-1].close()

        Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", taken
        server.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


DryRun = Callable[..., Done]


@pytest.fixture
def dry_run(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DryRun:
    """`fetch --dry-run` of a shipped suite, whose sizes are known as published, with a hub at an address."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    suite = Path(__file__).parents[1] / "suites" / "sdxl_main.yaml"

    def run(url: str, *, offline: bool = False) -> Done:
        with Hub(tmp_path, url).used(tmp_path / "hf", offline=offline):
            return bench("fetch", suite, "--metric", "hpsv2", "--metric", "clipscore", "--dry-run")

    return run


def test_a_dry_run_without_a_network_says_so_at_its_end_and_is_a_mistake(dry_run: DryRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = dry_run(url)
    assert done.code == 2
    assert f"{url} cannot be reached (" in done.error
    assert "check the network or the proxy, set HF_ENDPOINT to a mirror of the hub" in done.error
    assert "metric hpsv2: HPS_v2.1_compressed.pt from xswu/HPSv2@697403c7: about 2.0 GB\n" in done.out
    assert "in all about " in done.out
    assert "fetch again" not in done.out + done.err


def test_a_dry_run_that_is_forbidden_to_ask_says_what_forbids_it(dry_run: DryRun) -> None:
    done = dry_run("http://127.0.0.1:9", offline=True)
    assert done.code == 2
    assert "HF_HUB_OFFLINE forbids to ask the hub; unset it" in done.error


@pytest.mark.parametrize("drops", [True, False])
def test_a_host_that_does_not_answer_is_asked_once(dry_run: DryRun, *, drops: bool) -> None:
    """The library would ask again for half a minute, or wait for ever; the command is to end within ten seconds."""
    with mute(drops=drops) as (url, taken):
        done = dry_run(url)
    assert done.code == 2
    assert f"{url} cannot be reached (" in done.error
    assert "metric hpsv2: HPS_v2.1_compressed.pt from xswu/HPSv2@697403c7: about 2.0 GB\n" in done.out
    assert len(taken) == 1


def test_what_diffusers_would_take_is_taken_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    """Beside a pipeline's own files lie other forms and variants of its weights, and other programs' files."""
    model = hub.home / "small" / "model"
    for name in ("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors",
                 "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin", "vae/model.onnx",
                 "text_encoder/flax_model.msgpack", "whole.safetensors", "README.md", "vae_1_0/config.json",
                 "unet/diffusion_pytorch_model.non_ema.safetensors"):  # fmt: skip
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"not to be taken")
    from diffusers import DiffusionPipeline

    with hub.used(tmp_path / "theirs"):
        DiffusionPipeline.download("small/model", revision=hub.commit)
    theirs = sorted(set(hub.asked))
    hub.asked.clear()
    assert got(hub, pipeline(hub), tmp_path)[-1] == "here True"
    assert sorted(set(hub.asked)) == theirs
    assert not any("not to be taken" in path for path in hub.asked)
    assert weights(hub) in theirs


# What goes wrong ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that wait before they ask again wait for a hundredth of a second at most."""
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))


MB = 1_000_000
LARGE = 26 * MB
"""The library writes ten megabytes at a time, and resumes from what it wrote."""


def large(hub: Hub) -> HubFile:
    """The source of a file that comes in several pieces."""
    path = hub.home / "small" / "large" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(random.Random(0).randbytes(LARGE))
    return HubFile("small/large", hub.commit, "model.bin")


@pytest.mark.usefixtures("no_waits")
def test_a_dropped_connection_resumes_where_it_was(hub: Hub, tmp_path: Path) -> None:
    """huggingface_hub asks again from the last byte on, and the whole is what the hub's listing says."""
    source = large(hub)
    hub.cuts["small/large/model.bin"] = [12 * MB, 11 * MB]
    assert got(hub, source, tmp_path)[-1] == "here True"
    assert hub.asked.count("small/large/model.bin") == 3
    assert hub.sent < LARGE + 6 * MB, "two pieces were kept"


@pytest.mark.usefixtures("no_waits")
def test_a_download_that_failed_continues_with_the_files_that_are_not_here(hub: Hub, tmp_path: Path) -> None:
    """Files that came are kept. Of the one that was cut off nothing is: huggingface_hub keeps no part of a file."""
    large(hub)
    (hub.home / "small" / "large" / "config.json").write_text("{}")
    source = HubFolder("small/large", hub.commit, ("*.json",), ("model.bin",))
    hub.cuts["small/large/model.bin"] = [12 * MB] + [0] * 20
    *_, error, here = got(hub, source, tmp_path)
    assert here == "here False"
    assert "fetch again to go on" in error
    hub.cuts.clear()
    hub.asked.clear()
    assert got(hub, source, tmp_path)[-1] == "here True"
    assert hub.asked == ["small/large/model.bin"]


def test_another_digest_than_the_listing_has_is_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.lies.add(weights(hub))
    *_, error, here = got(hub, pipeline(hub), tmp_path)
    assert here == "here False"
    assert "diffusion_pytorch_model.safetensors: sha256 is " in error
    assert "removed; fetch again" in error
    hub.lies.clear()
    assert got(hub, pipeline(hub), tmp_path)[-1] == "here True"


def test_another_digest_than_the_published_one_is_refused(hub: Hub, tmp_path: Path) -> None:
    """The commit is right and the file is what the hub lists, and yet it is not what the scorer was published with."""
    source = HubFile("small/model", hub.commit, "unet/diffusion_pytorch_model.safetensors", "ab" * 32)
    *_, error, here = got(hub, source, tmp_path)
    assert here == "here False"
    assert "expected abababababab; removed" in error


def test_a_slow_hub_is_waited_for_and_asked_again(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.slow[weights(hub)] = [0.6]
    assert got(hub, pipeline(hub), tmp_path)[-1] == "here True"
    assert hub.asked.count(weights(hub)) >= 1


def test_a_gated_repository_says_which_page_to_accept(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("small/model")
    *_, error, here = got(hub, pipeline(hub), tmp_path)
    assert here == "here False"
    assert f"gated: accept its terms at {hub.url}/small/model, then log in with `hf auth login`" in error


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (HubPipeline("small/none", Hub.commit), "no such repository, or a private one: see {u}/small/none"),
        (HubPipeline("small/model", "f" * 40), "no such commit"),
        (HubFile("small/model", Hub.commit, "absent.bin"), "the files that are needed are not among its"),
        (HubFolder("small/model", Hub.commit, ("*.json",), ("model.safetensors",)), "are not among its"),
    ],
)
def test_what_the_hub_has_not_is_one_line(hub: Hub, tmp_path: Path, source: OnHub, said: str) -> None:
    (error, here) = got(hub, source, tmp_path)
    assert here == "here False"
    assert error.startswith("small/")
    assert "\n" not in error
    assert said.format(u=hub.url) in error


OFFLINE = """
import sys
from bench.errors import UserError
from bench.needs.hub import HubPipeline
try:
    HubPipeline("small/model", sys.argv[1]).size()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
    ],
)
def test_offline_and_unreachable_are_one_line(hub: Hub, tmp_path: Path, setting: dict[str, str], said: str) -> None:
    """In a process of its own: the library reads its settings once."""
    surroundings = {**os.environ, **hub.environment(tmp_path / "hf"), **setting}
    command = [sys.executable, "-c", OFFLINE, hub.commit]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=True)
    (error,) = done.stdout.splitlines()
    assert said in error


def test_one_that_cannot_be_had_does_not_keep_the_others_away(hub: Hub, tmp_path: Path, bench: Bench) -> None:
    suite = tmp_path / "fetched.yaml"
    suite.write_text(SUITE.format(commit=hub.commit))
    shutil.rmtree(hub.home / "small" / "tuned")
    with hub.used(tmp_path / "hf"):
        done = bench("fetch", suite)
    assert done.code == 2
    assert "1 of 2 could not be fetched: small/tuned@" in done.error
    assert "fetched 1 of 2" in done.err


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


def served(hub: Hub, content: bytes, name: str = "data/prompts.csv") -> tuple[str, str]:
    """(address, sha256) of a file as a forge serves it."""
    path = hub.home / "someone" / "code" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"{hub.url}/someone/code/raw/{hub.commit}/{name}", hashlib.sha256(content).hexdigest()


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
