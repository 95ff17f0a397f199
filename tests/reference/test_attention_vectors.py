"""Our attention losses against what the public InitNO and Attend-and-Excite make of the same attention (attention.py).

All in fp32. Losses and maps agree to 2e-6, gradients and latents to 2e-5 of their largest value: both sides add up the
same numbers in another order. InitNO's refined latents agree to 2e-4: the alignment term's gradient is the sign of a
difference, which at pixels that hardly changed is the sign of a rounding error (without the term it would be 2e-7).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from attention import CASES, Toy
from scipy import ndimage
from stored import Vectors, found

from bench.methods import attention_losses as losses

FILES = found("attention")
INITNO = [path for path in FILES if "-initno-" in path.name]
ATTEND = [path for path in FILES if "-attend-" in path.name]


class Case:
    """One case of a file: its network, its latents and what the public code made of them."""

    def __init__(self, vectors: Vectors, name: str) -> None:
        self.stored = {k.removeprefix(f"{name}_"): v for k, v in vectors.items() if k.startswith(f"{name}_")}
        self.toy = Toy({k.removeprefix("weight_"): self[k] for k in self.stored if k.startswith("weight_")})
        self.tokens = [[int(i) for i in self.stored["tokens"]]]
        self.latents = self["latents"]

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.stored[name])

    def look(
        self, latents: torch.Tensor, ends: list[int] | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Token maps, subject maps and self-attention of one call."""
        cross, own = self.toy.attention(latents, self.toy.weights["text"])
        maps = losses.token_maps(cross.mean(0, keepdim=True), ends=ends)
        return maps, losses.subject_maps(maps, self.tokens, as_released=True), own.mean(0, keepdim=True)

    def value_agrees(self, name: str, ours: torch.Tensor) -> None:
        np.testing.assert_allclose(ours.detach().squeeze(), self.stored[name].squeeze(), rtol=2e-6, atol=2e-6)

    def tensor_agrees(self, name: str, ours: torch.Tensor, *, tolerance: float = 2e-5) -> None:
        theirs = self.stored[name]
        np.testing.assert_allclose(ours.detach(), theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def cases(files: list[Path]) -> pytest.MarkDecorator:
    pairs = [(path, name) for path in files for name in CASES]
    return pytest.mark.parametrize(("path", "name"), pairs, ids=[f"{path.stem}-{name}" for path, name in pairs])


@pytest.mark.skipif(bool(os.environ.get("NOISEBENCH_VECTORS")), reason="another folder may hold one family alone")
def test_the_vectors_are_there() -> None:
    assert INITNO
    assert ATTEND
    for path in FILES:
        assert path.stat().st_size < 300_000
        assert {"repository", "commit", "file", "licence", "function", "seed"} <= Vectors(path).origin.keys()


@cases(INITNO)
def test_initnos_maps_and_regions(path, name):
    case = Case(Vectors(path), name)
    _, (subjects,), _ = case.look(case.latents)
    case.value_agrees("maps", subjects)
    for image, region in zip(subjects, case.stored["regions"], strict=True):
        # The region is not part of our interface: it is what the loss leaves untouched.
        level = losses.otsu_level((image * 255).to(torch.int64).numpy()) / 255
        labels, _ = ndimage.label((image >= level).numpy())
        peak = np.unravel_index(int(image.argmax()), image.shape)
        np.testing.assert_array_equal(labels == labels[peak], region > 0)


@cases(INITNO)
def test_initnos_losses_and_gradient(path, name):
    case = Case(Vectors(path), name)
    latents = case.latents.clone().requires_grad_()
    _, subjects, own = case.look(latents)
    ours = losses.noise_losses(subjects, own, as_released=True)
    for field in ("joint", "cross", "conflict"):
        case.value_agrees(field, getattr(ours, field))
    case.tensor_agrees("gradient", torch.autograd.grad(ours.joint.sum(), latents)[0])


@cases(INITNO)
def test_initnos_noise_after_its_steps(path, name):
    case = Case(Vectors(path), name)
    log_var, mu = (torch.zeros_like(case.latents).requires_grad_() for _ in range(2))
    adam = torch.optim.Adam([log_var, mu], lr=1e-2, eps=1e-3)
    for _ in range(3):
        _, subjects, own = case.look(case.latents * (log_var / 2).exp() + mu)
        ours = losses.noise_losses(subjects, own, as_released=True)
        if ours.cross < losses.CROSS_TARGET and ours.conflict < losses.SELF_TARGET:
            break
        adam.zero_grad()
        ours.joint.sum().backward()
        adam.step()
        while (kl := losses.kl_loss(mu, log_var).sum()) > losses.KL_LIMIT:
            adam.zero_grad()
            kl.backward()
            adam.step()
    case.tensor_agrees("optimised", case.latents * (log_var / 2).exp() + mu)
    case.value_agrees("score", losses.round_scores(ours.cross, ours.conflict))


@cases(INITNO)
def test_initnos_refinement(path, name):
    case = Case(Vectors(path), name)
    average, x = None, case.latents
    for iteration in range(4):
        x = x.detach().requires_grad_()
        maps, subjects, own = case.look(x)
        average = losses.running_maps(average, maps)
        mean = losses.subject_maps(average, case.tokens, as_released=True)
        ours = losses.refinement_losses(subjects, own, mean, as_released=True)
        if iteration < 3:
            x = x - 2 * torch.autograd.grad(ours.joint.sum(), x)[0]
    case.tensor_agrees("refined", x, tolerance=2e-4)
    for field in ("joint", "cross", "conflict", "clean"):
        case.value_agrees(f"refined_{field}", getattr(ours, field))


@pytest.mark.parametrize("path", INITNO, ids=lambda path: path.stem)
def test_initnos_kl(path):
    v = Vectors(path)
    ours = losses.kl_loss(torch.from_numpy(v["mu"]), torch.from_numpy(v["log_var"]))
    assert ours.item() == pytest.approx(float(v["kl"]), rel=2e-6)


@cases(ATTEND)
@pytest.mark.parametrize("option", ["", "eot_"], ids=["sd1", "sd21"])
def test_attend_and_excites_loss_and_moves(path, name, option):
    case = Case(Vectors(path), name)
    ends = [int(case.stored["end"])] if option else None

    def loss_at(x: torch.Tensor) -> torch.Tensor:
        return losses.cross_loss(case.look(x, ends)[1])

    x = case.latents.clone().requires_grad_()
    case.value_agrees(f"{option}peaks", case.look(x, ends)[1][0].amax((1, 2)))
    case.value_agrees(f"{option}loss", loss_at(x))
    case.tensor_agrees(f"{option}moved", x - losses.step_sizes(50)[0] * torch.autograd.grad(loss_at(x).sum(), x)[0])
    for _ in range(3):
        x = x.detach().requires_grad_()
        x = x - 2 * torch.autograd.grad(loss_at(x).sum(), x)[0]
    case.tensor_agrees(f"{option}refined", x)
    case.value_agrees(f"{option}after", loss_at(x))
