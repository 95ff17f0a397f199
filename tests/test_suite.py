"""What a suite file means, and the one line that each mistake in it gets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from suite_texts import suite_text

from bench import registry, suite
from bench.errors import UserError
from bench.registry import MetricName
from bench.suite import Control, Gate, Link, MethodSpec


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def for_model(self, entry: Any) -> Any:
        return self

    def twinned(self, entry: Any) -> Any:
        return self


class BestOfN(Parameters):
    n: int = Field(4, ge=2)
    chooser: MetricName = "preference"


class Golden(Parameters):
    weights: str

    def for_model(self, entry: Any) -> Any:
        if entry.twin_of:
            raise UserError("golden: no weights are known for it; give some")
        return self


def plain(**names: tuple[str, ...]) -> dict[str, Any]:
    return {name: SimpleNamespace(twin_of=of) for name, of in names.items()}


PLUGINS = {
    "models": plain(sdxl=(), sd21=(), orphan=(), shapes=("sdxl", "sd21")),
    "prompts": plain(drawbench=(), hpd=(), lonely=(), shapes_short=("drawbench",), shapes_long=("hpd",)),
    "samplers": plain(ddim=(), euler=()),
    "metrics": plain(
        hpsv2=(),
        clipscore=(),
        preference=(),
        pickscore=(),
        shapes_pref=("hpsv2", "preference"),
        shapes_clip=("clipscore",),
    ),
    "methods": {
        "standard": Parameters,
        "inversion": Parameters,
        "ays": Parameters,
        "best_of_n": BestOfN,
        "golden": Golden,
    },
}

LINES = """\
models: [sdxl]
prompts: [drawbench, hpd]
samplers: [ddim]
steps: 50
guidance: 5.5
seeds: [0]
baseline: standard
methods:
  - standard
  - inversion
  - use: best_of_n
    name: best_of_4
metrics: [hpsv2, clipscore]
"""
KEYS = yaml.safe_load(LINES)
STANDARD, INVERSION, BEST_OF_4 = KEYS["methods"]


@pytest.fixture(autouse=True)
def plugins() -> Iterator[None]:
    with registry.isolated(PLUGINS):
        yield


def parse(text: str = LINES, **options: Any) -> suite.Suite:
    return suite.parse(text, file="suites/s.yaml", **options)


def line(text: str = LINES, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(old: str, new: str) -> str:
    """Text, and not a builder's keys: what is tested is the format, and the line that an error names."""
    assert LINES.count(old) == 1
    return LINES.replace(old, new)


def labels(made: suite.Suite) -> list[str]:
    return [method.label for method in made.methods]


# The meaning of a file


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


# The id


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


# Mistakes in the YAML itself

TAB = "found character '\\t' that cannot start any token"
PLAIN = "a suite is text, numbers, lists and mappings"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "suites/s.yaml:1: expected a mapping of keys to values, got nothing"),
        ("# only this\n", "suites/s.yaml:1: expected a mapping of keys to values, got nothing"),
        ("- sdxl\n", "suites/s.yaml:1: expected a mapping of keys to values, got ['sdxl']"),
        ("\nsdxl\n", "suites/s.yaml:2: expected a mapping of keys to values, got 'sdxl'"),
        (
            "name: s\nmodels: [sdxl\nsteps: 3\n",
            "suites/s.yaml:3: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got ':'",
        ),
        (
            "name: s\n\tmodels: 1\n",
            "suites/s.yaml:2: not valid YAML: while scanning for the next token, " + TAB,
        ),
        (
            "name: s\n---\nname: t\n",
            "suites/s.yaml:2: not valid YAML: expected a single document in the stream, but found another document",
        ),
        ("name: s\ntitle: a\x07b\n", "suites/s.yaml:2: not valid YAML: character '\\x07' is not allowed"),
        ("a: &x [1]\nb: *x\n", "suites/s.yaml:2: alias '*x': write the value out instead"),
        ("a: &x [*x]\n", "suites/s.yaml:1: alias '*x': write the value out instead"),
        ("a:\n  " + "[" * 5000, "suites/s.yaml:2: nested more than 20 levels deep"),
        (
            "title: s\nname: !!python/object/apply:os.system [ls]\n",
            "suites/s.yaml:2: tag '!!python/object/apply:os.system' is not allowed; " + PLAIN,
        ),
        (
            "name: !mine s\n",
            "suites/s.yaml:1: tag '!mine' is not allowed; a suite is text, numbers, lists and mappings",
        ),
        ("a: !!set {x}\n", "suites/s.yaml:1: tag '!!set' is not allowed; a suite is text, numbers, lists and mappings"),
        ("a: !!int many\n", "suites/s.yaml:1: 'many' is not int"),
        ("a: .nan\n", "suites/s.yaml:1: '.nan' is not a finite number"),
        ("a: 99999999999999999999\n", "suites/s.yaml:1: '99999999999999999999' is too large a number"),
        ("? [a]\n: 1\n", "suites/s.yaml:1: a key should be text, got a list or a mapping"),
        ('a: "\\UFFFFFFFF"\n', "suites/s.yaml:1: not valid YAML: an escape names no character"),
    ],
)
def test_yaml_that_is_no_suite(text: str, expected: str) -> None:
    assert line(text) == expected


