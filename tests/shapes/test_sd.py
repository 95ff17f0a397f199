"""`shapes-sd`: its smaller autoencoder, its batches, and a training that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import few_scenes
import numpy as np
import pytest
import torch

from bench.shapes import networks, package, places, sd, tasks, training
from bench.shapes.plugin import WEIGHTS
from bench.shapes.tasks import to_tensor

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_smaller_autoencoder_begins_where_the_larger_one_is_the_same() -> None:
    large = package.load_pipeline(WEIGHTS / "shapes-sdxl").vae
    small = sd.smaller_vae(large)
    pairs = (
        (small.encoder.conv_in, large.encoder.conv_in),
        (small.encoder.down_blocks[1], large.encoder.down_blocks[1]),
        (small.encoder.mid_block, large.encoder.mid_block),
        (small.decoder.mid_block, large.decoder.mid_block),
        (small.decoder.up_blocks[0], large.decoder.up_blocks[1]),
        (small.decoder.up_blocks[2], large.decoder.up_blocks[3]),
        (small.decoder.conv_out, large.decoder.conv_out),
    )
    for mine, theirs in pairs:
        found, given = mine.state_dict(), theirs.state_dict()
        assert found
        assert all(torch.equal(v, given[k]) for k, v in found.items())
    images = to_tensor(np.zeros((1, 64, 64, 3), np.uint8))
    assert small.encode(images).latent_dist.mean.shape == (1, *networks.SD_LATENT)
    assert small.decode(torch.zeros(1, *networks.SD_LATENT)).sample.shape == (1, 3, 64, 64)


def test_phases_draw_what_they_say() -> None:
    data, rng, steps = few_scenes.Rows(), np.random.default_rng(3), 10_000

    def drawn(step: int) -> tuple[list[int], np.ndarray, float]:
        rows, t, most = sd.draw_batch(data, rng, step, steps, 1000)
        return [int((rows // 10 == k).sum()) for k in range(4)], t, most

    kinds, t, most = drawn(sd.CLEAR_STEPS - 1)
    assert (kinds, most) == ([700, 300, 0, 0], 50)
    assert t.min() >= places.HIGH
    kinds, t, most = drawn(sd.CLEAR_STEPS)
    assert (kinds, most) == ([0, 250, 150, 600], 10)
    assert 0.6 < (t >= 600).mean() < 0.7  # 0.4, and four tenths of the rest
    kinds, t, most = drawn(round((1 - sd.PLAIN_SHARE) * steps))
    assert (kinds[:2], most) == ([0, 100], 1)
    assert abs(t.mean() - 499.5) < 40


class Start:
    """What the training takes of the cured pipeline."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.vae = networks.vae()
        self.text_encoder = package.text_encoders(networks.clip(), networks.second_text_encoder())[0]


def test_it_resumes_with_the_same_bits_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PROBE_CAPTIONS", 6)
    monkeypatch.setattr(tasks, "LATENT_STATISTICS", 8)  # of the scale of its latents: thousands, and most of the time
    monkeypatch.setattr(places.Data, "__init__", few_scenes.dozen(networks.SD_LATENT))

    def trained(out: Path) -> dict[str, torch.Tensor]:
        found = sd.train_sd(out, Start(), steps=2, vae_steps=1, batch=4, say=said.append)
        *modules, totals = found
        assert totals["vae"]["steps"] == 1
        assert set(totals["unet_and_text_encoder"]["reversed_loss_rise"]) == {"clear", "colored", "plain"}
        return {f"{i}.{k}": v for i, m in enumerate(modules) for k, v in m.state_dict().items()}

    said: list[str] = []
    whole, draw = trained(tmp_path / "whole"), sd.draw_batch

    def dying(data: Any, rng: np.random.Generator, step: int, steps: int, batch: int) -> Any:
        if step == 1:
            raise KeyboardInterrupt
        return draw(data, rng, step, steps, batch)

    with monkeypatch.context() as killed:
        killed.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        killed.setattr(sd, "draw_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "parts")
    parts = trained(tmp_path / "parts")
    assert "sd: resuming at step 1" in said
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    assert any(not torch.equal(v, w) for v, w in zip(whole.values(), _untrained(), strict=True))


def _untrained() -> list[torch.Tensor]:
    start = Start()
    modules = (sd.smaller_vae(start.vae), networks.sd_unet(), start.text_encoder)
    return [v for m in modules for v in m.state_dict().values()]


def test_a_saved_pipeline_is_what_the_adapter_loads(tmp_path: Path) -> None:
    start = Start()
    folder = tmp_path / "sd"
    package.save_sd_pipeline(folder, vae=sd.smaller_vae(start.vae), unet=networks.sd_unet(), encoder=start.text_encoder)
    pipeline = package.load_pipeline(folder)
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    assert pipeline.vae_scale_factor == 4
    image = pipeline("a star", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 64, 64, 3)
