"""Vectors of re-denoise sampling: `forward_ours` of xie-lab-ml/Golden-Noise-for-Diffusion-Models.

`released` is the code as it runs with diffusers since pull request 5145, where `DDIMInverseScheduler.step(e, t, x)`
moves to t. `intended` hands that scheduler the timestep one stride higher, so that it moves from t1 to t0.

Command: python tests/reference/inversion.py --checkout DIR [--seed N] [--out DIR]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from public_code import arguments, cited, module, write
from released_pipelines import CHECKOUT, case, pipeline, stride
from renoise import SOURCE

GUIDANCE, INVERSION_GUIDANCE = 5.5, 1.0
CASES = (
    ("closed", 4, 1, "released"),
    ("closed", 10, 1, "released"),
    ("closed", 50, 1, "released"),
    ("closed", 10, 3, "released"),
    ("closed", 10, 1, "intended"),
    ("unet", 10, 1, "released"),
    ("unet", 10, 1, "intended"),
)
"""Network, steps, rounds (the code's T_max), and which move up."""


def main(argv: list[str] | None = None) -> None:
    given = arguments(__doc__, checkout=CHECKOUT, argv=argv)
    released = module(SOURCE.read(given.checkout), "released_inversion")
    for network, steps, rounds, move in CASES:
        name = f"inversion-{network}-n{steps}-r{rounds}-{move}"
        made = case(name, given.seed, network=network)
        pipe, down, up = pipeline(released, made.unet)
        up.watch(pipe.inv_scheduler, later=stride(steps) if move == "intended" else 0)
        with tempfile.TemporaryDirectory() as folder:
            final = pipe.forward_ours(
                **made.arguments(),
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                inversion_guidance_scale=INVERSION_GUIDANCE,
                T_max=rounds,
                index=7,
                seed=given.seed,
                output_dir=folder,
            ).images
            with np.load(Path(folder) / f"7_{given.seed}.npz") as pair:
                source, target = pair["arr_0"], pair["arr_1"]
        assert len(up.results) == rounds
        assert len(down.results) == steps + rounds
        write(
            given.out,
            f"{name}-seed{given.seed}",
            {**cited(SOURCE), "function": "forward_ours", "seed": given.seed, "network": network, "move": move},
            {
                **made.stored,
                "guidance": GUIDANCE,
                "inversion_guidance": INVERSION_GUIDANCE,
                "rounds": rounds,
                "timesteps": pipe.scheduler.timesteps,
                "x_T": down.samples[0],
                "e1": down.outputs[0],
                "y": down.results[0],
                "e2": up.outputs[0],
                "x_prime": up.results[0],
                "e3": down.outputs[1],
                "pair_source": source,
                "pair_target": target,
                "final": final,
                **(up.stacked("up") if rounds > 1 else {}),
            },
        )


if __name__ == "__main__":
    main()
