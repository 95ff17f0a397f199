"""Results of original evaluation code, on a tree that `bench.intake.layouts` wrote, as scores of the run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.intake.layouts import INDEX, LAYOUTS, index_of
from bench.job.stages import write_report
from bench.metrics import original
from bench.metrics.base import MetricEntry
from bench.prompts.rows import said
from bench.records import Results
from bench.store import Ledger, exclusive, full_disk_is_said


@dataclass(frozen=True)
class Taken:
    """What a result file brought into a run."""

    metric: str
    method: str
    prompts: str
    scores: int
    lacking: int
    """Images that were exported and have no score."""


def take(run: Path, file: Path, *, of: Path | None, metric: str | None) -> tuple[Taken, Results]:
    """Keep the scores of a result file as a metric of a run, and write its report again; returns both.

    `of` is the tree that was scored, else one of the folders above the file. UserError with file and place for a
    score of an image that was not exported, of another prompt, or that is no number.
    """
    tree = of or next((p for p in file.resolve().parents if (p / INDEX).is_file()), None)
    index = index_of(tree / INDEX) if tree else None
    if not isinstance(index, dict):
        raise UserError(
            f"{tree or file}: no {INDEX} there{'' if tree else ' or in a folder above'}; give the exported folder that "
            "was scored as --of FOLDER"
        )
    lacking = [key for key in ("layout", "setting", "method", "prompts", "images") if key not in index]
    if lacking or index["layout"] not in LAYOUTS:
        raise UserError(f"{tree}/{INDEX}: not what an export writes ({', '.join(lacking) or 'layout'}); export again")
    name = metric or _metric(file, index["layout"])
    if name not in (original.GENEVAL, *original.COMPBENCH.values()):
        raise UserError(
            f"--metric {name}: expected one of {', '.join((original.GENEVAL, *original.COMPBENCH.values()))}"
        )
    read = _geneval_results if index["layout"] == "geneval" else _compbench_results
    ledger = Ledger(run)
    with full_disk_is_said(run), exclusive(run):
        scores = _checked(read(file, index["images"]), file, index, ledger, run)
        entry: MetricEntry = registry.get("metrics", name)
        with ledger.transaction():
            ledger.put_scores(
                (*key, name, entry.digest(), value, json.dumps(detail), None) for key, value, detail in scores
            )
            added = ledger.get("added_metrics") or []
            ledger.set("added_metrics", list(dict.fromkeys([*added, name])))
        found = write_report(ledger)
    ledger.close()
    return Taken(name, index["method"], index["prompts"], len(scores), len(index["images"]) - len(scores)), found


_SAMPLE = re.compile(r"(?:^|/)(?P<place>\d+/samples/\d+\.png)$")
_Score = tuple[str, str, float, dict[str, Any]]
"""Place in the file, name of the image, value and detail."""


def _metric(file: Path, layout: str) -> str:
    if layout == "geneval":
        return original.GENEVAL
    found = original.COMPBENCH.get(file.resolve().parent.name)
    if found is None:
        raise UserError(
            f"{file}: its folder does not say what it holds (expected one of {', '.join(original.COMPBENCH)}); give "
            f"--metric, one of {', '.join(original.COMPBENCH.values())}"
        )
    return found


def _checked(
    scores: Iterator[_Score], file: Path, index: dict[str, Any], ledger: Ledger, run: Path
) -> list[tuple[tuple[str, str], float, dict[str, Any]]]:
    """Scores by image digest and prompt key, each image once and of this run."""
    here = {image.digest for image in ledger.images().values()}
    seen: set[str] = set()
    found = []
    for place, name, value, detail in scores:
        digest, key = index["images"][name]
        if name in seen:
            raise UserError(f"{place}: a second score of {name}")
        if digest not in here:
            raise UserError(f"{place}: {name} is no image of {run}; was the run made again since, or is it another?")
        seen.add(name)
        found.append(((digest, key), value, detail))
    if not found:
        raise UserError(f"{file}: no scores there")
    return found


def text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _geneval_results(file: Path, images: Mapping[str, Any]) -> Iterator[_Score]:
    """The lines of results.jsonl: `correct` as 1 or 0, with the reason."""
    for number, line in enumerate(text_of(file).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        row = parsed(line, place)
        if not isinstance(row, dict) or not {"filename", "correct"} <= row.keys():
            raise UserError(f"{place}: expected an object with filename and correct, got {said(row)}")
        sample = _SAMPLE.search(str(row["filename"]).replace("\\", "/"))
        if sample is None or sample["place"] not in images:
            raise UserError(
                f"{place}: {said(row['filename'])} was not exported; give the folder it is of as --of FOLDER"
            )
        if row["correct"] not in (True, False):
            raise UserError(f"{place}: 'correct' should be true or false, got {said(row['correct'])}")
        detail = {key: row[key] for key in ("tag", "reason") if isinstance(row.get(key), str)}
        yield place, sample["place"], float(row["correct"]), detail


def _compbench_results(file: Path, images: Mapping[str, Any]) -> Iterator[_Score]:
    """The entries of vqa_result.json; a question's id is the number in an image's name."""
    by_number = {int(name.rpartition("_")[2].removesuffix(".png")): name for name in images}
    rows = parsed(text_of(file), str(file))
    if not isinstance(rows, list):
        raise UserError(f"{file}: expected a list of question_id and answer, got {said(rows)}")
    for at, row in enumerate(rows):
        place = f"{file}: entry {at}"
        if not isinstance(row, dict) or not {"question_id", "answer"} <= row.keys():
            raise UserError(f"{place}: expected question_id and answer, got {said(row)}")
        name = by_number.get(row["question_id"]) if isinstance(row["question_id"], int) else None
        if name is None:
            raise UserError(
                f"{place}: question_id {said(row['question_id'])} is no image of the {len(by_number)} exported"
            )
        yield place, name, _answer(row["answer"], place), {}


def _answer(given: Any, place: str) -> float:
    try:
        value = float(given) if isinstance(given, str | int | float) else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}: 'answer' should be a number, got {said(given)}")
    return value


def parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error})") from None
