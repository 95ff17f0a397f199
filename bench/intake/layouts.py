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
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.errors import NotComparable, UserError
from bench.prompts.base import Prompt
from bench.store import Image, Ledger, clone_or_copy, inside, prompt_key, write_atomically
from bench.store.whole import AGAIN, damaged

INDEX = "noisebench.json"
MOST_LETTERS = 200
"""Of a prompt in a file's name, in bytes: file systems hold 255 with the number and ending."""


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
    """Write a run's images for original scorers; a tree that was started is finished.

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
            notes.append(
                f"{method} on {prompts} is left out: {LAYOUTS[layout] if not tree.lost else 'no image is there'}"
            )
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


LAYOUTS = {
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
    if place.is_dir() and any(place.iterdir()) and index_of(known) != index:
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
            _put(inside(run, image.file), image.digest, target)


def _put(source: Path, digest: str, target: Path) -> None:
    if why := damaged(source, digest):
        raise UserError(f"{source}: {why}; {AGAIN}")
    clone_or_copy(source, target)


def index_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
