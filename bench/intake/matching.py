"""Image files that the harness did not make, matched with prompts: in their order, by their names, or by a table.

A table is a file of prompts with a column `path` and, where there, `method` and `seed`; one image may stand with
several prompts. Its paths are relative to the folder of images and stay below it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import registry
from bench.errors import UserError
from bench.prompts import own
from bench.prompts.base import Prompt
from bench.prompts.rows import PROMPT, Row, rows, said

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
"""Of the files of a folder that are taken for images."""
PATH, METHOD, SEED = "path", "method", "seed"
MATCHES = ("order", "name")
_NUMBERED = re.compile(r"(?P<index>\d+)(?:(?:/samples)?[/_-](?:seed_?)?(?P<seed>\d+))?")
_GRID = re.compile(r"\d+/grid")
"""GenEval's generator leaves one beside the samples of each prompt."""
_RUNNING = re.compile(r"(?P<text>.+?)[_ -](?P<number>\d+)")


@dataclass(frozen=True)
class Given:
    """One image file and what it is an image of."""

    path: Path
    prompt: Prompt
    method: str
    seed: int


@dataclass(frozen=True)
class Source:
    """Where prompts come from, and whether that is a table that names images too."""

    name: str
    """As results name the prompt set: a file's name without its folder."""
    prompts: tuple[Prompt, ...] = ()
    table: Path | None = None
    column: str = ""
    """Where a table's prompts stand."""


def source(given: str) -> Source:
    """`--prompts`: a file as `PATH` or `PATH:COLUMN`, or a prompt set's name; UserError for what is neither."""
    named = given.startswith("hf:") or (not Path(given).suffix and not given.startswith("file:"))
    if named or given in registry.names("prompts"):
        return Source(given, tuple(registry.get("prompts", given).read()))
    path, column = own.place_of(given if given.startswith("file:") else f"file:{given}")
    first = next(iter(rows(path)), None)
    if first is not None and PATH in own.cased(first.cells, (PATH,)):
        return Source(path.name, table=path, column=column)
    return Source(path.name, tuple(own.read(path, column)))


# In order or by name -------------------------------------------------------------------------------------------------


