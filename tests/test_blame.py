"""Who is to blame for what goes wrong in a batch: the method, the arm, one image, or what all arms have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from blamed import generated, made
from breaking import break_network
from conftest import Plug
from kept_models import kept
from kept_models import kept_models as kept_models

from bench import registry
from bench.errors import MethodFault
from bench.methods.base import Method
from bench.models.pipeline import PipelineFamily
from bench.runner.faults import FAR
from bench.sampling.records import Sampling
from bench.sampling.session import Step
from bench.store import Ledger

pytestmark = pytest.mark.usefixtures("kept_models")
HERE = Path(__file__).name


# The method ---------------------------------------------------------------------------------------------------------


class Misled(Method):
    """Asks the network for something it cannot do: the error is torch's, and its own."""

    def noise(self, s: Any, x: Any) -> Any:
        return s.predict(x[:, :2], s.timesteps[0]).eps


class Refining(Method):
    """Fails in its own code after the rest of the step has been made."""

    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        done = following(x)
        return torch.cat([done.x, done.x[:, :1]]).view(-1)[10**9]


class Guiding(Method):
    """Fails within the rest of another method's step."""

    def guide(self, s: Any, i: int, pred: Any) -> Any:
        raise ValueError("no guidance today")


class GivesNothing(Method):
    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        following(x)


class GivesLess(Method):
    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        return following(x).x[:1]


class HandsOnLess(Method):
    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        return following(x[:, :2])


class GuidesLess(Method):
    """What torch would spread over the batch without a word."""

    def guide(self, s: Any, i: int, pred: Any) -> Any:
        return pred.eps.mean(0, keepdim=True)


OWN = {"misled": (Misled, "RuntimeError: "), "refining": (Refining, "RuntimeError: "),
       "guiding": (Guiding, "ValueError: no guidance")}  # fmt: skip
LATENTS = "expected latents of shape (2, 4, 8, 8)"
SHAPES = {
    "gives_nothing": (GivesNothing, f"its step gave a NoneType; {LATENTS}"),
    "gives_less": (GivesLess, f"its step gave shape (1, 4, 8, 8); {LATENTS}"),
    "hands_on_less": (HandsOnLess, f"its step handed on shape (2, 2, 8, 8); {LATENTS}"),
    "guides_less": (GuidesLess, f"its guidance gave shape (1, 4, 8, 8); {LATENTS}"),
}
"""By name a method, and the reason of its images."""


@pytest.fixture(scope="module")
def reasons(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, list[str]]:
    """Reasons by arm of one run of all of these methods, between two that are sound and have all of their images."""
    odd = {name: method for name, (method, _) in (OWN | SHAPES).items()}
    with registry.configured("methods", odd), kept():
        there, found = generated(tmp_path_factory.mktemp("odd"), ["standard", *odd, "inversion"])
    assert there == {"standard": 2, **dict.fromkeys(odd, 0), "inversion": 2}
    return found


@pytest.mark.parametrize("name", OWN)
def test_what_a_method_calls_goes_to_its_account_with_its_own_line(name: str, reasons: dict[str, list[str]]) -> None:
    _, reason = OWN[name]
    assert len(reasons[name]) == 2
    assert all(said.startswith(reason) and f"({HERE}:" in said for said in reasons[name]), reasons[name]


@pytest.mark.parametrize("name", SHAPES)
def test_a_hook_that_gives_no_latents_of_the_batch_fails_its_arm(name: str, reasons: dict[str, list[str]]) -> None:
    assert reasons[name] == [SHAPES[name][1]] * 2


# The arm ------------------------------------------------------------------------------------------------------------


class Rising(Method):
    """Timesteps that no scheduler walks, which is unknown before it is asked."""

    def sampling(self, p: Sampling) -> Sampling:
        from dataclasses import replace

        return replace(p, steps=3, timesteps=(1, 500, 900))


class Unheard(Method):
    """A setting that the scheduler refuses."""

    def sampling(self, p: Sampling) -> Sampling:
        return p.with_settings(timestep_spacing="backwards")


@pytest.mark.parametrize(
    ("method", "reason"), [(Rising, "must be in descending order"), (Unheard, "backwards is not supported")]
)
@pytest.mark.parametrize("first", [True, False])
def test_what_a_library_refuses_of_one_arms_sampling_costs_that_arm_alone(
    method: type[Method], reason: str, first: bool, tmp_path: Path, plug: Plug
) -> None:
    """Also where the arm is the first of its model, so that the throwaway batch is made before it."""
    arms = ("odd", "standard") if first else ("standard", "odd")
    there, reasons = made(method, tmp_path, plug, sampler="ddpm", arms=arms)
    assert there == {"standard": 2, "odd": 0}
    assert all(reason in said and "(scheduling_ddpm.py:" in said for said in reasons), reasons


