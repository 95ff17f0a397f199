"""Training on several processes: one training, written by one of them, that resumes with any number of processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from covering import FULL
from fork_server import server

from npnet.network import checkpoint
from npnet.training import loop
from npnet.training.settings import TrainConfig
from npnet.training.train import run

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

TOLERANCE = 1e-6
"""Length of the difference of all weights over their length, after 28 steps: only sums are in another order."""
_PROCESS = """\
import hashlib, json, os, sys, time
from pathlib import Path
import torch
from npnet.network import checkpoint
from npnet.training import loop
from npnet.training.settings import TrainConfig
from npnet.training.train import run

torch.set_num_threads(1)
rank, out, pause = os.environ["RANK"], Path(sys.argv[2]), float(sys.argv[3])
trained = []
finish = loop.Loop.train
loop.Loop.train = lambda self: (finish(self), trained.append(self))[0]
step = loop.Loop.advance
loop.Loop.advance = lambda self, ids: (time.sleep(pause), step(self, ids))[1]
loop.STATE_SECONDS = 0.0 if pause else loop.STATE_SECONDS
written = []
write = checkpoint.save
checkpoint.save = lambda *given, **named: (written.append(1), write(*given, **named))[1]
said = []
run(TrainConfig.model_validate_json(sys.argv[1]), out=out, device="cpu", say=said.append)
h = hashlib.sha256()
for value in trained[0].raw.state_dict().values():
    h.update(value.numpy().tobytes())
counted = {"weights": h.hexdigest(), "written": len(written), "said": len(said)}
(out.parent / f"rank{rank}.json").write_text(json.dumps(counted))
"""


def settings(pairs: Path, **changes: Any) -> TrainConfig:
    """Four epochs of 46 pairs in batches of 7, which two processes share as 4 and 3; the last one has 4 pairs."""
    network = {"width": 16, "depth": 1, "heads": 2}
    fields = {"pairs": pairs, "selection": "none", "network": network, "batch": 7, "epochs": 4}
    return TrainConfig(**{**fields, **changes})


@pytest.fixture(scope="module")
def alone(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process trains without a break; no test changes it."""
    out = tmp_path_factory.mktemp("alone")
    run(settings(pairs), out=out, device="cpu", say=lambda _line: None)
    return out


def torchrun(config: TrainConfig, out: Path) -> subprocess.Popen[str]:
    """Two processes that train."""
    script = out.parent / "process.py"
    script.write_text(_PROCESS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.Popen(
        [*torchrun, str(script), config.model_dump_json(), str(out), "0.0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
    )


def ranks(config: TrainConfig, out: Path, pause: float) -> list[ForkServerProcess]:
    """The same two processes without torchrun, which imports torch once more."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = [server().Process(target=_rank, args=(rank, port, config, out, pause), daemon=True) for rank in (0, 1)]
    for process in started:
        process.start()
    return started


def _rank(rank: int, port: int, config: TrainConfig, out: Path, pause: float) -> None:
    """What torchrun sets, and the program."""
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in world.items()}, MASTER_ADDR="127.0.0.1")
    sys.argv = ["process.py", config.model_dump_json(), str(out), str(pause)]
    exec(_PROCESS, {"__name__": "__main__"})


def difference(a: Path, b: Path) -> float:
    """Length of the difference of two checkpoints' weights over the length of the first one's."""
    one, two = (checkpoint.read(path / "last.safetensors").tensors for path in (a, b))
    assert one.keys() == two.keys()
    apart = sum(float((one[name].double() - two[name].double()).square().sum()) for name in one)
    return (apart / sum(float(value.double().square().sum()) for value in one.values())) ** 0.5


def losses_of(out: Path) -> list[list[float]]:
    rows = (line.split(",") for line in (out / "losses.csv").read_text().splitlines()[1:])
    return [[float(row[0]), float(row[4]), float(row[5])] for row in rows]


def test_two_processes_train_the_network_of_one_and_one_of_them_writes(
    pairs: Path, alone: Path, tmp_path: Path
) -> None:
    """By torchrun every week, by forks with what it sets else."""
    if FULL:
        child = torchrun(settings(pairs), tmp_path / "out")
        _, said = child.communicate(timeout=300)
        assert child.returncode == 0, said
    else:
        for process in ranks(settings(pairs), tmp_path / "out", pause=0.0):
            process.join(300)
            assert process.exitcode == 0
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["weights"] == second["weights"]
    assert first["written"] > 0
    assert first["said"] > 0
    assert (second["written"], second["said"]) == (0, 0)
    assert difference(alone, tmp_path / "out") < TOLERANCE
    for one, two in zip(losses_of(alone), losses_of(tmp_path / "out"), strict=True):
        assert two == pytest.approx(one, rel=TOLERANCE)


def test_a_training_resumes_after_a_kill_with_another_number_of_processes(
    pairs: Path, alone: Path, tmp_path: Path
) -> None:
    """One process, then two of which one is killed inside an epoch, then one."""
    out = tmp_path / "out"
    run(settings(pairs, epochs=1), out=out, device="cpu", say=lambda _line: None)
    first, second = ranks(settings(pairs), out, pause=0.1)
    wait_for(lambda: _state(out)["epoch"] > 0 and _state(out)["step"] > 2, first)
    first.kill()
    first.join(100)
    second.kill()  # as torchrun ends the other one
    second.join(100)
    left = _state(out)
    assert left["step"] > 0
    said: list[str] = []
    run(settings(pairs), out=out, device="cpu", say=said.append)
    assert any(f"after epoch {left['epoch']}, step {left['step']} " in line for line in said)
    assert difference(alone, out) < TOLERANCE
    assert [row[0] for row in losses_of(out)] == [1, 2, 3, 4]


def _state(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return found


def wait_for(true: Any, child: ForkServerProcess) -> None:
    end = time.monotonic() + 200
    while not true():
        assert child.exitcode is None
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(("world", "count"), [(2, 7), (3, 2), (2, 1)])
def test_every_pair_of_a_batch_is_in_one_share_and_a_process_without_any_weighs_nothing(world: int, count: int) -> None:
    import numpy as np

    from npnet.training.caches import World

    ids, shares = np.arange(count), []
    for rank in range(world):
        made = loop.Loop.__new__(loop.Loop)
        made.world = World(rank=rank, size=world)
        made.config = TrainConfig(pairs=(Path("p"),), selection=None)
        shares += list(made._parts(ids))
    assert sorted(np.concatenate([part for part, weight in shares if weight])) == list(ids)
    assert sum(not weight for _, weight in shares) == max(0, world - count)
