"""Reading the stored vectors, for every test that is compared with them.

Another folder of them is named by the environment variable NOISEBENCH_VECTORS.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(os.environ.get("NOISEBENCH_VECTORS") or Path(__file__).parent / "vectors")


class Vectors(dict[str, np.ndarray]):
    """The arrays of one file by name, and where they come from."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            super().__init__(stored)
        self.name = path.stem
        self.origin: dict[str, Any] = json.loads(str(self.pop("origin")))

    @property
    def family(self) -> str:
        """What comes before the name's first hyphen: the script that made the file."""
        return self.name.split("-")[0]

    @property
    def closed(self) -> bool:
        """Whether predictions follow from the closed form; the small UNet makes them otherwise."""
        return "mix" in self


def found(family: str = "*", folder: Path = FOLDER) -> list[Path]:
    """The files of one family, or all, sorted by name."""
    return sorted(path for path in folder.glob("*.npz") if family in ("*", path.stem.split("-")[0]))
