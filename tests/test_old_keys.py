"""Former names of keys: suites and stored runs that have them are read, ids stay, and one line names today's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Bench
from suite_texts import write_suite

from bench.methods.best_of_n import BestOfN
from bench.moved import OldName, by_todays_names
from bench.suite import Suite, load
from npnet.teachers.ascent import Ascent
from npnet.teachers.base import BestNearby

CHOOSER = {"use": "best_of_n", "name": "best_of_2", "n": 2, "chooser": "shapes-geneval"}
OLD = ["standard", "inversion", CHOOSER, "reseed"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_suite(tmp_path / "tiny.yaml", methods=OLD)


def test_a_suite_with_an_old_key_is_the_same_suite(old: Path, tiny: Path) -> None:
    with pytest.warns(OldName, match="'chooser' is now 'selection_metric'"):
        found = load(old)
    assert found.methods == load(tiny).methods
    assert found.id == load(tiny).id
    assert '"chooser":"shapes-geneval"' in found.canonical(), "ids of earlier releases have the former name"


@pytest.mark.filterwarnings("always::bench.moved.OldName")
def test_the_program_says_the_new_key_in_one_line(old: Path, bench: Bench) -> None:
    done = bench("plan", old, "--limit", 1)
    assert done.code == 0, done.err
    (line,) = [line for line in done.err.splitlines() if "chooser" in line]
    assert line.startswith("note: ")
    assert "'selection_metric'" in line
    assert "Warning" not in done.err


def test_a_suite_that_a_run_has_stored_is_read_without_a_word(tiny: Path, recwarn: pytest.WarningsRecorder) -> None:
    stored = load(tiny).model_dump_json().replace('"selection_metric"', '"chooser"')
    assert Suite.model_validate(json.loads(stored)) == load(tiny)
    assert not [one for one in recwarn if issubclass(one.category, OldName)]


def test_both_names_are_one_too_many(old: Path, bench: Bench) -> None:
    write_suite(old, methods=["standard", CHOOSER | {"selection_metric": "shapes-geneval"}, "reseed"])
    done = bench("plan", old)
    assert done.code == 2
    assert "'selection_metric' alone" in done.error


def test_ids_have_the_former_names() -> None:
    assert BestOfN(selection_metric="geneval").identity()["chooser"] == "geneval"
    assert BestNearby(selection_metric="geneval").identity()["chooser"] == "geneval"
    assert Ascent(backprop_steps=3).identity()["through"] == 3
    assert BestOfN(chooser="geneval") == BestOfN(selection_metric="geneval")  # type: ignore[call-arg]
    assert by_todays_names({"a": 1}, {"b": "c"}) == {"a": 1}
