"""What a suite file means: its keys, what may be left out, and what its id knows."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
from stand_ins import (
    LINES,
    changed,
    labels,
    parse,
)
from stand_ins import plugins as plugins

from bench import suite
from bench.suite import Control, Gate, Link, MethodSpec

pytestmark = pytest.mark.usefixtures("plugins")


def test_the_whole_format() -> None:
    made = parse(
        dedent("""\
        name: sdxl_main
        title: The paper's main table
        reproduces: "final:T2"
        models: [sdxl]
        prompts: [drawbench, hpd]
        samplers: [ddim]
        steps: [20, 50]
        guidance: 5
        seeds: {from: 3, to: 5}
        images_per_prompt: 2
        baseline: standard
        methods:
          - standard
          - use: best_of_n
            name: best_of_8
            n: 8
          - [ays, inversion]
          - name: both
            chain: [ays, {use: golden, weights: w.safetensors}]
        metrics: [hpsv2, clipscore]
        negative_prompt: blurry
        batch_size: 32
        controls: {both: zero, best_of_8: {effect: positive, metric: hpsv2}}
        gates:
          - {metric: hpsv2, method: both, delta: -0.05, two_sided: true}
          - {metric: clipscore, win_rate: 0.4, prompts: hpd}
          - {metric: noise_ms, method: both, ratio: 1.2}
        """)
    )
    assert (made.name, made.title, made.reproduces) == ("sdxl_main", "The paper's main table", "final:T2")
    assert (made.steps, made.guidance, made.seeds) == ((20, 50), (5.0,), (3, 4, 5))
    assert (made.images_per_prompt, made.batch_size, made.negative_prompt) == (2, 32, "blurry")
    assert made.methods == (
        MethodSpec(label="standard", chain=(Link(use="standard"),)),
        MethodSpec(label="best_of_8", chain=(Link(use="best_of_n", params={"chooser": "preference", "n": 8}),)),
        MethodSpec(label="ays+inversion", chain=(Link(use="ays"), Link(use="inversion"))),
        MethodSpec(label="both", chain=(Link(use="ays"), Link(use="golden", params={"weights": "w.safetensors"}))),
    )
    assert made.controls == {
        "both": Control(effect="zero"),
        "best_of_8": Control(effect="positive", metric="hpsv2"),
    }
    assert made.gates == (
        Gate(metric="hpsv2", method="both", delta=-0.05, two_sided=True),
        Gate(metric="clipscore", win_rate=0.4, prompts="hpd"),
        Gate(metric="noise_ms", method="both", ratio=1.2),
    )


def test_what_may_be_left_out() -> None:
    made = parse(changed("steps: 50\nguidance: 5.5\nseeds: [0]\n", ""))
    assert (made.name, made.title, made.steps, made.guidance, made.seeds) == ("s", "", None, None, (0,))
    assert (made.images_per_prompt, made.batch_size, made.limit, made.twin, made.notes) == (None, None, None, False, ())
    assert made.source_text == changed("steps: 50\nguidance: 5.5\nseeds: [0]\n", "")


def test_one_seed_is_written_as_a_number() -> None:
    assert parse(changed("seeds: [0]", "seeds: 7")).seeds == (7,)


def test_an_unnamed_method_is_labelled_by_its_use() -> None:
    assert labels(parse(changed("    name: best_of_4\n", ""))) == ["standard", "inversion", "best_of_n"]


def test_a_suite_read_back_from_its_own_json_is_the_same() -> None:
    made = parse(limit=3)
    assert suite.Suite.model_validate_json(made.model_dump_json()) == made


def test_id_is_ten_hex_digits_of_canonical_json() -> None:
    made = parse()
    assert len(made.id) == 10
    assert set(made.id) <= set("0123456789abcdef")
    assert json.loads(made.canonical())["steps"] == [50]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("models:", "title: Another\nmodels:"),
        ("models:", "name: another\nmodels:"),
        ("models:", "batch_size: 3\nmodels:"),
        ("models:", "headline: hpsv2\nmodels:"),
        ("models:", "# a comment\nmodels:"),
        ("metrics:", "gates: [{metric: hpsv2, delta: 0.0}]\nmetrics:"),
        ("seeds: [0]", "seeds: {from: 0, to: 0}"),
        ("guidance: 5.5", "guidance: [5.50]"),
        ("name: best_of_4\n", "name: best_of_4\n    n: 4\n"),
        ("name: best_of_4\n", "name: best_of_4\n    chooser: preference\n    n: 4\n"),
        ("  - inversion", "  - {use: inversion}"),
        ("  - inversion", "  - [inversion]"),
    ],
)
def test_id_stays_when_results_would(old: str, new: str) -> None:
    assert parse(changed(old, new)).id == parse().id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("steps: 50", "steps: 20"),
        ("seeds: [0]", "seeds: [1]"),
        ("models:", "negative_prompt: blurry\nmodels:"),
        ("models:", "controls: {inversion: zero}\nmodels:"),
        ("name: best_of_4\n", "name: best_of_4\n    n: 8\n"),
        ("  - inversion", "  - {use: inversion, name: inverted}"),
        ("[hpsv2, clipscore]", "[hpsv2]"),
    ],
)
def test_id_changes_when_results_would(old: str, new: str) -> None:
    assert parse(changed(old, new)).id != parse().id


def test_id_knows_the_limit() -> None:
    assert parse(limit=2).id != parse().id


def test_a_date_is_text() -> None:
    assert parse("title: 2024-01-31\n" + LINES).title == "2024-01-31"


def test_load_reads_a_file_and_names_the_suite_after_it(tmp_path: Path) -> None:
    file = tmp_path / "table_2.yaml"
    file.write_text("\ufeff" + LINES, encoding="utf-8")
    assert (suite.load(file).name, suite.load(file).source_text) == ("table_2", LINES)
    assert suite.load(file, overrides=["steps=20"], limit=5, methods=["inversion"], metrics=["hpsv2"]) == suite.parse(
        LINES, file=str(file), overrides=["steps=20"], limit=5, methods=["inversion"], metrics=["hpsv2"]
    )
