"""Two runs whose report has more pairs than its page: what every text and score of them is."""

from __future__ import annotations

import math
from pathlib import Path

from handmade import Spot, image, make
from suite_texts import TWO_ARMS, suite_text

from bench import registry
from bench.analysis import results
from bench.store import Ledger

from . import many_pairs

SETS = ["shapes-drawbench", "shapes-pickapic"]
METRICS = ["shapes-preference", "shapes-clipscore"]
METHODS = ["standard", "inversion", "reseed"]
STEPS = {"first": 8, "second run": 16}
PROMPTS, SEEDS = 16, (0, 1)
TOTAL, IN_PAGE = 128, 20
HOSTILE = "</script><script>window.stolen = 1</script> ' \\' \" \\ ` ${1} <!-- \u2028\u2029 \u202e é"


def score(spot: Spot) -> dict[str, float]:
    """Every value differs from every other; CLIPScore has none of some prompts, and none of `reseed`."""
    place = 1000 * SETS.index(spot.prompts) + 10 * spot.index + spot.seed + 5000 * spot.steps
    values = {METRICS[0]: math.sin(place) + 0.3 * METHODS.index(spot.method) * math.cos(7 * place)}
    if spot.index % 5 != 3 and spot.method != "reseed":
        values[METRICS[1]] = math.cos(place + METHODS.index(spot.method))
    return values


def prompt(prompts: str, index: int) -> str:
    return f"{HOSTILE if index == 4 else 'a circle'} take {index} of {prompts}"


def missing(spot: Spot) -> bool:
    return spot.method == "inversion" and (spot.steps, spot.prompts, spot.index, spot.seed) == (8, SETS[1], 6, 1)


def every() -> list[Spot]:
    """All pairs in the order of the files, as the baseline's."""
    return [Spot("standard", prompts, steps, index, seed)
            for steps in STEPS.values() for prompts in SETS for index in range(PROMPTS) for seed in SEEDS]  # fmt: skip


def key(spot: Spot) -> str:
    return f"{list(STEPS.values()).index(spot.steps)}/{spot.prompts}/{spot.index}/{spot.seed}"


def value(spot: Spot, method: str, metric: str) -> float | None:
    other = Spot(method, spot.prompts, spot.steps, spot.index, spot.seed)
    found = None if missing(other) else score(other).get(metric)
    return None if found is None else float(f"{found:.9g}")


def delta(spot: Spot, method: str, metric: str) -> float | None:
    mine, base = value(spot, method, metric), value(spot, "standard", metric)
    return None if mine is None or base is None else mine - base


def make_runs(home: Path) -> list[Path]:
    """Both of them, with their images."""
    picture = home / "picture.png"
    many_pairs.picture(3).save(picture)
    folders, scorers = [], {metric: registry.get("metrics", metric).digest() for metric in METRICS}
    for name, steps in STEPS.items():
        suite = suite_text(TWO_ARMS, methods=METHODS, prompts=SETS, metrics=METRICS, steps=steps, seeds=list(SEEDS))
        folders.append(make(
            home / name, score, suite=suite, n=PROMPTS, texts=prompt, category=lambda index: f"of {index % 3}",
            images=lambda spot: None if missing(spot) else image(digest=repr(spot)), scorers=scorers, files=False,
        ))  # fmt: skip
        (home / name / "images").mkdir()
        for file in Ledger(home / name).files():
            (home / name / file).hardlink_to(picture)
    return folders


def computed(runs: list[Path]) -> results.Computed:
    """Their results, which carry 20 of the pairs, for a report in `both` beside the runs."""
    return results.computed(*map(Ledger, runs), folder=runs[0].parent / "both", most=IN_PAGE)
