"""Make the scorers' vectors again, each in the environment of its package, by the committed seed and by another.

    python tests/reference/remake.py --out DIR [--checkouts DIR]

`hpsv2` is made in the environment `hpsv2`, the others in `image-reward`. `aesthetic` and `mps` need checkouts of their
repositories (README.md), named `aesthetic` and `mps` below `--checkouts`; without one they are left out.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from bench import environments

SCRIPT = Path(__file__).with_name("published_scores.py")
BY_ENVIRONMENT = {"hpsv2": ("hpsv2",), "image-reward": ("imagereward", "pickscore", "clipscore")}
SEEDS = (0, 1)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--checkouts", type=Path, metavar="DIR")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, scorers in BY_ENVIRONMENT.items():
        one = environments.find(name)
        one.check()
        more = []
        for which in ("aesthetic", "mps") if name == "image-reward" and given.checkouts else ():
            more += [f"--{which}", str(given.checkouts / which)]
            scorers = (*scorers, which)
        for seed in SEEDS:
            only = [word for scorer in scorers for word in ("--only", scorer)]
            arguments = [*only, *more, "--seed", str(seed), "--out", str(given.out)]
            subprocess.run([str(one.python), str(SCRIPT), *arguments], check=True)


if __name__ == "__main__":
    main()
