"""`bench ls`: the catalogue for people, and with `--json` for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import registry
from bench.catalogue.listing import catalogue, doctor, lines
from bench.cli import main

KEYS = {"kind", "name", "about", "source", "license", "cost", "needs", "built", "twin", "twin_of", "package"}


def _by_name(kind: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in catalogue(kind)}


def test_every_plugin_of_every_kind_has_the_same_keys() -> None:
    rows = catalogue(None)
    assert [(r["kind"], r["name"]) for r in rows] == [(k, n) for k in registry.KINDS for n in registry.names(k)]
    assert all(set(row) == KEYS for row in rows)
    assert all(row["about"] for row in rows if row["kind"] in ("models", "methods", "weights"))


def test_methods_tell_source_cost_and_needs() -> None:
    inversion = _by_name("methods")["inversion"]
    assert (inversion["cost"], inversion["package"], inversion["built"]) == ("+2 calls", "bench", True)
    initno = _by_name("methods")["initno"]
    assert initno["needs"] == ["attention", "batch of one", "gradient", "subject words"]


def test_twins_are_listed_from_both_sides() -> None:
    models = _by_name("models")
    assert models["sdxl"]["twin"] == "shapes-sdxl"
    assert (models["shapes-sdxl"]["twin"], "sdxl" in models["shapes-sdxl"]["twin_of"]) == (None, True)
    assert "twin of" not in models["shapes-sdxl"]["about"]
    assert models["shapes-sdxl"]["source"] == "shapes-sdxl"  # no path of this machine


def test_what_cannot_be_used_says_so() -> None:
    metrics = _by_name("metrics")
    assert metrics["clipscore"]["built"]
    assert metrics["geneval"]["needs"] == ["prompt metadata"]
    with registry.isolated():
        broken = registry.Broken("mine", "my-package", ImportError("no module named x"))
        registry.add_plugin("methods", "mine", broken, "my-package")
        row = _by_name("methods")["mine"]
        assert (row["built"], row["package"]) == (False, "my-package")
        assert "does not load" in row["about"]
        assert any(line.startswith("  mine") and "broken" in line for line in lines("methods"))


def test_the_command_prints_one_json_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "weights", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in rows} == {"weights"}
    assert "@" in next(row["source"] for row in rows if row["name"] == "dpo-sdxl")


def test_doctor_says_in_one_line_what_fetch_gets_and_in_one_each_what_it_does_not() -> None:
    listed = [line for line in doctor() if line.startswith("missing")]
    assert len(listed) < 12, listed
    fetched = [line for line in listed if "python -m bench fetch" in line]
    assert [line.split(":")[0].split(maxsplit=2)[2] for line in fetched] == ["models", "prompt sets", "metrics"]
    assert all(name in fetched[1] for name in ("drawbench", "t2i-compbench_color_train"))
    assert fetched[2].endswith("`python -m bench fetch --metric aesthetic` gets what it needs")
    assert all("SUITE" not in line for line in listed)
    (made,) = (line for line in listed if line.startswith("missing  prompts controlnet: "))
    assert "there is no public file of it" in made
