"""The public prompt sets, read as the paper's released code reads them, or as their own public code does."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from bench.prompts.base import Prompt, PromptSet
from bench.prompts.files import PromptFile, PromptFolder
from bench.registry import add_plugin

Reader = Callable[[str], list[Prompt]]


def pickapic(text: str) -> list[Prompt]:
    """The first 101 rows without the empty one (row 87): the paper's 100 prompts."""
    rows = list(csv.reader(io.StringIO(text)))[1:102]
    return [Prompt(i, row[1].strip()) for i, row in enumerate(rows) if row[1].strip()]


def drawbench(text: str) -> list[Prompt]:
    """All 200 prompts with their category; `Gary Marcus et al. ` loses its trailing space."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return [Prompt(i, row["Prompts"].strip(), row["Category"].strip()) for i, row in enumerate(rows)]


def _hpd_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))[1:]


def hpd_cut(text: str) -> list[Prompt]:
    """The first 100 rows as the paper used them: unquoted commas cut a prompt at its first comma."""
    return [Prompt(i, row[1].strip()) for i, row in enumerate(_hpd_rows(text)[:100])]


def hpd_full(text: str) -> list[Prompt]:
    """The first 100 rows whole: every field behind the first, joined again."""
    return hpd_all(text)[:100]


def hpd_all(text: str) -> list[Prompt]:
    """All rows of the file whole, numbered through; the file's own numbers leave 156 to 184 out."""
    return [Prompt(i, ",".join(row[1:]).strip()) for i, row in enumerate(_hpd_rows(text))]


def geneval(text: str) -> list[Prompt]:
    """One JSON object a line: tag, include, exclude, prompt."""
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [Prompt(i, line["prompt"], line["tag"], line) for i, line in enumerate(found)]


def geneval2(text: str) -> list[Prompt]:
    """One JSON object a line: prompt, atom_count, vqa_list, skills; categories are the numbers of atoms, 3 to 10."""
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [Prompt(i, line["prompt"].strip(), f"{line['atom_count']} atoms", line) for i, line in enumerate(found)]


def lines(text: str) -> list[Prompt]:
    """One prompt a line; the public files end their lines with CRLF and the last one not at all."""
    return [Prompt(i, line.strip()) for i, line in enumerate(text.splitlines()) if line.strip()]


_PAPER = "https://github.com/xie-lab-ml/Golden-Noise-for-Diffusion-Models"
_PAPER_AT = "aa7103edd7746dab9793aac9e785515d57316ace"
_GENEVAL = "https://github.com/djghosh13/geneval"
_GENEVAL_AT = "af4902f24d3ca90ebbb446dd9891a59e0f82725f"
_GENEVAL2 = "https://github.com/facebookresearch/GenEval2"
_GENEVAL2_AT = "a6e82d2289e8d418f27f0adee77908b07060eea3"
_ELLA = "https://github.com/TencentQQGYLab/ELLA"
_ELLA_AT = "3c228f1dc6c4d3cad0a47493816151a419f14db3"

# The seeds that figure 18 of the paper's first version prints beside its prompts; the full list is not published.
_PICK_SEEDS = {0: 54, 1: 60, 2: 43, 3: 64, 4: 63, 5: 97, 6: 31, 7: 56, 9: 21, 11: 19, 13: 33, 14: 79, 15: 13, 16: 3}
_PICK_SEEDS |= {17: 6, 18: 69, 19: 68}
_HPD_SEEDS = {0: 8, 1: 37, 2: 1, 3: 27, 5: 60, 7: 72, 8: 47, 9: 81, 10: 59, 11: 16, 12: 18, 13: 9, 14: 30, 15: 38}
_HPD_SEEDS |= {16: 74, 17: 12, 18: 65}


def _add(
    name: str,
    size: int,
    file: PromptFile,
    reader: Reader,
    *,
    source: str,
    revision: str,
    license: str,
    per_prompt: int = 1,
    about: str = "",
    seeds: Mapping[int, int] | None = None,
    carries: tuple[str, ...] = (),
) -> None:
    own = {i: (seed,) for i, seed in (seeds or {}).items()}

    def read() -> list[Prompt]:
        return [replace(p, seeds=own.get(p.index, ())) for p in reader(file.text())]

    entry = PromptSet(
        name,
        size,
        read,
        source,
        license,
        images_per_prompt=per_prompt,
        about=about,
        revision=revision,
        files=(file,),
        seeds=own,
        carries=carries,
    )
    add_plugin("prompts", name, entry, "bench")


