"""What `--twin` makes of a suite: stand-ins for all that has one, and notes on the rest."""

from __future__ import annotations

import pytest
from facts import missing
from stand_ins import (
    BEST_OF_4,
    INVERSION,
    KEYS,
    RULES,
    STANDARD,
    changed,
    labels,
    lacks,
    parse,
    refused,
)
from stand_ins import plugins as plugins
from suite_texts import suite_text

from bench import suite
from bench.suite import Control, Gate

pytestmark = pytest.mark.usefixtures("plugins")


def notes_lack(made: suite.Suite, *expected: list[str]) -> list[list[str]]:
    """Which facts each note of a suite does not say."""
    return [missing(note, *facts) for note, facts in zip(made.notes, expected, strict=True)]


def test_twin_maps_names_in_order_and_merges_what_becomes_one() -> None:
    made = parse(
        suite_text(KEYS, models=["sd21", "sdxl", "orphan"], metrics=["hpsv2", "preference", "pickscore", "clipscore"]),
        twin=True,
    )
    assert made.twin
    assert (made.models, made.prompts) == (("shapes",), ("shapes_short", "shapes_long"))
    assert made.samplers == ("ddim",)
    assert made.metrics == ("shapes_pref", "shapes_clip")
    assert made.methods[2].chain[0].params == {"chooser": "shapes_pref", "n": 4}
    assert (made.steps, made.guidance) == (None, None)
    assert (
        notes_lack(
            made,
            ["model 'orphan'", "no twin", "left out"],
            ["models 'sd21', 'sdxl'", "one", "'shapes'"],
            ["metric 'pickscore'", "no twin", "left out"],
            ["metrics 'hpsv2', 'preference'", "one", "'shapes_pref'"],
            ["steps", "default", "not the suite's", "--set steps=..."],
            ["guidance", "default", "not the suite's", "--set guidance=..."],
        )
        == [[]] * 6
    )


def test_twin_keeps_what_set_gives() -> None:
    made = parse(twin=True, overrides=["steps=8", "guidance=2"])
    assert (made.steps, made.guidance, made.notes) == ((8,), (2.0,), ())


def test_twin_of_a_twin_is_itself() -> None:
    text = suite_text(KEYS, models=["shapes"], metrics=["shapes_pref"])
    assert (parse(text, twin=True).models, parse(text, twin=True).metrics) == (("shapes",), ("shapes_pref",))


def test_twin_leaves_out_a_method_whose_chooser_has_none() -> None:
    methods = [STANDARD, INVERSION, BEST_OF_4 | {"chooser": "pickscore"}]
    made = parse(suite_text(KEYS, methods=methods) + RULES, twin=True)
    assert labels(made) == ["standard", "inversion"]
    assert missing(made.notes[0], "method 'best_of_4'", "'pickscore'", "no twin", "left out") == []
    assert set(made.controls) == {"inversion"}
    assert [gate.method for gate in made.gates] == ["inversion", None]


def test_twin_maps_rules_and_drops_those_without() -> None:
    text = suite_text(
        KEYS,
        prompts=["lonely", "drawbench", "hpd"],
        metrics=["hpsv2", "preference", "clipscore", "pickscore"],
    )
    rules = """\
controls: {inversion: {effect: zero, metric: pickscore}, best_of_4: {effect: positive, metric: preference}}
gates:
  - {metric: hpsv2, delta: 0.0, prompts: hpd}
  - {metric: preference, delta: 0.0, prompts: hpd}
  - {metric: pickscore, delta: 0.0}
  - {metric: clipscore, delta: 0.0, prompts: lonely}
  - {metric: noise_ms, ratio: 2}
"""
    made = parse(text + rules, twin=True)
    assert made.controls == {"best_of_4": Control(effect="positive", metric="shapes_pref")}
    assert made.gates == (
        Gate(metric="shapes_pref", delta=0.0, prompts="shapes_long"),
        Gate(metric="noise_ms", ratio=2),
    )


@pytest.mark.parametrize(
    ("old", "new", "at", "facts"),
    [
        ("[sdxl]", "[orphan]", 1, ["no model", "'orphan'"]),
        ("[drawbench, hpd]", "[lonely]", 2, ["no prompt set", "'lonely'"]),
        ("[hpsv2, clipscore]", "[pickscore]", 13, ["no metric", "'pickscore'"]),
        (
            "- standard\n",
            "- {use: best_of_n, chooser: pickscore, name: standard}\n",
            7,
            ["no baseline", "'standard' chooses by a metric"],
        ),
    ],
)
def test_twin_of_nothing(old: str, new: str, at: int, facts: list[str]) -> None:
    assert lacks(refused(changed(old, new), twin=True), at, "--twin", "twin yet", *facts) == []


GOLDEN = {"use": "golden", "weights": "published"}


def test_twin_leaves_out_a_method_that_cannot_serve_the_twin_model() -> None:
    rules = "controls: {inversion+golden: zero}\ngates: [{metric: hpsv2, method: inversion+golden, delta: 0.0}]\n"
    text = suite_text(KEYS, methods=[STANDARD, INVERSION, [INVERSION, GOLDEN], BEST_OF_4]) + rules
    made = parse(text, twin=True)
    assert labels(made) == ["standard", "inversion", "best_of_4"]
    facts = ("method 'inversion+golden'", "'shapes'", "no weights are known for it", "left out")
    assert missing(made.notes[0], *facts) == []
    assert (made.controls, made.gates) == ({}, ())
    assert labels(parse(text)) == ["standard", "inversion", "inversion+golden", "best_of_4"]


def test_twin_of_a_named_stand_in_leaves_its_methods_to_the_plan() -> None:
    text = suite_text(KEYS, models=["shapes"], methods=[STANDARD, GOLDEN, BEST_OF_4])
    assert labels(parse(text, twin=True)) == ["standard", "golden", "best_of_4"]


def test_twin_may_not_leave_out_the_baseline() -> None:
    text = suite_text(KEYS, methods=[GOLDEN | {"name": "standard"}, INVERSION, BEST_OF_4])
    facts = ("--twin", "no baseline", "'standard'", "'shapes'", "no weights are known for it")
    assert lacks(refused(text, twin=True), 7, *facts) == []


def test_twin_keeps_values_that_the_suite_compares() -> None:
    made = parse(suite_text(KEYS, steps=[10, 50]), twin=True)
    assert (made.steps, made.guidance) == ((10, 50), None)
    assert not [note for note in made.notes if note.startswith("steps")]
