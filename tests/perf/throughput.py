"""Images a second: the harness against a plain loop that calls the pipeline one prompt at a time.

    python tests/perf/throughput.py [--images 200] [--threads N]

Both make the same jobs from the same latents in one process, in turns (loop, harness, loop, harness), both write
PNG files, and the images must agree to one grey level. The last line is the ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200, help="images that the harness makes in each turn")
    parser.add_argument("--loop-images", type=int, default=30, help="images that the loop makes in each turn")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    import torch
    from diffusers import DiffusionPipeline
    from PIL import Image

    from bench import registry, suite
    from bench.runner.generate import generate
    from bench.runner.plan import make_plan
    from bench.sampling import noise
    from bench.store import Ledger

    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = suite.parse(
        "name: throughput\nmodels: [shapes-sdxl]\nprompts: [shapes-drawbench]\nsamplers: [ddim]\nbaseline: standard\n"
        "methods: [standard, reseed]\nmetrics: [shapes-geneval]\n",
        file="throughput",
    )
    jobs = list(make_plan(loaded).jobs.values())
    entry = registry.get("models", "shapes-sdxl")
    pipeline = DiffusionPipeline.from_pretrained(entry.source, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    rates: dict[str, list[float]] = {"loop": [], "harness": []}
    largest = 0
    for turn in range(2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            mine = jobs[turn * options.images : (turn + 1) * options.images]
            started = time.perf_counter()
            for job in mine[: options.loop_images]:
                image = pipeline(
                    prompt=job.prompt,
                    latents=noise.draw(job.prompt, job.seed, entry.latent)[None],
                    num_inference_steps=job.steps,
                    guidance_scale=job.guidance,
                ).images[0]
                image.save(folder / f"{job.id}.png")
            rates["loop"].append(options.loop_images / (time.perf_counter() - started))
            plan = make_plan(loaded)
            plan.jobs.clear()
            plan.jobs.update({j.id: j for j in mine})
            ledger = Ledger(folder / "run", create=True)
            totals = generate(plan, ledger, None, device="cpu")
            rates["harness"].append(len(mine) / totals["seconds"])
            for job in mine[: options.loop_images]:
                ours = np.asarray(Image.open(folder / "run" / "images" / f"{job.id}.png"), int)
                theirs = np.asarray(Image.open(folder / f"{job.id}.png"), int)
                largest = max(largest, int(np.abs(ours - theirs).max()))
            print(f"turn {turn}: efficiency {totals['efficiency']:.3f}, stages {totals['stages']}")
    print(f"threads {torch.get_num_threads()}, largest difference {largest} grey levels")
    for name, values in rates.items():
        print(f"{name}: {', '.join(f'{v:.2f}' for v in values)} images/s")
    print(f"ratio: {np.mean(rates['harness']) / np.mean(rates['loop']):.2f}")
    if largest > 1:
        raise SystemExit("the harness's images differ from the loop's")


if __name__ == "__main__":
    main()
