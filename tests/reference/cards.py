"""Reference cards of real scorers on small random weights, with values by the original packages.

    python tests/reference/cards.py [--out DIR]

It needs the environments that `python -m bench env make hpsv2 image-reward` makes. The weights follow from a seed, so
whoever has this project can build the checkpoint that a card is about (`small_clips.py`, `small_blip.py`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import small_blip
import small_clips as small

from bench.catalogue import cards, checking

FOLDERS: dict[str, Callable[[Path, str], Path]] = {"hpsv2": small.hps_folder, "imagereward": small_blip.reward_folder}
WORDS = "small random weights of tests/reference, case {name}/0"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=cards.FOLDER, metavar="DIR")
    out = parser.parse_args(argv).out
    for name, made in FOLDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            wanted = checking.Wanted(name, str(made(Path(folder), f"{name}/0")), package=True)
            print(checking.keep(wanted, device="cpu", folder=out, words=WORDS.format(name=name), seeded=True).text)


if __name__ == "__main__":
    main()