# What all arms have in common ---------------------------------------------------------------------------------------


class Innocent(Method):
    """Its hooks are done, or have handed on, when the network breaks."""

    def noise(self, s: Any, x: Any) -> Any:
        return -x

    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        return following(x)


class Onlooker(Method):
    def noise(self, s: Any, x: Any) -> Any:
        return -x


@pytest.mark.parametrize(("method", "kind"), [(Innocent, ValueError), (Onlooker, RuntimeError)])
def test_a_network_that_breaks_in_the_loop_is_no_methods_fault(
    method: type[Method], kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    """It would break in every arm: no image is said to have failed by its method, and the error comes out."""
    # The throwaway batch, the baseline's batch, and the second call of the next.
    break_network(monkeypatch, at=2 + 3 + 2, error=kind("the library is at fault"))
    with pytest.raises(kind, match="the library is at fault"):
        made(method, tmp_path, plug)
    ledger = Ledger(tmp_path / "run", read_only=True)
    assert (len(ledger.images()), ledger.failures()) == (2, {}), "what was finished is kept"
    ledger.close()


# One image ----------------------------------------------------------------------------------------------------------


class Loud(Method):
    """Ends with one image's latents finite, and far louder than latents of unit variance, as far as they may be."""

    value: ClassVar[float] = 0.9 * FAR

    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        done = following(x)
        if i < 2:
            return done
        loud = done.x.clone()
        loud[0] = self.value
        return Step(loud, done.pred)


class TooLoud(Loud):
    """Beyond what is decoded."""

    value: ClassVar[float] = 1.1 * FAR


def is_loud(latents: torch.Tensor) -> list[bool]:
    """Of each image, whether its latents are those of `Loud`; those of a sound image are within 100."""
    return [float(one.abs().max()) > 0.5 * FAR for one in latents]


def digests(folder: Path) -> list[str]:
    ledger = Ledger(folder / "run", read_only=True)
    found = [image.digest for image in ledger.images().values()]
    ledger.close()
    return found


def test_an_image_whose_final_latents_are_far_off_fails_alone(tmp_path: Path, plug: Plug) -> None:
    there, (reason,) = made(TooLoud, tmp_path, plug)
    assert there == {"standard": 2, "odd": 1, "inversion": 2}
    assert reason.startswith("its final latents are beyond 10000, where latents of unit variance stay within 10")
    found = digests(tmp_path)
    assert len(found) - len(set(found)) == 1, "the other image of its batch is the baseline's, as it moves nothing"


def test_an_image_whose_pixels_are_not_finite_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    pixels = PipelineFamily.pixels

    def overflowing(self: PipelineFamily, latents: torch.Tensor) -> torch.Tensor:
        """As an autoencoder in half precision gives them, beyond its range."""
        found = pixels(self, latents).clone()
        found[is_loud(latents)] = float("nan")
        return found

    monkeypatch.setattr(PipelineFamily, "pixels", overflowing)
    there, reasons = made(Loud, tmp_path, plug)
    assert there == {"standard": 2, "odd": 1, "inversion": 2}
    assert reasons == ["its pixels are not finite (NaN or infinity); try another guidance or precision"]
    found = digests(tmp_path)
    assert len(found) - len(set(found)) == 1, "the other image of its batch is the baseline's, as it moves nothing"


@pytest.mark.parametrize("kind", [ValueError, IndexError])
def test_a_fault_while_decoding_costs_the_images_of_that_batch(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    pixels = PipelineFamily.pixels

    def picky(self: PipelineFamily, latents: torch.Tensor) -> torch.Tensor:
        if any(is_loud(latents)):
            raise kind("too loud")
        return pixels(self, latents)

    monkeypatch.setattr(PipelineFamily, "pixels", picky)
    there, reasons = made(Loud, tmp_path, plug, batch=1, arms=("standard", "odd"))
    assert there == {"standard": 2, "odd": 0}
    assert len(reasons) == 2
    assert all(said.startswith(f"its pixels cannot be made: {kind.__name__}: too loud ({HERE}:") for said in reasons)


def test_memory_that_runs_out_while_decoding_makes_batches_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    """The throwaway batch still fits, the first one does not."""
    pixels, calls = PipelineFamily.pixels, []

    def full(self: PipelineFamily, latents: torch.Tensor) -> torch.Tensor:
        calls.append(len(latents))
        if len(latents) > 1 and len(calls) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pixels(self, latents)

    monkeypatch.setattr(PipelineFamily, "pixels", full)
    assert made(Onlooker, tmp_path, plug, arms=("standard", "odd")) == ({"standard": 2, "odd": 2}, [])
    assert calls == [2, 2, 1, 1, 1, 1]


def test_a_methods_fault_is_no_mistake_of_the_user() -> None:
    assert MethodFault("x").exit_code == 4
