"""The loop itself: diffusers' own scheduler step by step, with the hooks of methods around each step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import MethodFault
from bench.sampling import noise
from bench.sampling.prediction import Prediction, Step

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Session


class Loop:
    """One pass of a session: its scheduler with that scheduler's state, and the images' generators."""

    def __init__(self, session: Session):
        self.session, self.schedule = session, session.schedule
        self.scheduler = session.schedule.scheduler()
        if session.family.sets_begin_index and hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(0)
        self.timesteps = self.scheduler.timesteps
        taken = inspect.signature(self.scheduler.step).parameters
        self.extra: dict[str, Any] = {"eta": 0.0} if "eta" in taken else {}
        if "generator" in taken:
            self.extra["generator"] = [noise.generator(i.prompt.text, i.seed, "sampler") for i in session.items]
        method = session.method
        self.wraps = method is not None and method.wraps_step()
        self.guides = method is not None and method.sets_guidance()
        self.both = session.sampling.guided or (method is not None and method.reads_unconditional())

    def entry(self, t: float) -> int:
        """The first call of the loop at timestep t, the scheduler being put there."""
        i = self.schedule.entries.index(t)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(i)
        return i

    def step(self, latents: torch.Tensor, i: int) -> torch.Tensor:
        """The scheduler's latents after call i."""
        if not self.wraps:
            return self._advance(latents, i)[0]
        session = self.session
        stretch = self._stretch(i)
        state = _copied(vars(self.scheduler))
        given = latents.float() if stretch == 1.0 else latents.float() / stretch
        ends: list[tuple[torch.Tensor, torch.Tensor]] = []

        def following(x: torch.Tensor, at: int | None = None, /) -> Step:
            _check_fits(x, given, "its step handed on")
            # A step taken again starts from the scheduler as it was before the first.
            vars(self.scheduler).update(_copied(state))
            place = i if at is None else at
            if place != i and hasattr(self.scheduler, "_step_index"):
                self.scheduler._step_index = place
            native = latents if x is given and place == i else (x.to(latents.dtype) * self._stretch(place))
            new, pred = self._advance(native, place)
            end = self._stretch(place + 1)
            canonical = new.float() if end == 1.0 else new.float() / end
            ends[:] = [(canonical, new)]
            return Step(canonical, pred)

        with session.meter.foreign():
            done = session.method.step(session, given, i, following)
        x = done.x if isinstance(done, Step) else done
        if ends and x is ends[0][0]:
            return ends[0][1]
        _check_fits(x, given, "its step gave")
        return x.to(latents.dtype) * self._stretch(i + 1)

    def _stretch(self, i: int) -> float:
        """The scheduler's latents over canonical ones before call i, in the state that it is in."""
        import torch

        if not self.schedule.sampler.variance_exploding or i >= len(self.timesteps):
            return 1.0
        one = torch.ones(1, device=self.timesteps.device)
        return 1.0 / float(self.scheduler.scale_model_input(one, self.timesteps[i]))

    def _advance(self, latents: torch.Tensor, i: int) -> tuple[torch.Tensor, Prediction]:
        session, t = self.session, self.timesteps[i]
        read = self.scheduler.scale_model_input(latents, t)
        cond, uncond = session._outputs(read, t, both=self.both, call=i)
        g = session.sampling.guidance
        pred = Prediction(self.schedule, read, float(t), cond, uncond, session.guidance)
        if not self.guides:
            said = cond if uncond is None or not session.sampling.guided else uncond + g * (cond - uncond)
            return self._scheduled(said, t, latents), pred
        with session.meter.foreign():
            given = session.method.guide(session, i, pred)
        for one in given if isinstance(given, tuple) else (given,):
            _check_fits(one, read, "its guidance gave")
        if not isinstance(given, tuple):
            said = self.schedule.output_of(given, read, float(t)).to(cond.dtype)
            return self._scheduled(said, t, latents), pred
        return self._first_order(read, i, *given).to(latents.dtype), pred

    def _scheduled(self, output: torch.Tensor, t: Any, latents: torch.Tensor) -> torch.Tensor:
        new: torch.Tensor = self.scheduler.step(output, t, latents, **self.extra, return_dict=False)[0]
        return new

    def _first_order(self, x: torch.Tensor, i: int, of_x0: torch.Tensor, of_move: torch.Tensor) -> torch.Tensor:
        """DDIM's step with one noise prediction for x_0 and another for the move; the scheduler's own latents."""
        (a, s), (to_a, to_s) = self.schedule.at(i), self.schedule.at(i + 1)
        x0 = (x - s * of_x0) / a
        if getattr(self.scheduler, "_step_index", None) is not None:
            self.scheduler._step_index += 1  # what the scheduler's own step would have done
        return (to_a * x0 + to_s * of_move) * self._stretch(i + 1)


def _check_fits(given: Any, like: torch.Tensor, said: str) -> None:
    """MethodFault where a hook gave no latents of the batch: a library would complain, or spread them."""
    if tuple(getattr(given, "shape", ())) != tuple(like.shape):
        what = f"shape {tuple(given.shape)}" if hasattr(given, "shape") else f"a {type(given).__name__}"
        raise MethodFault(f"{said} {what}; expected latents of shape {tuple(like.shape)}")


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's attributes; its lists are changed in place by its steps, so they are copied."""
    return {k: list(v) if isinstance(v, list) else v for k, v in state.items()}
