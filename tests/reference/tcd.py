"""Vectors of trajectory consistency sampling: `TCDScheduler` of diffusers and of jabir-zheng/TCD, with given noise.

Command: python tests/reference/tcd.py --checkout DIR [--seed N] [--out DIR]
"""

from __future__ import annotations

import torch
from lcm import inputs, walk
from networks import SCHEDULE
from public_code import Source, arguments, cited, diffusers_source, module, write

SOURCE = Source(
    repository="jabir-zheng/TCD",
    commit="847b2a266cde1537acb96587e6cc101f7a42db75",
    path="scheduling_tcd.py",
    blob="d74f094d06752a0208fbc3d18c34b494b07010b9",
    licence="Apache-2.0, by the file's header",
)
CASES = ((1, 0.3), (4, 0.0), (4, 0.3), (4, 1.0), (8, 0.3))
"""Steps and the paper's gamma, which both schedulers call eta."""


def main(argv: list[str] | None = None) -> None:
    import diffusers.schedulers.scheduling_tcd as library

    given = arguments(__doc__, checkout="a checkout of jabir-zheng/TCD", argv=argv)
    repository = module(SOURCE.read(given.checkout), "released_tcd")
    for steps, gamma in CASES:
        name = f"tcd-n{steps}-gamma{gamma}"
        numbers, made = inputs(name, given.seed, steps)
        both = []
        for code in (repository, library):
            scheduler = code.TCDScheduler.from_config(SCHEDULE)
            scheduler.set_timesteps(steps)
            both.append(walk(scheduler, code, numbers, made, 1.0, eta=gamma))
        rows, again = both
        for key, value in rows.items():
            assert torch.equal(value, again[key]), f"{name}: the repository's and diffusers' {key} differ"
        rows["noised"] = rows.pop("seconds")
        second = diffusers_source("schedulers/scheduling_tcd.py")
        write(
            given.out,
            f"{name}-seed{given.seed}",
            {**cited(SOURCE), "function": "TCDScheduler.step", "seed": given.seed, "same_in": second},
            {**numbers, **made, "guidance": 1.0, "gamma": gamma, **rows},
        )


if __name__ == "__main__":
    main()