def test_aliases_cannot_make_a_small_file_large() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    assert line(bomb) == "suites/s.yaml:2: alias '*a0': write the value out instead"


def test_a_duplicate_key_names_both_lines() -> None:
    assert line(LINES + "steps: 20\n") == "suites/s.yaml:14: duplicate key 'steps' (first on line 4)"


def test_a_date_is_text() -> None:
    assert parse("title: 2024-01-31\n" + LINES).title == "2024-01-31"


# Mistakes in the keys and values


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("steps: 50", "setps: 50", "4: unknown key 'setps'; did you mean 'steps'?"),
        ("steps: 50", "gate: []", "4: unknown key 'gate'; did you mean 'gates'?"),
        ("models: [sdxl]", "modles: [sdxl]", "1: unknown key 'modles'; did you mean 'models'?"),
        ("models: [sdxl]\n", "", "1: missing key 'models'"),
        ("models: [sdxl]\nprompts: [drawbench, hpd]\n", "", "1: missing keys 'models', 'prompts'"),
        ("samplers: [ddim]\n", "", "1: missing key 'samplers'"),
        ("metrics: [hpsv2, clipscore]\n", "", "1: missing key 'metrics'"),
        ("baseline: standard\n", "", "1: missing key 'baseline'"),
        ("models: [sdxl]", "models: [sdxk]", "1: unknown model 'sdxk'; did you mean 'sdxl'?"),
        ("hpd]", "hpb]", "2: unknown prompt 'hpb'; did you mean 'hpd'?"),
        ("[ddim]", "[dimm]", "3: unknown sampler 'dimm'; did you mean 'ddim'?"),
        ("[hpsv2, clipscore]", "\n  - hpsv2\n  - clipscor", "15: unknown metric 'clipscor'; did you mean 'clipscore'?"),
        ("- inversion", "- inverson", "10: unknown method 'inverson'; did you mean 'inversion'?"),
        ("use: best_of_n", "use: best_of", "11: unknown method 'best_of'; did you mean 'best_of_n'?"),
        ("- inversion", "- [ays,\n     inverson]", "11: unknown method 'inverson'; did you mean 'inversion'?"),
        ("- inversion", "- {chain: [ays, {use: as}]}", "10: unknown method 'as'; did you mean 'ays'?"),
        ("models: [sdxl]", "models: sdxl", "1: 'models' should be a list, got 'sdxl'"),
        ("models: [sdxl]", "models:", "1: 'models' should be a list, got nothing"),
        ("models: [sdxl]", "models: []", "1: 'models' is empty; expected at least one entry"),
        ("models: [sdxl]", "models: [sdxl, 3]", "1: 'models.1' should be text, got 3"),
        ("[hpsv2, clipscore]", "[]", "13: 'metrics' is empty; expected at least one entry"),
        ("seeds: [0]", "seeds: []", "6: 'seeds' is empty; expected at least one entry"),
        ("steps: 50", "steps: []", "4: 'steps' is empty; expected at least one entry"),
        ("models: [sdxl]", "models: [sdxl, sdxl]", "1: duplicate model 'sdxl'"),
        ("[hpsv2, clipscore]", "[hpsv2, hpsv2]", "13: duplicate metric 'hpsv2'"),
        ("seeds: [0]", "seeds: [0, 1, 0]", "6: duplicate seed 0"),
        ("steps: 50", "steps: [50, 50]", "4: duplicate number of steps 50"),
        ("- inversion", "- standard", "10: duplicate method label 'standard'"),
        ("steps: 50", "steps: twenty", "4: 'steps' should be a whole number, got 'twenty'"),
        ("steps: 50", "steps: 2.5", "4: 'steps' should be a whole number, got 2.5"),
        ("steps: 50", "steps: yes", "4: 'steps' should be a whole number, got true"),
        ("steps: 50", "steps: 0", "4: 'steps' should be greater than or equal to 1, got 0"),
        ("steps: 50", "steps: [20, 1001]", "4: 'steps.1' should be less than or equal to 1000, got 1001"),
        ("guidance: 5.5", "guidance: high", "5: 'guidance' should be a number, got 'high'"),
        ("guidance: 5.5", "guidance: 101", "5: 'guidance' should be less than or equal to 100, got 101"),
        ("seeds: [0]", "seeds: [-1]", "6: 'seeds.0' should be greater than or equal to 0, got -1"),
        ("seeds: [0]", "seeds: 2147483648", "6: 'seeds' should be less than or equal to 2147483647, got 2147483648"),
        ("seeds: [0]", "seeds: {from: 3, to: 1}", "6: 'seeds' should run upwards, got from 3 to 1"),
        ("seeds: [0]", "seeds: {from: 3}", "6: missing key 'to'"),
        ("seeds: [0]", "seeds: {from: 0, too: 9, to: 9}", "6: unknown key 'too'; did you mean 'to'?"),
        ("seeds: [0]", "seeds: {from: 0, to: 100000}", "6: 'seeds' should be at most 100000, got 100001"),
        ("seeds: [0]", "batch_size: 0", "6: 'batch_size' should be a whole number from 1, or auto, got 0"),
        ("seeds: [0]", "images_per_prompt: x", "6: 'images_per_prompt' should be a whole number, got 'x'"),
        ("seeds: [0]", "name: My Suite", "6: 'name' should match pattern '^[a-z0-9_-]+$', got 'My Suite'"),
        ("seeds: [0]", "title: 12", "6: 'title' should be text, got 12"),
        (
            "baseline: standard",
            "baseline: standrd",
            "7: baseline 'standrd' is not a method of this suite; did you mean 'standard'?",
        ),
    ],
)
def test_one_mistake(old: str, new: str, expected: str) -> None:
    assert line(changed(old, new)) == f"suites/s.yaml:{expected}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3", "10: a method should be a name, a mapping or a list, got 3"),
        ("[]", "10: 'methods.1' is empty; expected at least one entry"),
        ("{chain: []}", "10: 'methods.1.chain' is empty; expected at least one entry"),
        ("{chain: ays}", "10: 'methods.1.chain' should be a list, got 'ays'"),
        ("{n: 4}", "10: a method needs 'use' or 'chain', got {'n': 4}"),
        ("{use: 3}", "10: 'use' should be text, got 3"),
        ("{use: ays, chain: [ays]}", "10: a method needs either 'use' or 'chain', got both"),
        ("{nam: x, chain: [ays]}", "10: unknown key 'nam'; did you mean 'name'?"),
        ("{use: ays, name: 4}", "10: 'methods.1.name' should be text, got 4"),
        ("{use: ays, name: ' x'}", "10: a label should be printable text without spaces around it, got ' x'"),
        (
            "use: best_of_n\n    chooser: hpsv2\n    n: 1",
            "12: parameter 'n' of method 'best_of_n' should be greater than or equal to 2, got 1",
        ),
        ("{use: best_of_n, n: many}", "10: parameter 'n' of method 'best_of_n' should be a whole number, got 'many'"),
        (
            "use: best_of_n\n    choser: hpsv2",
            "11: unknown parameter of method 'best_of_n': 'choser'; did you mean 'chooser'?",
        ),
        ("golden", "10: missing parameter of method 'golden': 'weights'"),
        (
            "[ays, {use: best_of_n, n: 1}]",
            "10: parameter 'n' of method 'best_of_n' should be greater than or equal to 2, got 1",
        ),
    ],
)
def test_a_mistake_in_a_method(written: str, expected: str) -> None:
    assert line(changed("- inversion", f"- {written}")) == f"suites/s.yaml:{expected}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("controls: {inverson: zero}", "method 'inverson' is not in this suite; did you mean 'inversion'?"),
        ("controls: {standard: zero}", "'standard' is the baseline, which is not compared with itself"),
        ("controls: {inversion: none}", "'controls.inversion' should be 'zero' or 'positive', got 'none'"),
        ("controls: {inversion: {effect: up}}", "'controls.inversion.effect' should be 'zero' or 'positive', got 'up'"),
        ("controls: {inversion: {effct: zero, effect: zero}}", "unknown key 'effct'; did you mean 'effect'?"),
        (
            "controls: {inversion: {effect: zero, metric: hpsv}}",
            "metric 'hpsv' is not in this suite; did you mean 'hpsv2'?",
        ),
        ("controls: [inversion]", "'controls' should be a mapping, got ['inversion']"),
        ("headline: hpsv", "metric 'hpsv' is not in this suite; did you mean 'hpsv2'?"),
        ("gates: hpsv2", "'gates' should be a list, or a mapping by metric, got 'hpsv2'"),
        ("gates: [hpsv2]", "'gates.0' should be a mapping, got 'hpsv2'"),
        ("gates: [{delta: 0}]", "missing key 'metric'"),
        ("gates: [{metric: hpsv2}]", "a gate needs exactly one of delta, win_rate and ratio, got none"),
        (
            "gates: [{metric: hpsv2, delta: 0, ratio: 1}]",
            "a gate needs exactly one of delta, win_rate and ratio, got delta and ratio",
        ),
        ("gates: [{metric: calls, delta: 0}]", "calls is a cost: its gate should be a ratio, got delta"),
        ("gates: [{metric: hpsv2, dleta: 0}]", "unknown key 'dleta'; did you mean 'delta'?"),
        ("gates: [{metric: hpsv2, win_rate: 2}]", "'gates.0.win_rate' should be less than or equal to 1, got 2"),
        (
            "gates: [{metric: pickscore, delta: 0}]",
            "metric 'pickscore' is not in this suite; did you mean 'clipscore'?",
        ),
        (
            "gates: [{metric: hpsv2, method: best, delta: 0}]",
            "method 'best' is not in this suite; did you mean 'best_of_4'?",
        ),
        (
            "gates: [{metric: hpsv2, prompts: hpb, delta: 0}]",
            "prompt set 'hpb' is not in this suite; did you mean 'hpd'?",
        ),
    ],
)
def test_a_mistake_in_controls_and_gates(written: str, expected: str) -> None:
    assert line(f"{LINES}{written}\n") == f"suites/s.yaml:14: {expected}"


