"""Vectors of RePaint's jumps: the timesteps of diffusers' `RePaintScheduler`, and its step back up with given noise.

Command: python tests/reference/repaint.py [--seed N] [--out DIR]
"""

from __future__ import annotations

import torch
from networks import SCHEDULE
from public_code import arguments, diffusers_source, generator, write

SETTINGS = ((250, 10, 10), (10, 2, 2), (50, 5, 3), (20, 10, 2))
"""Steps, jump length and resamplings; the first are the original's for inpainting."""


def main(argv: list[str] | None = None) -> None:
    import diffusers.schedulers.scheduling_repaint as module

    given = arguments(__doc__, argv=argv)
    scheduler = module.RePaintScheduler(
        **{key: SCHEDULE[key] for key in ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")},
        clip_sample=False,
    )
    arrays = {}
    for steps, length, times in SETTINGS:
        scheduler.set_timesteps(steps, jump_length=length, jump_n_sample=times)
        arrays[f"timesteps_{steps}_{length}_{times}"] = scheduler.timesteps
    scheduler.set_timesteps(*SETTINGS[0])
    rng, timestep = generator("repaint", given.seed), 500
    latents, noises = (torch.from_numpy(rng.standard_normal((*n, 2, 4, 4, 4))) for n in ((), (4,)))
    queue = iter(noises)
    draw, module.randn_tensor = module.randn_tensor, lambda *_, **__: next(queue)
    try:
        undone = scheduler.undo_step(latents, timestep)
    finally:
        module.randn_tensor = draw
    assert next(queue, None) is None
    write(
        given.out,
        f"repaint-seed{given.seed}",
        {
            **diffusers_source("schedulers/scheduling_repaint.py"),
            "function": "RePaintScheduler.set_timesteps and undo_step",
            "seed": given.seed,
        },
        {**arrays, "timestep": timestep, "latents": latents, "noises": noises, "undone": undone},
    )


if __name__ == "__main__":
    main()
