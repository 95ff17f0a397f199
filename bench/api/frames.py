"""Results, scores and images as pandas DataFrames; `attrs` say each column's unit and meaning, and which run it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import records
from bench.records import ArmRow, ComparisonRow, Cost, Ratio, Results
from bench.store import CALLS, TIMES, Ledger, inside
from bench.store.rows import Cell

if TYPE_CHECKING:
    import pandas as pd

OF_METRIC = "column unit"
"""The unit of numbers that are each in their own metric's unit."""
_SETTING = {"model": None, "sampler": None, "steps": "steps", "guidance": "guidance scale"}
_SHARES = ("win_rate", "win_low", "win_high", "win_strict", "win_strict_low", "win_strict_high")
_UNITS: Mapping[str, str | None] = {
    **_SETTING,
    **dict.fromkeys(("n", "win", "tie", "loss"), "pairs"),
    **dict.fromkeys(_SHARES, "share, 0 to 1"),
    **dict.fromkeys(("delta", "low", "high", "detectable", "sd"), OF_METRIC),
    **dict.fromkeys(("p", "p_holm"), "probability"),
    "n_prompts": "prompts",
}
_COST_UNITS: Mapping[str, str | None] = {
    **_SETTING,
    **dict.fromkeys((*TIMES, "total_ms"), "ms/image"),
    **dict.fromkeys((*CALLS, "calls_total", "networks"), "calls/image"),
    **dict.fromkeys(("n_expected", "n", "from_cache", "n_timed"), "images"),
    **dict.fromkeys(("peak_bytes", "memory_bytes", "memory_noise_bytes", "memory_sampling_bytes"), "bytes"),
    "memory_batch": "images",
    "backwards": "gradients/image",
    "rewards": "rewards/image",
}
_PLACE = {
    "run": (None, "The run's folder."),
    "method": (None, "The method's label in the suite."),
    "model": (None, "Name of the model."),
    "prompts": (None, "Name of the prompt set."),
    "sampler": (None, "Name of the sampler."),
    "steps": ("steps", "Denoising steps that were asked for."),
    "guidance": ("guidance scale", "Guidance scale g of diffusers: 1 is without guidance."),
    "index": ("index", "Of the prompt in its set, from 0."),
    "seed": ("seed", "From which the noise is drawn."),
    "prompt": (None, "The text."),
    "category": (None, "Of the prompt; empty where its set has none."),
}
_SCORES = {
    **_PLACE,
    "metric": (None, "Name of the metric."),
    "value": (
        OF_METRIC,
        "The score; of a metric of pairs 2p - 1, p being how far it is preferred to the baseline's.",
    ),
    "unit": (None, "The metric's unit."),
    "higher_is_better": (None, "Whether more is better."),
}
_IMAGES = {
    **_PLACE,
    "file": (None, "The PNG; NaN where it was not made."),
    "failed": (None, "Why it could not be made; NaN where it was, or is still to be made."),
    **{name: ("ms/image", f"Milliseconds of the stage {name.removesuffix('_ms')}.") for name in TIMES},
    "total_ms": ("ms/image", "Milliseconds of all stages."),
    **{name: ("calls/image", f"Denoiser calls of {name.removeprefix('calls_')}.") for name in CALLS},
    "peak_bytes": ("bytes", "The largest memory while its batch was made; what of, is in peak_kind."),
    "peak_kind": (None, "What that memory is of."),
    "batch": ("images", "How many were made together."),
    "hardware": (None, "What made it; times are comparable within it."),
    "from_cache": (None, "Whether another run had made it."),
    "origin": (None, "The commit or version that made it."),
    "digest": (None, "SHA-256 of its pixels."),
    "job": (None, "Hash of all that decides its pixels."),
}


def comparisons(found: Results, run: str) -> pd.DataFrame:
    """A row for each method, setting, prompt set (`*`: all pooled) and metric, against the baseline."""
    rows = (
        {**row.model_dump(), "unit": metric.unit, "higher_is_better": metric.higher_is_better}
        for row in found.comparisons
        for metric in [found.metrics[row.metric]]
    )
    columns = {name: (_UNITS.get(name), about) for name, about in _described(ComparisonRow)}
    of_metric = {name: _SCORES[name] for name in ("unit", "higher_is_better")}
    return _frame(rows, {**columns, **of_metric}, run)


def costs(found: Results, run: str) -> pd.DataFrame:
    """A row for each method, setting and prompt set (`*`: all pooled): what an image costs, and over the baseline's."""
    of_arm = ("model", "prompts", "sampler", "steps", "guidance", "method", "n_expected", "n", "is_baseline")
    about = {**dict(_described(ArmRow)), **dict(_described(Cost))}
    ratios = list(records.Ratios.model_fields)
    own = [name for name in Cost.model_fields if name != "ratios"]
    columns = {name: (_COST_UNITS.get(name), about[name]) for name in (*of_arm, *own)}
    for name in ratios:
        said = f"{name} over the baseline's"
        columns |= {
            f"{name}_ratio": ("times the baseline's", f"{said}."),
            f"{name}_ratio_low": ("times the baseline's", f"Lower bound of {said}."),
            f"{name}_ratio_high": ("times the baseline's", f"Upper bound of {said}."),
        }
    rows = (
        {
            **{name: getattr(arm, name) for name in of_arm},
            **{name: getattr(arm.cost, name) for name in own},
            **{key: value for name in ratios for key, value in _ratio(name, getattr(arm.cost.ratios, name))},
        }
        for arm in found.arms
    )
    return _frame(rows, columns, run)