def images_of(folder: Path, *, deep: bool) -> list[Path]:
    """Its image files, names with numbers in the order of the numbers; `deep` looks into folders below it too."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with images")
    files = folder.rglob("*") if deep else folder.iterdir()
    found = [f for f in files if f.suffix.lower() in ENDINGS and not f.name.startswith(".") and f.is_file()]
    if not found:
        below = " at its top; --match name looks below" if not deep and next(_below(folder), None) else ""
        raise UserError(f"{folder}: no images{below} (expected files ending in {', '.join(ENDINGS)})")
    return sorted(found, key=lambda f: _natural(f.relative_to(folder).as_posix()))


def _below(folder: Path) -> Iterator[Path]:
    return (f for f in folder.rglob("*") if f.suffix.lower() in ENDINGS)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def in_order(folder: Path, prompts: Sequence[Prompt], *, per_prompt: int = 1) -> list[Given]:
    """The images of a folder as those of the prompts, one after the other, `per_prompt` of each in a row."""
    files = images_of(folder, deep=False)
    seeds = [p.seeds or tuple(range(per_prompt)) for p in prompts]
    wanted = sum(map(len, seeds))
    if len(files) != wanted:
        each = "" if wanted == len(prompts) else f", which ask for {wanted}"
        many = len(files) // len(prompts) if len(files) % len(prompts) == 0 else 0
        how = f"give --images-per-prompt {many}, or " if many > 1 and per_prompt == 1 and wanted == len(prompts) else ""
        raise UserError(
            f"{folder}: {len(files)} images and {len(prompts)} prompts{each}; {how}match them with --match name, or by "
            "a table with the columns path and prompt as --prompts"
        )
    places = [(prompt, seed) for prompt, some in zip(prompts, seeds, strict=True) for seed in some]
    return [Given(file, prompt, "", seed) for file, (prompt, seed) in zip(files, places, strict=True)]


def by_name(folder: Path, prompts: Sequence[Prompt], *, paired: bool = False) -> list[Given]:
    """The images of a folder and those below it, each of the prompt that its name says.

    `a red cube_000012.png` (T2I-CompBench) and `a red cube.png` say the text, `00012/samples/0003.png` (GenEval),
    `12_3.png`, `12-seed3.png` and `12.png` the prompt's place from 0 and the seed. Numbers behind a text are seeds
    where one stands behind two texts; else they run through all prompts and are counted from 0 for each. Images of one
    prompt have its own seeds where it has any. `paired`: UserError where what is counted lacks images, for those of
    another folder would be paired with the wrong ones.
    """
    texts = _by_text(prompts)
    at = {p.index: p for p in prompts}
    numbered: list[Given] = []
    texted: dict[int, list[tuple[int, Path]]] = {}
    unknown: list[Path] = []
    for file in images_of(folder, deep=True):
        name = file.relative_to(folder).with_suffix("").as_posix()
        running, number = _RUNNING.fullmatch(_last(name)), _NUMBERED.fullmatch(name)
        whole = texts.get(plain(_last(name)))
        prompt = whole or (texts.get(plain(running["text"])) if running else None)
        if prompt is not None:
            count = int(running["number"]) if running and not whole else 0
            texted.setdefault(prompt.index, []).append((count, file))
        elif number and int(number["index"]) in at:
            numbered.append(Given(file, at[int(number["index"])], "", int(number["seed"] or 0)))
        elif not _GRID.fullmatch(name):
            unknown.append(file)
    if unknown:
        raise UserError(
            f"{unknown[0]}: its name says none of {len(prompts)} prompts (nor do {len(unknown) - 1} others); expected "
            "such as '00012/samples/0003.png' or '12_3.png', places counted from 0, or the prompt's text"
        )
    found = [*numbered, *_of_texts(folder, texted, at, paired=paired)]
    lacking = [p for p in prompts if p.index not in {one.prompt.index for one in found}]
    if lacking:
        raise UserError(
            f"{folder}: no image for {len(lacking)} of {len(prompts)} prompts, the first {said(lacking[0].text)}; "
            "leave those prompts out of the file"
        )
    _refuse_twice(found)
    return sorted(found, key=lambda one: (one.prompt.index, one.seed))


def _of_texts(
    folder: Path, texted: dict[int, list[tuple[int, Path]]], at: dict[int, Prompt], *, paired: bool
) -> Iterator[Given]:
    """Images that are named by prompts' texts and numbers, with their seeds."""
    numbers = [{number for number, _ in some} for some in texted.values()]
    once = all(len(own) == len(some) for own, some in zip(numbers, texted.values(), strict=True))
    seeds = once and sum(map(len, numbers)) > len(set().union(*numbers))
    most = max(map(len, texted.values()), default=0)
    for index, some in texted.items():
        prompt = at[index]
        if seeds and not prompt.seeds:
            yield from (Given(file, prompt, "", number) for number, file in some)
            continue
        wanted = len(prompt.seeds) or most
        if paired and len(some) < wanted:
            raise UserError(
                f"{folder}: {len(some)} images of {said(prompt.text)}, expected {wanted}, and numbers that run through "
                "all prompts do not say which are missing; name the images such as '12_3.png', or match them by a "
                "table with the columns path, prompt, method and seed"
            )
        yield from (_seeded(file, prompt, k) for k, (_, file) in enumerate(sorted(some)))


def _seeded(file: Path, prompt: Prompt, number: int) -> Given:
    seeds = prompt.seeds or range(number + 1)
    if number >= len(seeds):
        raise UserError(f"{file}: a further image of {said(prompt.text)}, whose file gives {len(seeds)} seeds")
    return Given(file, prompt, "", seeds[number])


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def plain(text: str) -> str:
    """A text as file names may have written it: small letters, a space for what they cannot hold or stand for one."""
    return " ".join(re.sub(r"[_/\\:?*\"<>|]", " ", text).casefold().split())


