"""The public prompt sets, each a file with its source and sha256, read as the paper's released code reads it.

The files are not part of the project: put them into the folder that `BENCH_DATA` names (default
`~/.cache/bench/prompts`). A file with another digest is refused, because a changed prompt set is another one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.prompts.base import Prompt, PromptSet
from bench.registry import add_plugin

Reader = Callable[[str], list[Prompt]]


@dataclass(frozen=True)
class PromptFile:
    """Where a public file comes from and what it must contain."""

    file: str
    url: str
    sha256: str
    reader: Reader

    def read(self) -> list[Prompt]:
        """The prompts; a missing file or another digest is a UserError that says what to do."""
        path = folder() / self.file
        if not path.is_file():
            raise UserError(f"{path}: missing; download {self.url} to that place (or point BENCH_DATA at its folder)")
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise UserError(
                f"{path}: sha256 is {found[:16]}, expected {self.sha256[:16]}: another file or another version; "
                f"download {self.url} again"
            )
        return self.reader(data.decode("utf-8-sig"))


def folder() -> Path:
    """Where prompt files are looked for."""
    return Path(os.environ.get("BENCH_DATA") or Path.home() / ".cache" / "bench" / "prompts")


def pickapic(text: str) -> list[Prompt]:
    """The first 101 rows without the empty one (row 87): the paper's 100 prompts."""
    rows = list(csv.reader(io.StringIO(text)))[1:102]
    return [Prompt(i, row[1].strip()) for i, row in enumerate(rows) if row[1].strip()]


def drawbench(text: str) -> list[Prompt]:
    """All 200 prompts with their category; `Gary Marcus et al. ` loses its trailing space."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return [Prompt(i, row["Prompts"].strip(), row["Category"].strip()) for i, row in enumerate(rows)]


def _hpd_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))[1:101]


def hpd_cut(text: str) -> list[Prompt]:
    """The first 100 rows as the paper used them: unquoted commas cut a prompt at its first comma."""
    return [Prompt(i, row[1].strip()) for i, row in enumerate(_hpd_rows(text))]


def hpd_full(text: str) -> list[Prompt]:
    """The first 100 rows whole: every field behind the first, joined again."""
    return [Prompt(i, ",".join(row[1:]).strip()) for i, row in enumerate(_hpd_rows(text))]


def geneval(text: str) -> list[Prompt]:
    """One JSON object a line: tag, include, exclude, prompt."""
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [Prompt(i, line["prompt"], line["tag"], line) for i, line in enumerate(lines)]


def lines(text: str) -> list[Prompt]:
    """One prompt a line; the public files end their lines with CRLF and the last one not at all."""
    return [Prompt(i, line.strip()) for i, line in enumerate(text.splitlines()) if line.strip()]


_PAPER = "https://github.com/xie-lab-ml/Golden-Noise-for-Diffusion-Models/raw/aa7103e/data/"
_GENEVAL = "https://github.com/djghosh13/geneval/raw/af4902f/prompts/"
_COMPBENCH = "https://github.com/Karine-Huang/T2I-CompBench/raw/1b70949/examples/dataset/"


def _add(name: str, size: int, file: PromptFile, *, license: str, per_prompt: int = 1, about: str = "") -> None:
    entry = PromptSet(name, size, file.read, file.url, license, images_per_prompt=per_prompt, about=about)
    add_plugin("prompts", name, entry, "bench")


_HPD_SHA = "69b58ca7070e23b667e69afcb61ed584c6846673defc3a783bb7fe6425dc9861"
_HPD = ("HPD_prompt.csv", _PAPER + "HPD_prompt.csv", _HPD_SHA)
_PICK_SHA = "4414e3c7e1e9c9515071e969f0e5808d3e2b8e3b288b91e3f0bbfe601a11cf34"
_DRAW_SHA = "e120fd4d8aa8f6c44b0b3ee92d9dfb7463c67f5b2d427d23a2bf388f80a0c0c1"
_GENEVAL_SHA = "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"

_add(
    "pick-a-pic",
    100,
    PromptFile("pickscore.csv", _PAPER + "pickscore.csv", _PICK_SHA, pickapic),
    license="see yuvalkirstain/pickapic_v1",
    about="the paper's 100 prompts: rows 0 to 100 without the empty row 87",
)
_add("drawbench", 200, PromptFile("drawbench.csv", _PAPER + "drawbench.csv", _DRAW_SHA, drawbench), license="public")
_add("hpd", 100, PromptFile(*_HPD, hpd_cut), license="Apache-2.0", about="cut at the first comma, as in the paper")
_add("hpd_full", 100, PromptFile(*_HPD, hpd_full), license="Apache-2.0", about="the same rows, whole")
_add(
    "geneval",
    553,
    PromptFile("geneval_metadata.jsonl", _GENEVAL + "evaluation_metadata.jsonl", _GENEVAL_SHA, geneval),
    license="MIT",
    per_prompt=4,
)

_COMPBENCH_SHA = {
    "color": "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d",
    "shape": "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae",
    "texture": "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f",
    "spatial": "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988",
    "3d_spatial": "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9",
    "non_spatial": "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d",
    "numeracy": "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe",
    "complex": "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4",
}
for _category, _sha in _COMPBENCH_SHA.items():
    _add(
        f"t2i-compbench_{_category}",
        300,
        PromptFile(f"t2i_compbench_{_category}_val.txt", f"{_COMPBENCH}{_category}_val.txt", _sha, lines),
        license="MIT",
    )


def _compbench() -> list[Prompt]:
    """All eight categories, 300 prompts each, numbered through."""
    found: list[Prompt] = []
    for category, sha in _COMPBENCH_SHA.items():
        file = PromptFile(f"t2i_compbench_{category}_val.txt", f"{_COMPBENCH}{category}_val.txt", sha, lines)
        found += [Prompt(len(found) + p.index, p.text, category) for p in file.read()]
    return found


add_plugin("prompts", "t2i-compbench", PromptSet("t2i-compbench", 2400, _compbench, _COMPBENCH, "MIT"), "bench")
