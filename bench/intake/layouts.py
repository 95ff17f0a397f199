"""A run's images in the folders that original scorers read, and those scorers' results as scores of the run.

    geneval    TREE/00012/metadata.jsonl  TREE/00012/samples/0003.png
    compbench  TREE/samples/a red cube_000012.png

A tree is one method on one prompt set. `noisebench.json` at its top says which image each file is, so that results are
taken for the images that were scored and no others.

Sources: djghosh13/geneval, README.md and evaluation/evaluate_images.py; Karine-Huang/T2I-CompBench,
BLIPvqa_eval/BLIP_vqa.py (file names, question ids), UniDet_eval and 3_in_1_eval.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import NotComparable, UserError
from bench.job.stages import write_report
from bench.metrics import original
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt
from bench.prompts.rows import said
from bench.records import Results
from bench.store import Image, Ledger, clone_or_copy, exclusive, full_disk_is_said, inside, prompt_key, write_atomically
from bench.store.images import decode

INDEX = "noisebench.json"
MOST_LETTERS = 200
"""Of a prompt in a file's name, in bytes: file systems hold 255 with the number and ending."""
_SAMPLE = re.compile(r"(?:^|/)(?P<place>\d+/samples/\d+\.png)$")


@dataclass(frozen=True)
class Written:
    """What was exported: images by tree, and what a user must know."""

    trees: dict[Path, int]
    notes: list[str]


@dataclass(frozen=True)
class _Cell:
    setting: tuple[Any, ...]
    method: str
    prompts: str
    prompt: Prompt
    seed: int
    job_id: str


@dataclass
class _Tree:
    """The files of one method on one prompt set: images by name, other texts by name."""

    images: dict[str, tuple[Image, Prompt]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    changed: int = 0
    """Prompts that are not written as they are."""


# Export --------------------------------------------------------------------------------------------------------------


def export(ledger: Ledger, out: Path, layout: str) -> Written:
    """Write a run's images for original scorers; a tree that was begun is finished.

    UserError where a tree's folder holds something else, NotComparable where no prompt fits the layout.
    """
    build = {"geneval": _geneval, "compbench": _compbench}[layout]
    cells, images = list(_cells(ledger)), ledger.images()
    settings = {c.setting for c in cells}
    sets = {c.prompts for c in cells}
    trees: dict[Path, int] = {}
    notes: list[str] = []
    for (setting, method, prompts), group in groupby(cells, key=lambda c: (c.setting, c.method, c.prompts)):
        tree = build(list(group), images)
        if not tree.images:
            notes.append(f"{method} on {prompts} is left out: {_WHY[layout] if not tree.lost else 'no image is there'}")
            continue
        parts = [_slug("-".join(map(str, setting)))] if len(settings) > 1 else []
        parts += [_slug(method), *([_slug(prompts)] if len(sets) > 1 else [])]
        place = out.joinpath(*parts)
        about = {"layout": layout, "setting": list(setting), "method": method, "prompts": prompts}
        _write(tree, place, about, ledger.folder)
        trees[place] = len(tree.images)
        if tree.lost:
            notes.append(f"{place}: {tree.lost} images are not there, so some prompts have fewer than others")
        if tree.changed:
            notes.append(f"{place}: {tree.changed} prompts have '_' or '/', which stand as spaces in the files' names")
    if not trees:
        raise NotComparable(f"{ledger.folder}: nothing to export in the layout {layout} ({'; '.join(notes)})")
    return Written(trees, notes)


_WHY = {
    "geneval": "no prompt carries GenEval's metadata",
    "compbench": "no image is there",
}


def _cells(ledger: Ledger) -> Iterator[_Cell]:
    """A run's cells, one tree's after the other, by prompt and seed."""
    for cell in ledger.cells(by_arm=True):
        prompt = Prompt(cell.prompt_index, cell.prompt, cell.category, cell.carried)
        yield _Cell(cell.setting, cell.method, cell.prompts, prompt, cell.seed, cell.job_id)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name).lstrip("._-").rstrip("._") or "_"


def _geneval(cells: Sequence[_Cell], images: Mapping[str, Image]) -> _Tree:
    """A folder a prompt, named by its place; samples are numbered by their seeds."""
    tree = _Tree()
    for index, group in groupby(cells, key=lambda c: c.prompt.index):
        for number, cell in enumerate(group):
            metadata = cell.prompt.metadata or {}
            if "tag" not in metadata or "include" not in metadata:
                continue
            if cell.job_id not in images:
                tree.lost += 1
                continue
            tree.texts[f"{index:05}/metadata.jsonl"] = json.dumps({**metadata, "prompt": cell.prompt.text})
            tree.images[f"{index:05}/samples/{number:04}.png"] = images[cell.job_id], cell.prompt
    return tree


def _compbench(cells: Sequence[_Cell], images: Mapping[str, Image]) -> _Tree:
    """One folder of samples; numbers run through without a gap, for some of the scorers count files instead."""
    tree = _Tree()
    changed = set()
    for cell in cells:
        if cell.job_id not in images:
            tree.lost += 1
            continue
        # The scorers take the prompt to end at the first underscore.
        text = " ".join(re.sub(r"[_/\0]", " ", cell.prompt.text).split())
        if len(text.encode()) > MOST_LETTERS:
            raise UserError(
                f"prompt {cell.prompt.index} of {cell.prompts} has {len(text.encode())} bytes, and the layout has "
                f"prompts in file names, which hold {MOST_LETTERS}; leave it out of the run"
            )
        if text != cell.prompt.text:
            changed.add(cell.prompt.index)
        tree.images[f"samples/{text}_{len(tree.images):06}.png"] = images[cell.job_id], cell.prompt
    tree.changed = len(changed)
    return tree


def _write(tree: _Tree, place: Path, about: dict[str, Any], run: Path) -> None:
    index = {**about, "images": {name: [i.digest, prompt_key(p)] for name, (i, p) in tree.images.items()}}
    known = place / INDEX
    if place.is_dir() and any(place.iterdir()) and _index(known) != index:
        raise UserError(f"{place}: holds something else than this export; give another --out, or delete it")
    place.mkdir(parents=True, exist_ok=True)
    # First of all, so that an export that was stopped is known for what it is.
    write_atomically(known, json.dumps(index, indent=1, ensure_ascii=False).encode())
    for name, text in tree.texts.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place / name, text.encode())
    for name, (image, _) in tree.images.items():
        target = place / name
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            _put(inside(run, image.file), target)


def _put(source: Path, target: Path) -> None:
    try:
        decode(source)
        clone_or_copy(source, target)
    except UserError as error:
        raise UserError(f"{source}: {error}; delete it and run again, it will be made again") from error


def _index(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


# Import --------------------------------------------------------------------------------------------------------------


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
    index = _index(tree / INDEX) if tree else None
    if not isinstance(index, dict):
        raise UserError(
            f"{tree or file}: no {INDEX} there{'' if tree else ' or in a folder above'}; give the exported folder that "
            "was scored as --of FOLDER"
        )
    lacking = [key for key in ("layout", "setting", "method", "prompts", "images") if key not in index]
    if lacking or index["layout"] not in _WHY:
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


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _geneval_results(file: Path, images: Mapping[str, Any]) -> Iterator[_Score]:
    """The lines of results.jsonl: `correct` as 1 or 0, with the reason."""
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        row = _parsed(line, place)
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
    rows = _parsed(_text(file), str(file))
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


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error})") from None