def _of_paper(
    name: str,
    size: int,
    file: str,
    sha256: str,
    reader: Reader,
    *,
    license: str,
    about: str = "",
    seeds: Mapping[int, int] | None = None,
    carries: tuple[str, ...] = (),
) -> None:
    stored = PromptFile(file, f"{_PAPER}/raw/{_PAPER_AT}/data/{file}", sha256, _BYTES.get(file))
    _add(name, size, stored, reader, source=_PAPER, revision=_PAPER_AT, license=license, about=about, seeds=seeds)


_BYTES = {"HPD_prompt.csv": 34_490, "drawbench.csv": 15_717}
_HPD = ("HPD_prompt.csv", "69b58ca7070e23b667e69afcb61ed584c6846673defc3a783bb7fe6425dc9861")

_of_paper(
    "pick-a-pic",
    100,
    "pickscore.csv",
    "4414e3c7e1e9c9515071e969f0e5808d3e2b8e3b288b91e3f0bbfe601a11cf34",
    pickapic,
    license="see yuvalkirstain/pickapic_v1",
    about="the paper's 100 prompts: rows 0 to 100 without the empty row 87; 17 have published seeds",
    seeds=_PICK_SEEDS,
)
_of_paper(
    "drawbench",
    200,
    "drawbench.csv",
    "e120fd4d8aa8f6c44b0b3ee92d9dfb7463c67f5b2d427d23a2bf388f80a0c0c1",
    drawbench,
    license="public",
)
_of_paper(
    "hpd",
    100,
    *_HPD,
    hpd_cut,
    license="Apache-2.0",
    about="cut at the first comma, as in the paper; 17 have published seeds",
    seeds=_HPD_SEEDS,
)
_of_paper(
    "hpd_full",
    100,
    *_HPD,
    hpd_full,
    license="Apache-2.0",
    about="the same rows, whole; the same seeds",
    seeds=_HPD_SEEDS,
)
_of_paper(
    "hpd_all",
    371,
    *_HPD,
    hpd_all,
    license="Apache-2.0",
    about="the whole file, uncut; the same seeds",
    seeds=_HPD_SEEDS,
)
_add(
    "geneval",
    553,
    PromptFile(
        "geneval_metadata.jsonl",
        f"{_GENEVAL}/raw/{_GENEVAL_AT}/prompts/evaluation_metadata.jsonl",
        "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
        85_209,
    ),
    geneval,
    source=_GENEVAL,
    revision=_GENEVAL_AT,
    license="MIT",
    per_prompt=4,
    carries=("include",),
)
_add(
    "geneval2",
    800,
    PromptFile(
        "geneval2_data.jsonl",
        f"{_GENEVAL2}/raw/{_GENEVAL2_AT}/geneval2_data.jsonl",
        "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43",
    ),
    geneval2,
    source=_GENEVAL2,
    revision=_GENEVAL2_AT,
    license="CC BY-NC 4.0: not for commercial use",
    about="by number of atoms, each prompt with its questions and answers",
    carries=("vqa_list",),
)

DPG = PromptFolder(
    "dpg",
    f"{_ELLA}/archive/{_ELLA_AT}.tar.gz",
    "dpg_bench/prompts",
    "f276e68dcadd0c9e70af47369ca2adbe652d85ab9a92561315a9267f236c00b9",
)


def dpg() -> list[Prompt]:
    """DPG-Bench's 1,065 long prompts, by the names of their files, which its own code names images after."""
    texts = DPG.texts().values()
    return [Prompt(i, text.strip()) for i, text in enumerate(texts)]


add_plugin(
    "prompts",
    "dpg",
    PromptSet(
        "dpg",
        1065,
        dpg,
        _ELLA,
        "Apache-2.0",
        images_per_prompt=4,
        about="DPG-Bench: long prompts of many objects, in the order of their files' names",
        revision=_ELLA_AT,
        files=(DPG,),
    ),
    "bench",
)
