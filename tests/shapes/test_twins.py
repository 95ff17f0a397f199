"""The few-step student, the LCM adapter, the preference-tuned denoiser and the judge that it follows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.models.base import check_folder
from bench.shapes import dpo, lcm, networks, package, stylist, teacher, training, turbo
from bench.shapes.plugin import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """The shipped pipeline, of which no test changes a weight."""
    return package.load_pipeline(WEIGHTS / "shapes-sdxl")


@pytest.fixture(scope="module")
def drawings() -> teacher.Drawings:
    """Trajectories of eight captions' noise that lead nowhere in particular."""
    rng = np.random.default_rng(1)
    random = torch.Generator().manual_seed(1)
    states = torch.randn(16, 5, *networks.LATENT, generator=random)
    embeds, pooled = torch.randn(8, 24, 128, generator=random), torch.randn(8, 64, generator=random)
    return teacher.Drawings(teacher.captions_of(rng, 8), states, embeds, pooled)


# The teacher's drawings ---------------------------------------------------------------------------------------------


def test_four_steps_end_where_twenty_do() -> None:
    many, few = teacher.scheduler(), teacher.scheduler()
    many.set_timesteps(teacher.STEPS)
    few.set_timesteps(teacher.JUMPS)
    assert few.timesteps.tolist() == many.timesteps[:: teacher.STEPS // teacher.JUMPS].tolist() == [999, 749, 499, 249]


def test_a_trajectory_is_what_the_pipeline_draws(pipeline: Any, tmp_path: Path) -> None:
    made = teacher.drawings(tmp_path, pipeline, chunks=1, captions=1, say=lambda line: None)
    assert made.states.shape == (2, 5, *networks.LATENT)
    pipeline.scheduler = teacher.scheduler()
    drawn = pipeline(
        prompt=[made.captions[0].prompt] * 2,
        latents=made.states[:, 0],
        num_inference_steps=teacher.STEPS,
        guidance_scale=teacher.GUIDANCE,
        output_type="latent",
    ).images
    assert torch.allclose(drawn, made.states[:, -1], atol=1e-4)


def test_drawings_go_on_where_they_were_killed(pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "STEPS", 4)
    made: dict[str, Any] = {"chunks": 2, "captions": 2, "say": lambda line: None}
    whole, draw, calls = teacher.drawings(tmp_path / "whole", pipeline, **made), teacher.draw, []

    def dying(*args: Any) -> torch.Tensor:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(teacher, "draw", dying)
    with pytest.raises(KeyboardInterrupt):
        teacher.drawings(tmp_path / "parts", pipeline, **made)
    parts = teacher.drawings(tmp_path / "parts", pipeline, **made)
    assert len(calls) == 3
    assert torch.equal(whole.states, parts.states)
    assert torch.equal(whole.embeds, parts.embeds)


# The few-step student -----------------------------------------------------------------------------------------------


def test_a_jump_is_a_step_of_the_scheduler() -> None:
    steps = teacher.scheduler()
    steps.set_timesteps(teacher.JUMPS)
    x, noise = torch.randn(2, 3, *networks.LATENT)
    times, a, c = turbo.jumps()
    assert times.tolist() == steps.timesteps.tolist()
    for i, t in enumerate(steps.timesteps):
        assert torch.allclose(steps.step(noise, t, x).prev_sample, a[i] * x + c[i] * noise, atol=1e-5)


def test_the_student_ends_the_same_when_it_was_killed_on_the_way(
    drawings: teacher.Drawings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, calls = teacher.Drawings.words, 0

    class Start:
        def __init__(self) -> None:
            torch.manual_seed(2)
            self.unet = networks.unet()

    def trained(out: Path) -> dict[str, torch.Tensor]:
        unet, totals = turbo.train_turbo(out, Start(), drawings, steps=2, batch=2, say=said.append)
        assert totals["steps"] == 2
        return dict(unet.state_dict())

    def dying(self: teacher.Drawings, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return words(self, rows)

    said: list[str] = []
    whole = trained(tmp_path / "whole")
    with monkeypatch.context() as killed:
        killed.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        killed.setattr(teacher.Drawings, "words", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "parts")
    parts = trained(tmp_path / "parts")
    assert "turbo: resuming at step 1" in said
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_the_students_loss_falls(drawings: teacher.Drawings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []

    def spy(name: str, modules: Any, loss: Any, **settings: Any) -> dict[str, float]:
        def recorded(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
            values: dict[str, torch.Tensor] = loss(np.random.default_rng(0), step)
            losses.append(float(values["loss"].detach()))
            return values

        return training.train(name, modules, recorded, **settings)

    class Start:
        unet = networks.unet()

    monkeypatch.setattr(turbo, "train", spy)
    turbo.train_turbo(tmp_path, Start(), drawings, steps=10, batch=2, say=lambda line: None)
    assert losses[-1] < 0.8 * losses[0]


# The preference-tuned denoiser --------------------------------------------------------------------------------------


def test_the_dpo_loss_is_the_papers_on_hand_numbers() -> None:
    """-log sigmoid(-beta ((won - won before) - (lost - lost before)))."""
    loss = dpo.dpo_loss(*(torch.tensor([v]) for v in (0.1, 0.3, 0.2, 0.25)), beta=10.0)
    # (0.1 - 0.2) - (0.3 - 0.25) = -0.15; times -10 is 1.5
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1.5)), rel=1e-5)
    unchanged = dpo.dpo_loss(*(torch.tensor([v]) for v in (0.2, 0.25, 0.2, 0.25)))
    assert float(unchanged) == pytest.approx(math.log(2))


def test_the_dpo_loss_pulls_to_the_winner_and_away_from_the_loser() -> None:
    won, lost = (torch.tensor([0.2], requires_grad=True) for _ in range(2))
    dpo.dpo_loss(won, lost, torch.tensor([0.2]), torch.tensor([0.2]), beta=4.0).backward()
    assert won.grad is not None
    assert lost.grad is not None
    assert float(won.grad) == pytest.approx(2.0)  # beta times sigmoid(0)
    assert float(lost.grad) == pytest.approx(-2.0)


def test_each_caption_has_a_winner_and_a_loser_and_the_better_one_wins_more_often(
    drawings: teacher.Drawings, pipeline: Any
) -> None:
    won, lost = dpo.winners(pipeline.vae, drawings)
    assert sorted([*won, *lost]) == list(range(16))
    assert (won // 2 == lost // 2).all()
    black_white = np.zeros((400, 4, 4, 3), np.uint8)
    black_white[:, :2] = 255
    grey = np.full_like(black_white, 120)
    votes = stylist.votes(black_white, grey, np.random.default_rng(3))
    assert votes.mean() > 0.99
    assert 0.4 < stylist.votes(grey, grey, np.random.default_rng(3)).mean() < 0.6


def test_the_stylist_on_images_whose_style_is_plain_to_see() -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    images[0, :2] = 255  # half white, half black
    images[1] = (255, 0, 0)
    images[2] = 77
    assert stylist.contrast(images) == pytest.approx([0.5, 0, 0], abs=1e-9)
    assert stylist.vividness(images) == pytest.approx([0, 1, 0])
    assert stylist.style(images) == pytest.approx([stylist.CONTRAST / 2, stylist.VIVID, 0], abs=1e-6)


# The LCM adapter ----------------------------------------------------------------------------------------------------


def test_the_answer_at_timestep_0_is_the_latent_and_elsewhere_the_schedulers() -> None:
    from diffusers import LCMScheduler

    scheduler = LCMScheduler.from_config(networks.scheduler().config)
    t = torch.tensor([0, 1, 19, 500, 999])
    skip, out = lcm.boundary(t)
    assert (float(skip[0]), float(out[0])) == (1, 0)
    for i, one in enumerate(t):
        theirs = scheduler.get_scalings_for_boundary_condition_discrete(one)
        assert (float(skip[i]), float(out[i])) == pytest.approx(tuple(float(v) for v in theirs))


def test_a_saved_adapter_is_what_a_pipeline_loads(drawings: teacher.Drawings, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pipeline = package.load_pipeline(WEIGHTS / "shapes-sdxl")
    given = drawings.states[:2, 0], torch.tensor([999, 400]), *drawings.words(torch.tensor([0, 2]))
    with torch.no_grad():
        plain = teacher.denoise(pipeline.unet, *given)
        lcm.add_lora(pipeline.unet)
        for name, p in pipeline.unet.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.full_like(p, 0.01))
        adapted = teacher.denoise(pipeline.unet, *given)
        lcm.save_lora(tmp_path, pipeline.unet)
        other = package.load_pipeline(WEIGHTS / "shapes-sdxl")
        package.load_lora(other, tmp_path)
        loaded = teacher.denoise(other.unet, *given)
    assert [p.name for p in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]
    assert (adapted - plain).abs().max() > 0.02
    assert torch.allclose(loaded, adapted, atol=0.02 * float((adapted - plain).abs().max()))


# What is shipped ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(p.name for p in WEIGHTS.iterdir() if p.is_dir()))
def test_every_shipped_folder_is_what_its_card_says(folder: str) -> None:
    card = package.read_card(WEIGHTS / folder)
    assert card["name"] == folder
    assert card["command"].startswith("python -m bench.shapes")
    assert card["bytes"] == sum((WEIGHTS / folder / f).stat().st_size for f in card["files"])
    check_folder(WEIGHTS / folder)


def test_every_embedded_metric_says_what_decides_its_scores() -> None:
    digests = {n: registry.get("metrics", n).digest() for n in registry.names("metrics") if n.startswith("shapes-")}
    assert len(set(digests.values())) == len(digests) >= 11


def test_all_weights_together_stay_small() -> None:
    assert sum(p.stat().st_size for p in WEIGHTS.rglob("*") if p.is_file()) < 60e6
