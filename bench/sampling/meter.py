"""What images cost, counted where the work is done: by hooks on the model's networks, and on those that methods call.

Counts are per image: a call on a part of the batch counts for that part. Seconds and peak memory are the batch's, by
stage; an image's time is its share.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bench.sampling.measure import Resident, drain, peak, reset_peak
from bench.sampling.records import COUNTS, Nfe

STAGES = ("prepare", "encode", "noise", "sampling", "decode", "select")
"""prepare: loading, untimed in an image's own cost; select: judging among candidates."""
UNTIMED = "prepare"


class Cost:
    """What a batch of n images cost, by stage."""

    def __init__(self, n: int):
        self.n = n
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, int] = {}
        self._counts: dict[str, list[dict[str, float]]] = {}

    def add(self, stage: str, images: Sequence[int], kind: str, amount: float) -> None:
        rows = self._counts.setdefault(stage, [{} for _ in range(self.n)])
        for i in images:
            rows[i][kind] = rows[i].get(kind, 0.0) + amount

    def nfe(self, i: int, stage: str | None = None) -> Nfe:
        """Evaluations of image i in a stage, or in all of them."""
        stages = [stage] if stage else list(self._counts)
        sums = dict.fromkeys(COUNTS, 0.0)
        for name in stages:
            for kind, amount in (self._counts[name][i] if name in self._counts else {}).items():
                if kind in sums:
                    sums[kind] += amount
        return Nfe(**sums, at_most=False)

    def ms(self, stage: str) -> float:
        """Milliseconds an image in a stage: its share of the batch."""
        return 1000 * self.seconds.get(stage, 0.0) / self.n

    def record(self, i: int) -> dict[str, dict[str, float]]:
        """Image i's cost as stored: by stage, counts that are not zero, `ms` and `peak_bytes`."""
        found: dict[str, dict[str, float]] = {}
        for stage in (s for s in STAGES if s in self._counts or s in self.seconds):
            counts = self._counts[stage][i] if stage in self._counts else {}
            row = {k: int(v) if v == int(v) else v for k, v in sorted(counts.items()) if v}
            if stage in self.seconds:
                row["ms"] = round(self.ms(stage), 6)
            if stage in self.peak:
                row["peak_bytes"] = self.peak[stage]
            if row:
                found[stage] = row
        return found


class Meter:
    """Hooks on a model's networks that count and time for the batch in work."""

    def __init__(self, modules: Mapping[str, Any], device: str):
        """`modules` are the networks by role: `denoiser`, `vae`, and text encoders by name."""
        self.device = device
        self.inside: dict[str, float] = {}
        """Seconds inside each role's network since the meter was made."""
        self.cost = Cost(0)
        self.images: Sequence[int] = ()
        """Places in the batch that calls count for now."""
        self.stage_name = UNTIMED
        self.resident: Resident | None = None
        """Measures each stage's memory, in a process that is there for nothing else (`bench.runner.memory`)."""
        self._hooked: dict[int, str] = {}
        """Roles by the identity of networks that have hooks."""
        self._started: dict[str, float] = {}
        self._depth = 0
        self._handles: list[Any] = []
        self.rebind(modules)

    def rebind(self, modules: Mapping[str, Any]) -> None:
        """Hook the networks that have no hooks yet: a model may wear another denoiser than before."""
        for role, module in modules.items():
            if id(module) in self._hooked:
                continue
            self._hooked[id(module)] = role
            if role == "vae":
                self._wrap_decode(module)
                continue
            self._handles.append(module.register_forward_pre_hook(lambda m, a, r=role: self._enter(r, a)))
            self._handles.append(module.register_forward_hook(lambda m, a, o, r=role: self._leave(r)))

    def begin(self, n: int) -> Cost:
        """A fresh record for a batch of n images."""
        self.cost, self.images = Cost(n), range(n)
        return self.cost

    def close(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens within counts for this stage."""
        before, self.stage_name = self.stage_name, name
        drain(self.device)
        reset_peak(self.device)
        if self.resident is not None:
            self.resident.start()
        started = time.perf_counter()
        try:
            yield
        finally:
            drain(self.device)
            seconds = self.cost.seconds
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
            self.cost.peak[name] = max(self.cost.peak.get(name, 0), peak(self.device)[0])
            if self.resident is not None:
                self.resident.stop(name)
            self.stage_name = before

    @contextmanager
    def only(self, images: Sequence[int]) -> Iterator[None]:
        """What happens within counts for these images of the batch."""
        before, self.images = self.images, images
        try:
            yield
        finally:
            self.images = before

    def count(self, kind: str, amount: float = 1.0) -> None:
        """`amount` for each image in work."""
        self.cost.add(self.stage_name, self.images, kind, amount)

    @contextmanager
    def foreign(self) -> Iterator[None]:
        """Within, the outermost call of any network that is not the model's own counts as an extra network's."""
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

        depth = self._depth
        handles = (
            register_module_forward_pre_hook(self._enter_any),
            register_module_forward_hook(self._leave_any, always_call=True),
        )
        try:
            yield
        finally:
            self._depth = depth
            for handle in handles:
                handle.remove()

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Within, calls of other networks do not count as such: they are counted as what they are for."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def _enter_any(self, module: Any, given: Any) -> None:
        if self._depth == 0 and id(module) not in self._hooked:
            self.count("networks")
            self.count(f"network:{type(module).__name__}")
        self._depth += 1

    def _leave_any(self, module: Any, given: Any, output: Any) -> None:
        self._depth -= 1

    def _enter(self, role: str, given: tuple[Any, ...]) -> Any:
        self._started[role] = time.perf_counter()
        if role != "denoiser" or not self.images:
            return None
        self.count("forwards")
        self.count("rows", len(given[0]) / len(self.images))
        return self._with_backward(given)

    def _with_backward(self, given: tuple[Any, ...]) -> Any:
        """The inputs with a mark that counts when a gradient has passed through this call."""
        import torch

        x = given[0]
        if not (torch.is_grad_enabled() and x.requires_grad):
            return None
        marked, images = x.view_as(x), self.images

        def passed(gradient: Any) -> None:
            self.cost.add(self.stage_name, images, "backwards", 1.0)

        marked.register_hook(passed)
        return (marked, *given[1:])

    def _leave(self, role: str) -> None:
        self.inside[role] = self.inside.get(role, 0.0) + time.perf_counter() - self._started[role]

    def _wrap_decode(self, module: Any) -> None:
        """`vae.decode` is a method, not a forward call; hooks do not see it."""
        inner, handle = module.decode, _Handle()

        def timed(*args: Any, **kwargs: Any) -> Any:
            if handle.removed:
                return inner(*args, **kwargs)
            self._started["vae"] = time.perf_counter()
            self.count("decodes")
            try:
                with self.uncounted():
                    return inner(*args, **kwargs)
            finally:
                self._leave("vae")

        module.decode = timed
        self._handles.append(handle)


class _Handle:
    """What takes a wrapper out of use; meters of one model may be closed in any order, so it stays in its place."""

    removed = False

    def remove(self) -> None:
        self.removed = True