def test_the_first_mistake_by_line_is_reported_and_the_others_are_counted() -> None:
    text = LINES.replace("inversion", "inverson").replace("steps", "setps").replace("hpsv2", "hpsv3") + "seeds: 1\n"
    assert line(text) == "suites/s.yaml:4: unknown key 'setps'; did you mean 'steps'? (and 3 more)"


def test_a_key_written_twice_does_not_hide_an_earlier_mistake() -> None:
    text = changed("steps", "setps") + "seeds: 1\n"
    assert line(text) == "suites/s.yaml:4: unknown key 'setps'; did you mean 'steps'? (and 1 more)"


def test_a_broken_plugin_is_reported_where_it_is_used() -> None:
    registry.add_plugin("metrics", "bad", registry.Broken("bad", "bench-extra", ImportError("no torchaudio")), "extra")
    assert line(changed("hpsv2", "bad")) == (
        "suites/s.yaml:13: plugin 'bad' of package 'bench-extra' does not load: ImportError: no torchaudio"
    )


def test_a_plugin_may_refuse_with_a_user_error_or_a_value_error() -> None:
    class Strict(Parameters):
        kind: str = "a"

        def model_post_init(self, _context: Any) -> None:
            if self.kind == "b":
                raise UserError("kind b needs a GPU")
            if self.kind == "c":
                raise ValueError("kind c is not written")

    registry.add_plugin("methods", "strict", Strict, "bench")
    assert line(changed("- inversion", "- {use: strict, kind: b}")) == "suites/s.yaml:10: kind b needs a GPU"
    assert line(changed("- inversion", "- {use: strict, kind: c}")) == (
        "suites/s.yaml:10: method 'strict': kind c is not written"
    )


