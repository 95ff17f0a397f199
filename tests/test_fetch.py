"""`bench fetch` against a hub on loopback: what it takes, and that a run then needs no hub."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from conftest import Bench, Done, InTurn
from fetched import files as files
from fetched import got, pipeline, weights
from fetched import hub as hub
from hub import Hub

from bench.needs.base import gigabytes

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


def test_one_that_cannot_be_had_does_not_keep_the_others_away(hub: Hub, tmp_path: Path, bench: Bench) -> None:
    suite = tmp_path / "fetched.yaml"
    suite.write_text(SUITE.format(commit=hub.commit))
    shutil.rmtree(hub.home / "small" / "tuned")
    with hub.used(tmp_path / "hf"):
        done = bench("fetch", suite)
    assert done.code == 2
    assert "1 of 2 could not be fetched: small/tuned@" in done.error
    assert "fetched 1 of 2" in done.err
