"""The one training loop of the embedded world: seeded, checkpointed, resumable, single-threaded if asked.

The data of step `i` depends on (seed, i) alone, so a run that was killed and resumed sees the same batches as
one that was not.
"""

from __future__ import annotations

import bisect
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CHECKPOINT_SECONDS = 120.0


def train(
    name: str,
    modules: torch.nn.ModuleDict,
    loss: Callable[[np.random.Generator, int], dict[str, torch.Tensor]],
    *,
    out: Path,
    steps: int,
    lr: float,
    seed: int = 0,
    weight_decay: float = 0.01,
    warmup: int = 200,
    ema: float | None = None,
    keep: int | None = None,
    restarts: Sequence[int] = (),
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Minimise `loss(rng, step)["loss"]` over the parameters of `modules` with AdamW and a cosine schedule.

    The schedule ends at each step of `restarts` that comes before `steps`, and one of half the rate begins there.
    The module ends with its exponential moving average where `ema` gives a decay; after step `keep` that average is
    also written to `out/NAME-at-KEEP.pt`. Writes `out/NAME.pt` every
    two minutes (atomically) and `out/NAME.jsonl` with the loss curve; continues from them. Returns the totals
    that the card shows: steps and seconds.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.pt"
    trained = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in trained] if ema else []
    start, spent = 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        if state["seed"] != seed:
            raise ValueError(f"{path} was trained with seed {state['seed']}, not {seed}; remove it or use that seed")
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        average = state["average"]
        start, spent = state["step"], state["seconds"]
        say(f"{name}: resuming at step {start}")
    started = last = time.monotonic()

    def save(step: int) -> None:
        state = {
            "modules": modules.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "step": step,
            "seed": seed,
            "seconds": spent + time.monotonic() - started,
        }
        _write(path, state)

    modules.train()
    sums: dict[str, float] = {}
    summed = 0
    for step in range(start, steps):
        # A plain float: a numpy scalar in the optimizer's state would not load with weights_only.
        rate = lr * _schedule(step, steps, warmup=warmup, restarts=restarts)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(seed * 1_000_003 + step)
        values = loss(np.random.default_rng([seed, step]), step)
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if ema:
            decay = min(ema, (step + 1) / (step + 10))
            torch._foreach_lerp_(average, [p.detach() for p in trained], 1 - decay)
        if step + 1 == keep and ema:
            names = [k for k, p in modules.named_parameters() if p.requires_grad]
            _write(out / f"{name}-at-{keep}.pt", dict(zip(names, average, strict=True)))
        for k, v in values.items():
            sums[k] = sums.get(k, 0.0) + float(v.detach())
        summed += 1
        if (step + 1) % 100 == 0:
            means = {k: round(v / summed, 5) for k, v in sums.items()}
            sums, summed = {}, 0
            now = time.monotonic()
            eta = (now - started) / (step + 1 - start) * (steps - step - 1)
            say(f"{name}: step {step + 1}/{steps} {means} {spent + now - started:.0f} s, {eta:.0f} s left")
            with open(out / f"{name}.jsonl", "a") as f:
                f.write(json.dumps({"step": step + 1, **means}) + "\n")
        if time.monotonic() - last > CHECKPOINT_SECONDS:
            save(step + 1)
            last = time.monotonic()
    if start < steps:
        save(steps)
    if ema:
        for p, a in zip(trained, average, strict=True):
            p.data.copy_(a)
    modules.eval()
    return {"steps": steps, "seconds": round(spent + time.monotonic() - started, 1)}


def _schedule(step: int, steps: int, *, warmup: int, restarts: Sequence[int]) -> float:
    """The share of the learning rate at a step: a warm-up, then half a cosine down to 2 %; see `train`."""
    ends = [0, *(r for r in restarts if r < steps), steps]
    cycle = bisect.bisect_right(ends, step) - 1
    first, last = ends[cycle], ends[cycle + 1]
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - first) / (last - first)))
    return (0.5 if cycle else 1.0) * min(1.0, (step - first + 1) / warmup) * cosine


def _write(path: Path, state: Any) -> None:
    """Save beside the target and rename: a kill leaves the old checkpoint whole."""
    import torch

    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(state, temporary)
    temporary.replace(path)
