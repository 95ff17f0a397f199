"""T2I-CompBench (Huang et al. 2023, 2307.06350): eight categories, 300 prompts each to report and 700 to train with."""

from __future__ import annotations

from collections.abc import Callable

from bench.prompts.base import Prompt, PromptSet
from bench.prompts.files import PromptFile
from bench.prompts.public import lines
from bench.registry import add_plugin

SOURCE = "https://github.com/Karine-Huang/T2I-CompBench"
REVISION = "1b7094991a57f3c22abdd4f6e8ba6c1a15517073"
SIZES = {"val": 300, "train": 700}
SHA256 = {
    "val": {
        "color": "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d",
        "shape": "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae",
        "texture": "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f",
        "spatial": "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988",
        "3d_spatial": "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9",
        "non_spatial": "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d",
        "numeracy": "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe",
        "complex": "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4",
    },
    "train": {
        "color": "db5d3287027d453f8c977f0c7315f8a01a770f02f61fa54ae19406762982393f",
        "shape": "451bdfccd330d4cf979d45664817be7959e89250b93d5c591cc562b858175a87",
        "texture": "4846315c5972f9e9cc82e4833099e8ec2c28b999ca77269512715f3f56bde54f",
        "spatial": "af14cdf2320057d98f94077e6211c2ddfaabfbb9e3842873657baabb17e00de6",
        "3d_spatial": "0bba7e9ad31b0ce7908f6cbf2426a4b7ef6e8b841c1b737d0ad2d5b8e688dd93",
        "non_spatial": "dbac5a9ec83204dcd0c3538a12d3212e2ce66db6f7ba45b49a1d869b2d3f2430",
        "numeracy": "f66bb8708cb0be23c0406e14d892b25661b2b71e3e72abddc79c38466ab629c6",
        "complex": "d214ac45cb3c5307dd14a144c8c69aa5ffdcc7be74ff71b5dac989f8ca9f924b",
    },
}
"""Digests of the public files by split and category."""


JUDGED = ("color", "shape", "texture", "spatial", "3d_spatial", "non_spatial", "numeracy", "complex")
"""Categories whose validation prompts carry their name, for the scorers of `bench.metrics.t2i_compbench`."""


def file(category: str, split: str) -> PromptFile:
    """One category's file."""
    url = f"{SOURCE}/raw/{REVISION}/examples/dataset/{category}_{split}.txt"
    return PromptFile(f"t2i_compbench_{category}_{split}.txt", url, SHA256[split][category])


def reader(split: str, categories: tuple[str, ...]) -> Callable[[], list[Prompt]]:
    """Reads categories one after the other, numbered through; a category alone needs no name."""

    def read() -> list[Prompt]:
        found: list[Prompt] = []
        for category in categories:
            named = category if len(categories) > 1 else ""
            carried = {"compbench": category} if split == "val" and category in JUDGED else None
            found += [Prompt(len(found) + p.index, p.text, named, carried) for p in lines(file(category, split).text())]
        return found

    return read


def _add(name: str, split: str, categories: tuple[str, ...], about: str) -> None:
    entry = PromptSet(
        name,
        SIZES[split] * len(categories),
        reader(split, categories),
        SOURCE,
        "MIT",
        about=about,
        revision=REVISION,
        files=tuple(file(category, split) for category in categories),
        carries=("compbench",),
    )
    add_plugin("prompts", name, entry, "bench")


# The validation prompts are what papers report on, and have the plain names.
for _split, _suffix, _about in (("val", "", ""), ("train", "_train", "to train on")):
    _add(f"t2i-compbench{_suffix}", _split, tuple(SHA256[_split]), _about)
    for _category in SHA256[_split]:
        _add(f"t2i-compbench_{_category}{_suffix}", _split, (_category,), _about)
