"""Vectors of latent consistency sampling: diffusers' `LCMScheduler` on a closed-form network, with given noise.

Command: python tests/reference/lcm.py [--seed N] [--out DIR]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from networks import SCHEDULE, closed_form, closed_form_numbers
from public_code import arguments, diffusers_source, generator, write

BATCH, SIDE, TOKENS, WIDTH = 2, 4, 3, 6
CASES = ((1, 1.0), (4, 1.0), (4, 1.5), (8, 1.0))
"""Steps and guidance scale."""


def inputs(name: str, seed: int, steps: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The network's numbers, and the latents, prompts and noises of a case."""
    rng = generator(name, seed)
    numbers = closed_form_numbers(rng, width=WIDTH)
    return numbers, {
        "latents": rng.standard_normal((BATCH, 4, SIDE, SIDE)),
        "prompt_embeds": rng.standard_normal((BATCH, TOKENS, WIDTH)),
        "negative_prompt_embeds": rng.standard_normal((BATCH, TOKENS, WIDTH)),
        "noises": rng.standard_normal((max(steps - 1, 1), BATCH, 4, SIDE, SIDE)),
    }


def walk(
    scheduler: Any,
    module: Any,
    numbers: dict[str, np.ndarray],
    given: dict[str, np.ndarray],
    guidance: float,
    **options: Any,
) -> dict[str, Any]:
    """Every step of the scheduler, whose own draws are replaced by the given noises in their order."""
    noises = iter(torch.from_numpy(given["noises"]))
    draw, module.randn_tensor = module.randn_tensor, lambda *_, **__: next(noises)
    u, c = (torch.from_numpy(given[key]) for key in ("negative_prompt_embeds", "prompt_embeds"))
    x, rows = torch.from_numpy(given["latents"]), []
    try:
        for t in scheduler.timesteps:
            e_u, e_c = (closed_form(x, float(t), prompt, **numbers) for prompt in (u, c))
            output = e_u + guidance * (e_c - e_u)
            following, second = scheduler.step(output, t, x, return_dict=False, **options)
            rows.append((x, output, following, second))
            x = following
    finally:
        module.randn_tensor = draw
    samples, outputs, results, seconds = (torch.stack(column) for column in zip(*rows, strict=True))
    return {
        "timesteps": scheduler.timesteps,
        "samples": samples,
        "outputs": outputs,
        "results": results,
        "seconds": seconds,
    }


def main(argv: list[str] | None = None) -> None:
    import diffusers.schedulers.scheduling_lcm as module

    given = arguments(__doc__, argv=argv)
    for steps, guidance in CASES:
        name = f"lcm-n{steps}-g{guidance}"
        numbers, made = inputs(name, given.seed, steps)
        scheduler = module.LCMScheduler.from_config(SCHEDULE)
        scheduler.set_timesteps(steps)
        rows = walk(scheduler, module, numbers, made, guidance)
        rows["denoised"] = rows.pop("seconds")
        scalings = [scheduler.get_scalings_for_boundary_condition_discrete(int(t)) for t in scheduler.timesteps]
        write(
            given.out,
            f"{name}-seed{given.seed}",
            {**diffusers_source("schedulers/scheduling_lcm.py"), "function": "LCMScheduler.step", "seed": given.seed},
            {**numbers, **made, "guidance": guidance, **rows, "c_skip_c_out": np.array(scalings)},
        )


if __name__ == "__main__":
    main()
