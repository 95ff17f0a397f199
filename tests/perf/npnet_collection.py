"""Noise pairs a second: `npnet collect` against a loop that collects one prompt at a time, as the released script does.

    python tests/perf/npnet_collection.py [--pairs 200] [--loop-pairs 30] [--threads N]

Both make the same pairs of the embedded world from the same latents in one process, in turns (loop, collect, loop,
collect), with the same scorers, and both keep the images. The loop runs the plain pipeline at batch 1, both arms from
scratch, with re-denoise sampling's two calls before the second. Target noise must agree to fp16, images to one grey
level. The last line is the ratio, by the clock and by processor time: the latter holds on a machine that others use.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("shapes-clipscore", "shapes-aesthetic", "shapes-geneval")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200, help="pairs that `collect` makes in each turn")
    parser.add_argument("--loop-pairs", type=int, default=30, help="pairs that the loop makes in each turn")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    import torch

    from npnet import config
    from npnet.pairs import collect, dataset
    from npnet.pairs.collection import CollectConfig, plan

    if options.threads:
        torch.set_num_threads(options.threads)
    preset = Path(config.__file__).parent / "configs" / "shapes.yaml"
    set_ = [f"pairs={options.pairs}", f"metrics=[{', '.join(METRICS)}]"]
    clock, processor = Rates(time.perf_counter), Rates(time.process_time)
    noise_off, image_off = 0.0, 0
    loop = Loop()
    for turn in range(2):
        settings = config.load(preset, CollectConfig, overrides=[*set_, f"seeds=[{100 * turn}, {100 * turn + 99}]"])
        planned = plan(settings)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with clock.of("loop", options.loop_pairs), processor.of("loop", options.loop_pairs):
                targets = [loop.pair(folder, k, *planned.pair(k), settings.steps) for k in range(options.loop_pairs)]
            # Loading model and scorers is in it: a large collection does that once, the loop here had it for nothing.
            with clock.of("collect", options.pairs), processor.of("collect", options.pairs):
                collect.run(settings, out=folder / "pairs", device="cpu", say=lambda _: None)
            (shard, *_) = dataset.read(folder / "pairs")[1]
            for k, target in enumerate(targets):
                noise_off = max(noise_off, float(np.abs(shard.target[k].astype(float) - target).max()))
                for side in dataset.SIDES:
                    ours = pixels(dataset.image_path(folder / "pairs", k, side))
                    image_off = max(image_off, int(np.abs(ours - pixels(folder / f"{k}-{side}.png")).max()))
    print(
        f"threads {torch.get_num_threads()}; largest differences: noise {noise_off:.4f}, images {image_off} grey levels"
    )
    for title, rates in (("by the clock", clock), ("by processor time", processor)):
        for arm, values in rates.found.items():
            print(f"{arm}: {', '.join(f'{v:.2f}' for v in values)} pairs/s {title}")
    print(f"ratio: {clock.ratio():.2f} by the clock, {processor.ratio():.2f} by processor time")
    if image_off > 1 or noise_off > 0.01:
        raise SystemExit("the pairs differ from the loop's")


class Rates:
    """Pairs a second of each arm, turn by turn, by one clock."""

    def __init__(self, now: Callable[[], float]):
        self.now = now
        self.found: dict[str, list[float]] = {}

    @contextmanager
    def of(self, arm: str, pairs: int) -> Iterator[None]:
        started = self.now()
        yield
        self.found.setdefault(arm, []).append(pairs / (self.now() - started))

    def ratio(self) -> float:
        return float(np.mean(self.found["collect"]) / np.mean(self.found["loop"]))


def pixels(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path), int)


class Loop:
    """One prompt at a time with the plain diffusers pipeline."""

    def __init__(self) -> None:
        from diffusers import DDIMScheduler, DiffusionPipeline

        from bench import registry

        self.entry = registry.get("models", "shapes-sdxl")
        self.pipe = DiffusionPipeline.from_pretrained(self.entry.source, local_files_only=True)
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.scheduler = DDIMScheduler.from_config(
            self.pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False
        )
        self.scorers = [registry.get("metrics", name).scorer("cpu") for name in METRICS]

    def pair(self, folder: Path, k: int, prompt: Any, seed: int, steps: int) -> np.ndarray:
        """Both images of a pair, kept and scored; returns the target noise (C, h, w)."""
        from bench.sampling import noise

        x = noise.draw(prompt.text, seed, self.entry.latent)[None]
        target = self.redenoise(prompt.text, x, steps)
        for side, latents in (("source", x), ("target", target)):
            image = self.pipe(
                prompt.text, latents=latents, num_inference_steps=steps, guidance_scale=self.entry.guidance
            ).images[0]
            image.save(folder / f"{k}-{side}.png")
            for scorer in self.scorers:
                scorer.score([np.asarray(image)], [prompt])
        return target[0].numpy()

    def redenoise(self, prompt: str, x: Any, steps: int) -> Any:
        """Eq. 2 and 3: a guided DDIM step down, a conditional one up, both predicted at t0."""
        import torch

        pipe = self.pipe
        with torch.inference_mode():
            cond, uncond, pooled, no_pooled = pipe.encode_prompt(prompt)
            pipe.scheduler.set_timesteps(steps)
            t0, t1 = pipe.scheduler.timesteps[:2].tolist()
            ids = torch.tensor([[*self.entry.size, 0, 0, *self.entry.size]], dtype=cond.dtype)

            def epsilon(y: Any, embeds: Any, text: Any) -> Any:
                extra = {"text_embeds": text, "time_ids": ids.expand(len(y), -1)}
                return pipe.unet(y, t0, encoder_hidden_states=embeds, added_cond_kwargs=extra, return_dict=False)[0]

            u, c = epsilon(torch.cat([x, x]), torch.cat([uncond, cond]), torch.cat([no_pooled, pooled])).chunk(2)
            e1 = u + self.entry.guidance * (c - u)
            abar = pipe.scheduler.alphas_cumprod
            a0, s0, a1, s1 = (float(v) for t in (t0, t1) for v in (abar[t] ** 0.5, (1 - abar[t]) ** 0.5))
            lower = a1 * (x - s0 * e1) / a0 + s1 * e1
            e2 = epsilon(lower, cond, pooled)
            return a0 * (lower - s1 * e2) / a1 + s0 * e2


if __name__ == "__main__":
    main()