@pytest.mark.parametrize("key", ["limit", "twin", "notes", "source_text"])
def test_what_the_command_line_decides_is_no_key_of_a_file(key: str) -> None:
    assert line(f"{LINES}{key}: 1\n").startswith(f"suites/s.yaml:14: unknown key {key!r}; ")


# Files


def test_load_reads_a_file_and_names_the_suite_after_it(tmp_path: Path) -> None:
    file = tmp_path / "table_2.yaml"
    file.write_text("\ufeff" + LINES, encoding="utf-8")
    assert (suite.load(file).name, suite.load(file).source_text) == ("table_2", LINES)
    assert suite.load(file, overrides=["steps=20"], limit=5, methods=["inversion"], metrics=["hpsv2"]) == suite.parse(
        LINES, file=str(file), overrides=["steps=20"], limit=5, methods=["inversion"], metrics=["hpsv2"]
    )


def test_load_refuses_what_is_no_text_file(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_bytes(b"name: main\ntitle: caf\xe9\n")
    (tmp_path / "No Name.yaml").write_text(LINES)
    for name, expected in {
        "mian.yaml": "/mian.yaml: no such file; did you mean 'main.yaml'?",
        "": ": is a directory; expected a YAML file",
        "main.yaml": "/main.yaml:2: not UTF-8 text (byte 0xe9)",
        "No Name.yaml": "/No Name.yaml:1: 'name' should match pattern '^[a-z0-9_-]+$', got 'No Name'",
    }.items():
        with pytest.raises(UserError) as caught:
            suite.load(tmp_path / name)
        assert str(caught.value) == f"{tmp_path}{expected}"


def test_load_refuses_a_path_that_no_file_can_have() -> None:
    with pytest.raises(UserError, match=r"^'a\\x00b': cannot be read: embedded null byte$"):
        suite.load(Path("a\0b"))


# --set, --limit, --method, --metric


def test_set_changes_the_document_before_validation() -> None:
    made = parse(
        overrides=["steps=20", "seeds=[0, 1]", "guidance=3.5", "methods.2.n=8", "metrics.1=preference", "title=a=b"]
    )
    assert (made.steps, made.seeds, made.guidance, made.title) == ((20,), (0, 1), (3.5,), "a=b")
    assert made.methods[2].chain[0].params == {"chooser": "preference", "n": 8}
    assert made.metrics == ("hpsv2", "preference")


def test_set_may_add_a_mapping_on_the_way() -> None:
    assert parse(overrides=["controls.inversion.effect=zero"]).controls == {"inversion": Control(effect="zero")}


def test_set_to_nothing_takes_the_models_default() -> None:
    assert parse(overrides=["steps="]).steps is None


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("setps=20", "unknown key 'setps'; did you mean 'steps'?"),
        ("setps.x=20", "unknown key 'setps'; did you mean 'steps'?"),
        ("steps", "expected key=value, such as steps=20 or methods.2.n=8"),
        ("=20", "expected key=value, such as steps=20 or methods.2.n=8"),
        ("methods..n=20", "expected key=value, such as steps=20 or methods.2.n=8"),
        ("steps=x", "'steps' should be a whole number, got 'x'"),
        ("seeds=[0, 0]", "duplicate seed 0"),
        ("models=[]", "'models' is empty; expected at least one entry"),
        ("methods.2.n=1", "parameter 'n' of method 'best_of_n' should be greater than or equal to 2, got 1"),
        ("methods.2.m=1", "unknown parameter of method 'best_of_n': 'm'; known: chooser, n"),
        ("methods.9.n=1", "'methods' has 3 entries, counted from 0; there is no '9'"),
        ("methods.best_of_4.n=1", "'methods' has 3 entries, counted from 0; there is no 'best_of_4'"),
        ("methods.1.n=1", "'methods.1' is 'inversion', which has no keys to set"),
        ("baseline=inverson", "baseline 'inverson' is not a method of this suite; did you mean 'inversion'?"),
        ("seeds={from: 1, from: 2}", "duplicate key 'from'"),
        (
            "steps=!!python/name:os.system",
            "tag '!!python/name:os.system' is not allowed; a suite is text, numbers, lists and mappings",
        ),
        ("steps=[1", "not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_a_mistake_in_set_names_the_option(setting: str, expected: str) -> None:
    assert line(overrides=[setting]) == f"--set {setting}: {expected}"


def test_limit_is_a_positive_number() -> None:
    assert parse(limit=3).limit == 3
    assert line(limit=0) == "--limit 0: expected a whole number of at least 1"


RULES = """\
controls: {inversion: zero, best_of_4: {effect: positive, metric: hpsv2}}
gates:
  - {metric: hpsv2, method: inversion, delta: 0.0}
  - {metric: clipscore, delta: 0.0}
  - {metric: calls, method: best_of_4, ratio: 5}
"""


def test_filters_keep_the_baseline_and_drop_rules_on_what_went() -> None:
    made = parse(LINES + RULES, methods=["best_of_4"], metrics=["clipscore"])
    assert labels(made) == ["standard", "best_of_4"]
    assert made.metrics == ("clipscore",)
    assert made.controls == {}
    assert made.gates == (
        Gate(metric="clipscore", delta=0.0),
        Gate(metric="calls", method="best_of_4", ratio=5),
    )


def test_filters_name_their_option() -> None:
    assert line(methods=["inverson"]) == "--method inverson: unknown method 'inverson'; did you mean 'inversion'?"
    assert line(metrics=["hpsv"]) == "--metric hpsv: unknown metric 'hpsv'; did you mean 'hpsv2'?"


# --twin


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
    assert made.notes == (
        "model 'orphan' has no twin yet: left out",
        "models 'sd21', 'sdxl' are one on the twin: 'shapes'",
        "metric 'pickscore' has no twin yet: left out",
        "metrics 'hpsv2', 'preference' are one on the twin: 'shapes_pref'",
        "steps is the twin model's own default, not the suite's; --set steps=... sets it",
        "guidance is the twin model's own default, not the suite's; --set guidance=... sets it",
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
    assert made.notes[0] == "method 'best_of_4' chooses by 'pickscore', which has no twin yet: left out"
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
    ("old", "new", "expected"),
    [
        ("[sdxl]", "[orphan]", "1: --twin leaves no model, for none has a twin yet: 'orphan'"),
        ("[drawbench, hpd]", "[lonely]", "2: --twin leaves no prompt set, for none has a twin yet: 'lonely'"),
        ("[hpsv2, clipscore]", "[pickscore]", "13: --twin leaves no metric, for none has a twin yet: 'pickscore'"),
        (
            "- standard\n",
            "- {use: best_of_n, chooser: pickscore, name: standard}\n",
            "7: --twin leaves no baseline: 'standard' chooses by a metric that has no twin yet",
        ),
    ],
)
def test_twin_of_nothing(old: str, new: str, expected: str) -> None:
    assert line(changed(old, new), twin=True) == f"suites/s.yaml:{expected}"


GOLDEN = {"use": "golden", "weights": "published"}


def test_twin_leaves_out_a_method_that_cannot_serve_the_twin_model() -> None:
    rules = "controls: {inversion+golden: zero}\ngates: [{metric: hpsv2, method: inversion+golden, delta: 0.0}]\n"
    text = suite_text(KEYS, methods=[STANDARD, INVERSION, [INVERSION, GOLDEN], BEST_OF_4]) + rules
    made = parse(text, twin=True)
    assert labels(made) == ["standard", "inversion", "best_of_4"]
    assert made.notes[0] == (
        "method 'inversion+golden' cannot serve the twin model 'shapes' (golden: no weights are known for it): left out"
    )
    assert (made.controls, made.gates) == ({}, ())
    assert labels(parse(text)) == ["standard", "inversion", "inversion+golden", "best_of_4"]


def test_twin_of_a_named_stand_in_leaves_its_methods_to_the_plan() -> None:
    text = suite_text(KEYS, models=["shapes"], methods=[STANDARD, GOLDEN, BEST_OF_4])
    assert labels(parse(text, twin=True)) == ["standard", "golden", "best_of_4"]


def test_twin_may_not_leave_out_the_baseline() -> None:
    text = suite_text(KEYS, methods=[GOLDEN | {"name": "standard"}, INVERSION, BEST_OF_4])
    assert line(text, twin=True) == (
        "suites/s.yaml:7: --twin leaves no baseline: 'standard' cannot serve the twin model 'shapes' "
        "(golden: no weights are known for it)"
    )


def test_twin_keeps_values_that_the_suite_compares() -> None:
    made = parse(suite_text(KEYS, steps=[10, 50]), twin=True)
    assert (made.steps, made.guidance) == ((10, 50), None)
    assert not [note for note in made.notes if note.startswith("steps")]


# Properties


def is_read_or_refused_in_one_line(text: str, **options: Any) -> bool:
    try:
        parse(text, **options)
    except UserError as error:
        return str(error).startswith(("--set ", "suites/s.yaml:")) and len(str(error).splitlines()) == 1
    return True


quiet = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quiet
@given(
    steps=st.lists(st.integers(1, 1000), min_size=1, max_size=4, unique=True),
    guidance=st.lists(st.floats(0, 100).map(abs), min_size=1, max_size=4, unique=True),
    first=st.integers(0, 2**31 - 50),
    count=st.integers(1, 20),
    title=st.text(st.characters(exclude_categories=["C"]), max_size=20),
)
def test_what_is_written_is_what_is_read(
    steps: list[int], guidance: list[float], first: int, count: int, title: str
) -> None:
    # PyYAML writes such text without quotes; suites read it as a number, as YAML 1.2 does.
    assume(not re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", title))
    data = KEYS | {
        "steps": steps,
        "guidance": guidance,
        "title": title,
        "seeds": {"from": first, "to": first + count - 1},
    }
    made = parse(yaml.safe_dump(data, allow_unicode=True))
    assert (made.steps, made.guidance, made.title) == (tuple(steps), tuple(guidance), title)
    assert made.seeds == tuple(range(first, first + count))
    assert parse(yaml.safe_dump({**data, "seeds": list(made.seeds)}, sort_keys=False)).id == made.id


@quiet
@given(st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    text = LINES + RULES
    start = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.text(st.sampled_from("-[]{}:,&*!?|>'\"% \n\tax0.=<~@`#\x00\x85\u2028"), max_size=6))
    damaged = text[:start] + junk + text[data.draw(st.integers(start, min(start + 8, len(text)))) :]
    assert is_read_or_refused_in_one_line(damaged, twin=data.draw(st.booleans()))


@quiet
@given(
    path=st.lists(st.sampled_from(["methods", "gates", "seeds", "steps", "0", "1", "n", "metric", ""]), max_size=4),
    value=st.text(st.sampled_from("-[]{}:,&*!'\"a0. \n"), max_size=6),
)
def test_any_set_is_applied_or_refused_in_one_line(path: list[str], value: str) -> None:
    assert is_read_or_refused_in_one_line(LINES + RULES, overrides=[f"{'.'.join(path)}={value}"])
