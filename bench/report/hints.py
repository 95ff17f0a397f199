"""What a number of a table means, in one plain sentence: shown on hover, and in a list below the table."""

from __future__ import annotations

from bench.records import Results
from bench.report.parts import Bounded, Compared
from bench.report.words import higher_is_better, kind, metric_title, mixed, number, p_value, percent

LABELS = {
    "model": "The model that made the images.",
    "setting": "How the model was sampled: sampler, steps and guidance scale g.",
    "prompts": "The prompt set of which the images are.",
    "method": "The noise method; all methods get the same prompts and seeds.",
    "seed": "The seed from which the noise was drawn.",
    "category": "The prompt set's own category of prompts.",
}
COSTS = {
    "calls: noise": "Calls of the denoiser that the method makes before sampling, for one image.",
    "sampling": "Calls of the denoiser during sampling, for one image.",
    "total": "All calls of the denoiser for one image, and × how many times the baseline's.",
    "denoiser calls": "All calls of the denoiser for one image, and × how many times the baseline's.",
    "of them gradients": "Calls of which a gradient was taken too, for one image.",
    "extra networks": "Calls of networks that the method brings along, for one image.",
    "images scored": "Images that the method has scored in order to choose, for one image.",
    "encode ms": "Milliseconds that the prompt's encoding takes, for one image.",
    "noise ms": "Milliseconds that the method takes before sampling, for one image.",
    "sampling ms": "Milliseconds that sampling takes, for one image.",
    "decode ms": "Milliseconds from latent to pixels, for one image.",
    "select ms": "Milliseconds that choosing among candidates takes, for one image.",
    "total ms": "Milliseconds for one image, all stages together, and × how many times the baseline's.",
    "ms an image": "Milliseconds for one image, all stages together, and × how many times the baseline's.",
    "peak memory": "The most memory that was needed at a time.",
    "timed": "Images of whose times these are means.",
    "from cache": "Images that an earlier run had made.",
}
EQUAL = "What plain sampling reaches with as many denoiser calls, and the method's deltas to it."


def of_labels(headers: list[str]) -> list[str]:
    """Sentences for columns of words and costs, by their headers."""
    return [LABELS.get(name) or COSTS.get(name, "") for name in headers]


def of_metric(of: Compared, metric: str) -> str:
    """What a column of a metric's means has."""
    title = metric_title(of, metric)
    if mixed(metric):
        return f"The mean {title} over scores of different kinds, so read it by category."
    if kind(of, metric) == "pair":
        return f"How often {title} prefers the method's image to the baseline's; 50 % is no difference."
    unit = of.metrics[metric].unit
    what = "One value for all images of a row" if kind(of, metric) == "set" else "The mean over a row's images"
    better = "more" if higher_is_better(of, metric) else "less"
    return f"{title}: {what[0].lower()}{what[1:]}{f', in {unit}' if unit else ''}; {better} is better."


def of_wins(title: str) -> str:
    """What a column of win rates has."""
    return f"How often the method's image has the better {title} of the pair; 50 % is no difference."


def of_mean(results: Results, method: str, metric: str, mean: float | None, digits: int) -> str:
    """What a mean alone says."""
    return f"{method} has a mean {metric_title(results, metric)} of {number(mean, digits)}."


def of_delta(method: str, baseline: str, title: str, row: Bounded, delta: float, p: float | None, digits: int) -> str:
    """What a paired delta says, with its interval and test."""
    more = "more" if delta >= 0 else "less"
    said = f"On the same prompts and seeds {method} has {number(abs(delta), digits)} {more} {title} than {baseline}"
    if row.low is not None and row.high is not None:
        bounds = f"{number(row.low, digits, sign=True)} and {number(row.high, digits, sign=True)}"
        said += f", and the true difference is between {bounds} with 95 % confidence"
    if p is not None:
        said += f"; {p_value(p)} is how often chance alone would show so much, adjusted for all tests"
    return f"{said}."


def of_rate(method: str, baseline: str, title: str, rate: float) -> str:
    """What a win rate says."""
    return f"{title} prefers {method}'s image to {baseline}'s in {percent(rate)} of pairs."
