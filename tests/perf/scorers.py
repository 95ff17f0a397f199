"""Images scored a second at true size: our scorers, and the published way of each, image by image.

    python tests/perf/scorers.py --table [--only hpsv2] [--images 4] [--turns 2] [--batch 32] [--folder DIR]

Networks have the published architectures and random weights, in fp32 (`true_sizes.py`). Both are asked in turns in one
process: the published way about one image after the other, our scorer about as many one by one, and about a batch.
The published way is the package itself where it has an environment (`python -m bench env make hpsv2 image-reward`; a
worker over a pipe, its weights read once and not for every image), else the code of the model's card. Seconds are
those of the processor, the worker's included, so that other programs on the machine do not count. `--folder` keeps the
checkpoints for another call; they take 10 GB.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from published import THEIRS, WAYS
from true_sizes import NETWORKS, checkpoint

from bench import environments, registry
from bench.errors import UserError
from bench.prompts.base import Prompt

Many = Callable[[Sequence[np.ndarray], Sequence[Prompt]], Any]
MEASURED = ("hpsv2", "pickscore", "aesthetic", "clipscore", "imagereward", "geneval", "fid")


# Ours ----------------------------------------------------------------------------------------------------------------


def loaded(metric: str, folder: Path) -> Any:
    """Our scorer on a checkpoint folder, on the CPU in fp32."""
    if metric == "fid":  # its row would ask for a reference, which features do not need
        from bench.metrics.features import InceptionFeatures, inception

        return InceptionFeatures(inception("fid").at(str(folder)), "cpu")
    return registry.get("metrics", metric).configured(str(folder), "fp32").loaded("cpu")


def ours(metric: str, folder: Path, batch: int) -> Many:
    """Our scorer's answers about any number of images, in batches; numbers, or rows of features."""
    scorer = loaded(metric, folder)

    def many(images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> Any:
        scorer.backoff.first = min(batch, len(images))
        if metric == "fid":
            return scorer.features(images, prompts)
        return [v.value for v in scorer.score(images, prompts)]

    return many


def material(n: int, side: int) -> tuple[list[np.ndarray], list[Prompt]]:
    """Images of coarse patches with grain, and prompts that GenEval's rules can judge too."""
    rng = np.random.default_rng(0)
    metadata = {"tag": "single_object", "include": [{"class": "bench", "count": 1}]}
    rows = np.arange(side) * 16 // side
    images = []
    for _ in range(n):
        coarse = rng.random((16, 16, 3), np.float32)[rows][:, rows]
        grain = rng.standard_normal((side, side, 3), np.float32) / 20
        images.append((255 * (coarse + grain)).clip(0, 255).astype(np.uint8))
    return images, [Prompt(i, f"a photo of a bench, number {i}", metadata=metadata) for i in range(n)]


# Measuring -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """Images a second of the processor, of one metric."""

    metric: str
    theirs: float | None
    """None where the published way cannot be asked here."""
    one: float
    many: float
    batch: int
    apart: float | None
    """The largest difference of scores, or of features; None where the two do not say the same thing."""
    why: str = ""

    def row(self) -> str:
        """A row of the table."""
        theirs = f"{self.theirs:.3f}" if self.theirs else "-"
        gains = [f"{rate / self.theirs:.2f}" if self.theirs else "-" for rate in (self.one, self.many)]
        apart = "-" if self.apart is None else f"{self.apart:.1e}"
        rates = f"{theirs} | {self.one:.3f} | {self.many:.3f} ({self.batch}) | {gains[0]} | {gains[1]} | {apart}"
        return f"| `{self.metric}` | {NETWORKS[self.metric]} | {WAYS[self.metric]} | {rates} |"


HEAD = (
    "| metric | network | published way | its images/s | ours, batch 1 | ours, batch (of) | ratio, 1 | ratio, batch "
    "| largest difference |\n|---|---|---|---:|---:|---:|---:|---:|---:|"
)


def seconds() -> float:
    """Seconds of the processor that this process and its workers have used."""
    me = psutil.Process()
    times = [one.cpu_times() for one in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def measure(metric: str, folder: Path, *, images: int, turns: int, batch: int, side: int) -> Rates:
    """The three rates, in turns; each is warmed up by one image."""
    place = checkpoint(metric, folder)
    many = ours(metric, place, batch)
    pixels, prompts = material(max(images, batch), side)
    theirs, why = None, ""
    try:
        theirs = THEIRS[metric](place)
        theirs(pixels[0], prompts[0])
    except UserError as error:
        why = str(error)
    many(pixels[:1], prompts[:1])
    spent = {"theirs": 0.0, "one": 0.0, "many": 0.0}
    apart = None
    for _ in range(turns):
        said, answers = [], []
        marks = [seconds()]
        for i in range(images if theirs else 0):
            said.append(theirs(pixels[i], prompts[i]))  # type: ignore[misc]
        marks.append(seconds())
        for i in range(images):
            answers.append(many(pixels[i : i + 1], prompts[i : i + 1])[0])
        marks.append(seconds())
        many(pixels[:batch], prompts[:batch])
        marks.append(seconds())
        for name, a, b in zip(spent, marks, marks[1:], strict=False):
            spent[name] += b - a
        if said and metric != "geneval":
            pairs = zip(said, answers, strict=True)
            apart = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    rate = {name: turns * (batch if name == "many" else images) / max(s, 1e-9) for name, s in spent.items()}
    return Rates(metric, rate["theirs"] if theirs else None, rate["one"], rate["many"], batch, apart, why)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=MEASURED, action="append", help="these metrics alone")
    parser.add_argument("--images", type=int, default=4, help="images that are asked about one by one in each turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=1024, help="pixels of a side of an image")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the checkpoints there, and take those that are there")
    parser.add_argument("--table", action="store_true", help="print one table at the end")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    rows = []
    for metric in options.only or MEASURED:
        with tempfile.TemporaryDirectory() as own:
            given = {name: getattr(options, name) for name in ("images", "turns", "batch", "side")}
            found = measure(metric, options.folder or Path(own), **given)
        rows.append(found)
        print(f"{found.row()}{' ' + found.why if found.why else ''}", flush=True)
        gc.collect()
    if options.table:
        versions = f"torch {torch.__version__}, {options.threads} thread(s), {options.side} px, fp32"
        print(f"\n{versions}; {options.turns} turns of {options.images} images one by one and of a batch\n\n{HEAD}")
        print("\n".join(row.row() for row in rows))
    made = {name: environments.find(name).made for name in ("hpsv2", "image-reward")}
    if not all(made.values()):
        print("not made: " + ", ".join(name for name, there in made.items() if not there))


if __name__ == "__main__":
    main()
