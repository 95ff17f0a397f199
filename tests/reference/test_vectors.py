"""Every stored vector against closed forms in float64; the README of this folder says what each file holds.

A new family of files needs its `check_FAMILY` in checks.py; a method's own tests read the same files through
`reference.stored`.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import ays
import controlnet
import lcm
import numpy as np
import pytest
import repaint
from checks import CHECKS
from closed_forms import abar, coefficients, up
from stored import FOLDER, Vectors, found

ELSEWHERE = {"attention", "scores", "sets"}
"""Families that another test file checks."""
FILES = [path for path in found() if path.stem.split("-")[0] not in ELSEWHERE]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stored_vector_follows_from_its_closed_form(path: Path) -> None:
    v = Vectors(path)
    assert v.family in CHECKS, f"{path.name}: write check_{v.family} for this family"
    assert all(np.isfinite(array).all() for array in v.values() if array.dtype.kind == "f")
    CHECKS[v.family](v)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stored_vector_is_small_and_says_where_it_comes_from(path: Path) -> None:
    assert path.stat().st_size < 300_000
    origin = Vectors(path).origin
    assert {"repository", "commit", "file", "licence", "function", "seed", "torch", "diffusers"} <= origin.keys()
    assert not any(str(value).startswith("/") for value in origin.values()), "no path of the machine that made it"


@pytest.mark.skipif(bool(os.environ.get("NOISEBENCH_VECTORS")), reason="another folder may hold one family alone")
def test_every_family_is_there() -> None:
    assert {Vectors(path).family for path in FILES} == set(CHECKS)


@pytest.mark.parametrize("script", [ays, lcm, controlnet, repaint], ids=lambda module: module.__name__)
def test_other_seeds_give_other_vectors_that_pass_too(script: ModuleType, tmp_path: Path) -> None:
    script.main(["--seed", "1", "--out", str(tmp_path)])
    made = [Vectors(path) for path in found(folder=tmp_path)]
    assert made
    for v in made:
        CHECKS[v.family](v)
    seeded = [v for v in made if v.origin["seed"] is not None]
    for v in seeded:
        first = FOLDER / f"{v.name.replace('-seed1', '-seed0')}.npz"
        if first.is_file():
            assert not np.array_equal(v["latents"], Vectors(first)["latents"])


def test_the_papers_constants() -> None:
    """Closed forms at SDXL's schedule: re-noise weights and inversion coefficients, to the printed digits."""
    for n, weights in {50: (0.8906, 0.4548), 10: (0.6190, 0.7854)}.items():
        ts = np.array([1000 // n * k + 1 for k in reversed(range(n))])
        w = abar(ts[0]) / abar(ts[1])
        assert (w**0.5, (1 - w) ** 0.5) == pytest.approx(weights, abs=5e-5)
        for move, expected in MOVES[n].items():
            source, target = up(ts, 0, move)
            assert coefficients(*ts[:2], source=source, target=target) == pytest.approx(expected, abs=5e-5)


MOVES = {
    10: {"intended": (1.0, -0.3854, 0.3854), "released": (1.0790, -0.4158, 0.3416)},
    50: {"intended": (1.0, -0.1098, 0.1098), "released": (1.0035, -0.1101, 0.1068)},
}


def test_the_readme_of_this_folder_has_a_row_for_every_script_and_every_family() -> None:
    text = (Path(__file__).parent / "README.md").read_text()
    scripts = [p for p in Path(__file__).parent.glob("*.py") if "\ndef main(" in p.read_text()]
    assert len(scripts) >= 10
    lacking = [path.name for path in scripts if f"\n| `{path.name}` |" not in text]
    rows = [line for line in text.splitlines() if line.startswith("| `") and ".py` |" not in line]
    for family in {path.stem.split("-")[0] for path in found()}:
        lacking += [] if any(row.startswith((f"| `{family}`", f"| `{family}-")) for row in rows) else [family]
    assert not lacking
