"""A killed training resumes to the networks of one left alone; a broken or foreign state is refused."""

from __future__ import annotations

import pickle
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fork_server import server

from bench.errors import UserError
from npnet.training import loop
from npnet.training.loop import Loop
from npnet.training.settings import TrainConfig
from npnet.training.train import run

from .small import farthest, losses_of, settings, train

pytestmark = pytest.mark.usefixtures("one_thread", "no_figures")


def same(one: Path, other: Path) -> None:
    """Two trainings left the same networks and losses."""
    for name in ("last.safetensors", "best.safetensors"):
        assert farthest(one / name, other / name) == 0
    assert losses_of(one) == losses_of(other)


def test_two_epochs_and_two_more_are_four(pairs: Path, trained: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path, epochs=2)
    train(pairs, tmp_path, epochs=4)
    same(trained, tmp_path)


def test_an_average_of_weights_resumes_too(pairs: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"ema": 0.9, "clip": 1.0}
    train(pairs, tmp_path / "straight", epochs=2, **more)
    train(pairs, tmp_path / "twice", epochs=1, **more)
    train(pairs, tmp_path / "twice", epochs=2, **more)
    same(tmp_path / "straight", tmp_path / "twice")


def test_a_training_stopped_inside_an_epoch_makes_the_same_steps(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(pairs, tmp_path / "straight", epochs=2, schedule="cosine")
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    step, made = Loop.advance, []

    def stopping(self: Loop, ids: np.ndarray) -> torch.Tensor:
        made.append(len(ids))
        if len(made) == 9:
            raise KeyboardInterrupt
        return step(self, ids)

    monkeypatch.setattr(Loop, "advance", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(pairs, tmp_path / "stopped", epochs=2, schedule="cosine")
    train(pairs, tmp_path / "stopped", epochs=2, schedule="cosine")
    assert len(made) == 2 * 6 + 1, "46 pairs are 6 batches of 8; none but the interrupted one was made again"
    assert farthest(tmp_path / "straight/last.safetensors", tmp_path / "stopped/last.safetensors") == 0
    assert losses_of(tmp_path / "straight") == losses_of(tmp_path / "stopped")


def train_slowly(chosen: TrainConfig, out: Path) -> None:
    """In a process of its own, which would otherwise be done before it is noticed."""
    torch.set_num_threads(1)
    step = Loop.advance
    loop.STATE_SECONDS = 0.0
    Loop.advance = lambda self, ids: (time.sleep(0.2), step(self, ids))[1]  # type: ignore[method-assign]
    run(chosen, out=out, device="cpu")


@pytest.mark.slow
def test_kill_9_and_the_same_command_resumes(pairs: Path, trained: Path, tmp_path: Path) -> None:
    child = server().Process(target=train_slowly, args=(settings(pairs, epochs=4), tmp_path), daemon=True)
    child.start()
    until = time.monotonic() + 120
    while not (tmp_path / "best.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.05)
    child.kill()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL, "it was killed, and had neither failed nor finished"
    assert (tmp_path / "state.pt").exists()
    assert not (tmp_path / "last.safetensors").exists()
    train(pairs, tmp_path, epochs=4)
    assert farthest(tmp_path / "last.safetensors", trained / "last.safetensors") < 1e-6


def test_a_finished_training_is_left_as_it_is(trained: Path, pairs: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir() if path.name != "lock"}
    said: list[str] = []
    again = run(settings(pairs, epochs=4), out=trained, device="cpu", say=said.append)
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir() if path.name != "lock"} == before
    assert any("nothing to do" in line for line in said)
    assert again["epochs"] == 4


def test_another_training_does_not_go_on_from_a_state(trained: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match=r"other settings \(batch 8 there, 4 here\); give another --out"):
        train(pairs, trained, epochs=4, batch=4)


_EXECUTES = b"\x80\x02cos\nsystem\n(S'touch ran'\ntR."


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "truncated, or not a PyTorch file"),
        (b"PK\x03\x04 cut short", "truncated, or not a PyTorch file"),
        (b".", "truncated, or not a PyTorch file"),
        (_EXECUTES, "holds objects other than tensors, .* nothing was executed"),
    ],
)
def test_a_broken_state_is_one_line_and_nothing_runs(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(UserError, match=rf"state\.pt: {found}.*; expected a training's state: delete it") as raised:
        train(pairs, tmp_path)
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value), "what torch advises is how to be attacked"
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / "state.pt").read_bytes() == content


def test_what_the_broken_state_would_execute_is_executed_where_it_is_let(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(_EXECUTES)
    assert (tmp_path / "ran").exists()


def test_a_state_of_plain_containers_that_is_no_trainings_is_one_line(
    trained: Path, pairs: Path, tmp_path: Path
) -> None:
    good = torch.load(trained / "state.pt", weights_only=True)
    for odd, said in (
        ([1, 2], "holds something else"),
        ({"identity": {}}, "holds something else"),
        ({**good, "epoch": "4"}, "holds something else"),
        ({**good, "network": {"w": torch.zeros(1)}}, "not of this network"),
        ({**good, "optimizer": {}}, "not of this network"),
    ):
        torch.save(odd, tmp_path / "state.pt")
        with pytest.raises(UserError, match=rf"state\.pt: {said}.*; expected a training's state") as raised:
            train(pairs, tmp_path, epochs=5)
        assert "\n" not in str(raised.value)


def test_an_unfinished_training_with_prompts_split_otherwise_does_not_go_on(
    trained: Path, pairs: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["identity"]["split"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"other settings \(split None there, 2 here\)"):
        train(pairs, tmp_path, epochs=5)
    assert train(pairs, tmp_path, epochs=4)["epochs"] == 4, "finished, it is left as it is"


def test_a_finished_training_whose_best_network_was_moved_says_so(trained: Path, pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "best.safetensors").rename(tmp_path / "kept.safetensors")
    said: list[str] = []
    run(settings(pairs, epochs=4), out=tmp_path, device="cpu", say=said.append)
    assert any("nothing to do" in line for line in said)
    assert "best.safetensors (no longer there; last.safetensors is of epoch 4)" in said[-1]
