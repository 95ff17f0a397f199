"""Vectors of zigzag (Z-)sampling: `z_sampling_call` of xie-lab-ml/Zigzag-Diffusion-Sampling.

`released` and `intended` differ in the move up, as in inversion.py.

Command: python tests/reference/zsampling.py --checkout DIR [--seed N] [--out DIR]
"""

from __future__ import annotations

import torch
from public_code import Source, arguments, cited, module, write
from released_pipelines import CHECKOUT, case, pipeline, stride

SOURCE = Source(
    repository="xie-lab-ml/Zigzag-Diffusion-Sampling",
    commit="513eb51cef223e7a562b5eb9b31d5ac5fa6b70f4",
    path="utils/pipeline_stable_diffusion_xl.py",
    blob="2a50b45ab9c9a678bc93cee889e205c44d66eb6f",
    licence="Apache-2.0",
)
GUIDANCE, INVERSION_GUIDANCE = 5.5, 0.0
CASES = (
    ("closed", 4, None, 1, "released"),
    ("closed", 10, None, 1, "released"),
    ("closed", 10, 3, 2, "released"),
    ("closed", 10, None, 1, "intended"),
    ("unet", 4, None, 1, "released"),
    ("unet", 4, None, 1, "intended"),
)
"""Network, steps, zigzag steps (the code's lambda_step; None: all but the last), rounds (T_max), and which move up."""


def main(argv: list[str] | None = None) -> None:
    given = arguments(__doc__, checkout=CHECKOUT, argv=argv)
    released = module(SOURCE.read(given.checkout), "released_zsampling")
    for network, steps, first, rounds, move in CASES:
        zigzags = steps - 1 if first is None else first
        name = f"zsampling-{network}-n{steps}-z{zigzags}-r{rounds}-{move}"
        made = case(name, given.seed, network=network)
        pipe, down, up = pipeline(released, made.unet)
        up.watch(pipe.inv_scheduler, later=stride(steps) if move == "intended" else 0)
        after = []

        def step_end(_pipe, i, t, values, _after=after):
            _after.append(values["latents"].clone())
            return values

        # The released function returns nothing unless it is asked to return a tuple.
        (final,) = pipe.z_sampling_call(
            **made.arguments(),
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            inv_guidance_scale=INVERSION_GUIDANCE,
            lambda_step=first,
            T_max=rounds,
            return_dict=False,
            callback_on_step_end=step_end,
        )
        assert len(after) == steps
        assert len(up.results) == zigzags * rounds
        assert len(down.results) == steps + zigzags * rounds
        write(
            given.out,
            f"{name}-seed{given.seed}",
            {**cited(SOURCE), "function": "z_sampling_call", "seed": given.seed, "network": network, "move": move},
            {
                **made.stored,
                "guidance": GUIDANCE,
                "inversion_guidance": INVERSION_GUIDANCE,
                "zigzags": zigzags,
                "rounds": rounds,
                "timesteps": pipe.scheduler.timesteps,
                **down.stacked("down"),
                **up.stacked("up"),
                "after_step": torch.stack(after),
                "final": final,
            },
        )


if __name__ == "__main__":
    main()
