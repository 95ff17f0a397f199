"""The one builder of suites for tests: keys as plain Python values, changed by name, written as a suite file's text.

`suite_text(steps=2, controls=None)` is the tiny suite with other steps and no controls. A test of the YAML itself, such
as the line that an error names, works on text instead, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

BEST_OF_2: dict[str, Any] = {"use": "best_of_n", "name": "best_of_2", "n": 2, "selection_metric": "shapes-geneval"}
SETTING: dict[str, Any] = {
    "models": ["shapes-sdxl"],
    "prompts": ["shapes-pickapic"],
    "samplers": ["ddim"],
    "steps": 4,
    "guidance": 5.0,
    "seeds": [0],
    "baseline": "standard",
}
"""How images are made in suites of these tests."""
FOUR_ARMS: dict[str, Any] = {
    "name": "tiny",
    "title": "Four arms on the embedded world",
    **SETTING,
    "methods": ["standard", "inversion", BEST_OF_2, "reseed"],
    "metrics": ["shapes-geneval", "shapes-clipscore"],
    "controls": {"reseed": "zero"},
}
"""The tiny suite: what `tiny` and `finished` are of."""
ANY_PROMPTS: dict[str, Any] = {
    **FOUR_ARMS,
    "methods": ["standard", "inversion", "reseed"],
    "metrics": ["shapes-clipscore"],
}
"""The tiny suite without what needs GenEval's metadata, for prompts that have none."""
TWO_ARMS: dict[str, Any] = {
    "name": "made",
    **SETTING,
    "methods": ["standard", "inversion"],
    "metrics": ["shapes-preference"],
}
"""The suite of run folders that are written by hand: `handmade.make`."""


def suite_text(plain: Mapping[str, Any] = FOUR_ARMS, /, **changes: Any) -> str:
    """A suite file's text: `plain`'s keys in their order, those of `changes` in their place or after them.

    A key changed to None is left out. Mappings and `methods` have a line an entry, anything else has one line.
    """
    keys = {**plain, **changes}
    return "".join(_written(key, value) for key, value in keys.items() if value is not None)


def write_suite(path: Path, plain: Mapping[str, Any] = FOUR_ARMS, /, **changes: Any) -> Path:
    """`path`, where the text of `suite_text` now is."""
    path.write_text(suite_text(plain, **changes), encoding="utf-8")
    return path


def _written(key: str, value: Any) -> str:
    if key == "methods" and isinstance(value, list | tuple):
        return f"{key}:\n" + "".join(f"  - {_flow(one)}\n" for one in value)
    if isinstance(value, Mapping):
        return f"{key}:\n" + "".join(f"  {name}: {_flow(one)}\n" for name, one in value.items())
    return f"{key}: {_flow(value)}\n"


def _flow(value: Any) -> str:
    """A value on one line, quoted where YAML would read something else."""
    written = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    return str(written).removeprefix("[").removesuffix("]\n")
