"""Vectors of Align Your Steps: diffusers' `AysSchedules`, and two solvers walking its lists on a closed-form network.

Command: python tests/reference/ays.py [--seed N] [--out DIR]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lcm import inputs
from networks import SCHEDULE, closed_form
from public_code import arguments, diffusers_source, write

SOLVERS = ("DPMSolverMultistepScheduler", "EulerDiscreteScheduler")
GUIDANCE = 5.5


def walk(scheduler: Any, numbers: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Every step: the unscaled sample, the guided prediction on the scheduler's scaled input, and the result."""
    u, c = (torch.from_numpy(given[key]) for key in ("negative_prompt_embeds", "prompt_embeds"))
    x, rows = torch.from_numpy(given["latents"]) * scheduler.init_noise_sigma, []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        e_u, e_c = (closed_form(scaled, float(t), prompt, **numbers) for prompt in (u, c))
        output = e_u + GUIDANCE * (e_c - e_u)
        following = scheduler.step(output, t, x, return_dict=False)[0]
        rows.append((x, output, following))
        x = following
    samples, outputs, results = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"samples": samples, "outputs": outputs, "results": results}


def main(argv: list[str] | None = None) -> None:
    import diffusers
    from diffusers.schedulers import AysSchedules

    given = arguments(__doc__, argv=argv)
    lists = diffusers_source("schedulers/scheduling_utils.py")
    arrays = {key: np.array(values) for key, values in AysSchedules.items()}
    write(given.out, "ays", {**lists, "function": "AysSchedules", "seed": None}, arrays)
    for solver in SOLVERS:
        scheduler = getattr(diffusers, solver).from_config(SCHEDULE)
        timesteps = AysSchedules["StableDiffusionXLTimesteps"]
        scheduler.set_timesteps(timesteps=timesteps)
        name = f"ays-{'dpmpp' if solver.startswith('DPM') else 'euler'}-n{len(timesteps)}"
        numbers, made = inputs(name, given.seed, len(timesteps))
        del made["noises"]
        write(
            given.out,
            f"{name}-seed{given.seed}",
            {**lists, "function": f"{solver}.set_timesteps and step", "seed": given.seed},
            {
                **numbers,
                **made,
                "guidance": GUIDANCE,
                "timesteps": scheduler.timesteps,
                "sigmas": scheduler.sigmas,
                "init_noise_sigma": float(scheduler.init_noise_sigma),
                **walk(scheduler, numbers, made),
            },
        )


if __name__ == "__main__":
    main()