def _by_text(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    counted = Counter(plain(p.text) for p in prompts)
    return {plain(p.text): p for p in prompts if counted[plain(p.text)] == 1}


def _refuse_twice(found: Sequence[Given]) -> None:
    seen: dict[tuple[str, int, int], Path] = {}
    for one in found:
        first = seen.setdefault((one.method, one.prompt.index, one.seed), one.path)
        if first != one.path:
            raise UserError(f"{one.path}: the same prompt and seed as {first}; leave one of them out")


# By a table ----------------------------------------------------------------------------------------------------------


def by_table(folder: Path, table: Path, *, column: str = "", method: str) -> list[Given]:
    """The images that a table names; a row without a method is one of `method`.

    Rows without a seed are counted from 0 for each prompt and method. UserError with file and line for a bad one.
    """
    home = table.resolve().parent
    known: dict[tuple[str, str, str], Prompt] = {}
    counted: Counter[tuple[str, int]] = Counter()
    found: list[Given] = []
    first: dict[tuple[str, int, int], str] = {}
    for row in rows(table):
        cells = own.cased(row.cells, (PATH, METHOD, SEED, PROMPT))
        try:
            prompt = _prompt(replace(row, cells=cells), column or PROMPT, home, known)
            label = _label(cells.get(METHOD), method)
            seed = prompt.seeds[0] if prompt.seeds else counted[label, prompt.index]
            counted[label, prompt.index] += 1
            path = _path(cells.get(PATH), folder)
        except UserError as error:
            raise UserError(f"{row.place}: {error}") from None
        place = first.setdefault((label, prompt.index, seed), row.place)
        if place != row.place:
            raise UserError(f"{row.place}: the same prompt, method and seed as {place}; leave one of them out")
        found.append(Given(path, replace(prompt, seeds=()), label, seed))
    if not found:
        raise UserError(f"{table}: no rows there; expected the columns path and prompt, and method and seed if need be")
    return found


def _prompt(row: Row, column: str, home: Path, known: dict[tuple[str, str, str], Prompt]) -> Prompt:
    """The row's prompt, numbered as it is met first."""
    given = own.prompt_of(row, column, 0, home)
    if len(given.seeds) > 1:
        raise UserError(f"'seed' should be one whole number, got {said(list(given.seeds))}")
    key = (given.text, given.category, json.dumps(given.metadata, sort_keys=True))
    return replace(known.setdefault(key, replace(given, index=len(known))), seeds=given.seeds)


def _label(value: object, method: str) -> str:
    if value is None or value == "":
        return method
    if not isinstance(value, str | int) or not (label := str(value).strip()) or not label.isprintable():
        raise UserError(f"'method' should be printable text, got {said(value)}")
    return label


def _path(value: object, folder: Path) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise UserError(f"'path' should name an image, got {said(value)}")
    given, homes = Path(value), (folder.absolute(), folder.resolve())
    # By its words alone: a link within the folder is the user's own.
    if ".." in given.parts or (given.is_absolute() and not any(map(given.is_relative_to, homes))):
        raise UserError(f"'path' {value!r} leads out of {folder}; give the folder that holds all images")
    return folder / given


def labels(folder: Path, against: Path) -> tuple[str, str]:
    """What two folders' images are called: the folders' names, with those above them as far as they are the same."""
    ours, theirs = folder.resolve().parts, against.resolve().parts
    for n in range(1, max(len(ours), len(theirs)) + 1):
        both = "/".join(ours[-n:]), "/".join(theirs[-n:])
        if both[0] != both[1]:
            return both
    raise UserError(f"{folder}: the same folder as --against; give another")