def scores(found: Results, folder: Path, run: str) -> pd.DataFrame:
    """A row for each image and metric that has a score of it; metrics of sets have none."""
    rows = (row for place in _folders(found, folder) for row in _score_rows(found, place))
    return _frame(rows, _SCORES, run)


def images(folders: Iterable[Path], run: str) -> pd.DataFrame:
    """A row for each image that the suite asks for, made or not: its place, file, costs and origin."""
    return _frame((row for folder in folders for row in _image_rows(folder)), _IMAGES, run)


def _folders(found: Results, folder: Path) -> list[Path]:
    """The run folders that results are of."""
    return [(folder / one.path).resolve() for one in found.runs]


def folders(folder: Path) -> list[Path]:
    """The run folders of a run, or of a report of several; a run without results is its own."""
    return _folders(records.read(folder), folder) if (folder / "results.json").is_file() else [folder]


def _score_rows(found: Results, folder: Path) -> Iterator[dict[str, Any]]:
    ledger = Ledger(folder, read_only=True)
    try:
        wanted = {name: metric.digest for name, metric in found.metrics.items()}
        single: dict[tuple[str, str], dict[str, float]] = {}
        for one in ledger.scores():
            if wanted.get(one.metric) == one.scorer:
                single.setdefault((one.digest, one.prompt), {})[one.metric] = one.value
        paired: dict[tuple[str, str, str], dict[str, float]] = {}
        for pair in ledger.pair_scores():
            if wanted.get(pair.metric) == pair.scorer:
                values = paired.setdefault((pair.digest, pair.baseline, pair.prompt), {})
                values[pair.metric] = 2 * pair.value - 1
        made = [*ledger.made_cells()]
        baselines = {cell.place: digest for cell, _, digest in made if cell.method == found.suite.baseline}
        for cell, _, digest in made:
            beside = paired.get((digest, baselines.get(cell.place, ""), cell.key), {})
            values = single.get((digest, cell.key), {}) | beside
            if cell.method == found.suite.baseline:
                values |= {name: 0.0 for name, metric in found.metrics.items() if metric.kind == "pair"}
            for name, metric in found.metrics.items():
                if name in values:
                    of = {"unit": metric.unit, "higher_is_better": metric.higher_is_better}
                    yield {**_cell(cell, folder), "metric": name, "value": values[name], **of}
    finally:
        ledger.close()


def _image_rows(folder: Path) -> Iterator[dict[str, Any]]:
    ledger = Ledger(folder, read_only=True)
    try:
        made, failures = ledger.images(), ledger.failures()
        for cell in ledger.cells():
            row = {**_cell(cell, folder), "job": cell.job_id, "failed": failures.get(cell.job_id)}
            image = made.get(cell.job_id)
            if image is not None:
                known = {name: value for name in _IMAGES if (value := getattr(image, name, None)) is not None}
                inside(folder, image.file)  # a ledger that others wrote may name any file
                file, total = str(folder / image.file), sum(getattr(image, name) for name in TIMES)
                row |= {**known, "file": file, "total_ms": total, "from_cache": bool(image.from_cache)}
            yield row
    finally:
        ledger.close()


def _cell(cell: Cell, folder: Path) -> dict[str, Any]:
    named = {name: getattr(cell, name) for name in ("method", "model", "prompts", "sampler", "steps", "guidance")}
    said = {"seed": cell.seed, "prompt": cell.prompt, "category": cell.category or ""}
    return {"run": folder.name, **named, "index": cell.prompt_index, **said}


def _ratio(name: str, found: Ratio | None) -> list[tuple[str, float | None]]:
    bounds = (found.ratio, found.low, found.high) if found else (None, None, None)
    return [*zip((f"{name}_ratio", f"{name}_ratio_low", f"{name}_ratio_high"), bounds, strict=True)]


def _described(record: type[records.Record]) -> list[tuple[str, str]]:
    """(field, what it means) of a record."""
    return [(name, one.description or "") for name, one in record.model_fields.items()]


def _frame(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str | None, str]], run: str) -> pd.DataFrame:
    """Rows as a frame of these columns, each (unit, meaning); what is not there is NaN."""
    import pandas as pd

    frame = pd.DataFrame.from_records([{name: row.get(name) for name in columns} for row in rows], columns=[*columns])
    for name, (unit, _) in columns.items():
        if unit is not None:
            frame[name] = pd.to_numeric(frame[name])
    frame.attrs["run"] = run
    frame.attrs["units"] = {name: unit for name, (unit, _) in columns.items() if unit is not None}
    frame.attrs["about"] = {name: about for name, (_, about) in columns.items()}
    return frame
