"""The one line that a mistake in methods, controls and gates of a suite gets, and a plugin that is at fault."""

from __future__ import annotations

from typing import Any

import pytest
from stand_ins import (
    LINES,
    Parameters,
    changed,
    lacks,
    refused,
)
from stand_ins import plugins as plugins

from bench import registry
from bench.errors import UserError

pytestmark = pytest.mark.usefixtures("plugins")


AT_LEAST_2 = ["parameter 'n'", "method 'best_of_n'", "greater than or equal to 2,", "got 1"]


@pytest.mark.parametrize(
    ("written", "at", "facts"),
    [
        ("3", 10, ["a name, a mapping or a list", "got 3"]),
        ("[]", 10, ["'methods.1' is empty", "at least one"]),
        ("{chain: []}", 10, ["'methods.1.chain' is empty", "at least one"]),
        ("{chain: ays}", 10, ["'methods.1.chain'", "a list", "got 'ays'"]),
        ("{n: 4}", 10, ["'use' or 'chain'", "got {'n': 4}"]),
        ("{use: 3}", 10, ["'use'", "text", "got 3"]),
        ("{use: ays, chain: [ays]}", 10, ["either 'use' or 'chain'", "got both"]),
        ("{nam: x, chain: [ays]}", 10, ["unknown key 'nam'", "did you mean 'name'?"]),
        ("{use: ays, name: 4}", 10, ["'methods.1.name'", "text", "got 4"]),
        ("{use: ays, name: ' x'}", 10, ["label", "printable", "without spaces around", "got ' x'"]),
        ("use: best_of_n\n    chooser: hpsv2\n    n: 1", 12, AT_LEAST_2),
        (
            "{use: best_of_n, n: many}",
            10,
            ["parameter 'n'", "method 'best_of_n'", "whole number", "got 'many'"],
        ),
        (
            "use: best_of_n\n    choser: hpsv2",
            11,
            ["unknown parameter", "method 'best_of_n'", "'choser'", "did you mean 'chooser'?"],
        ),
        ("golden", 10, ["missing", "method 'golden'", "'weights'"]),
        ("[ays, {use: best_of_n, n: 1}]", 10, AT_LEAST_2),
    ],
)
def test_a_mistake_in_a_method(written: str, at: int, facts: list[str]) -> None:
    assert lacks(refused(changed("- inversion", f"- {written}")), at, *facts) == []


NO_METRIC = ["metric 'hpsv'", "not in this suite", "did you mean 'hpsv2'?"]


@pytest.mark.parametrize(
    ("written", "facts"),
    [
        ("controls: {inverson: zero}", ["method 'inverson'", "not in this suite", "did you mean 'inversion'?"]),
        ("controls: {standard: zero}", ["'standard'", "baseline", "not compared with itself"]),
        ("controls: {inversion: none}", ["'controls.inversion'", "'zero' or 'positive'", "got 'none'"]),
        ("controls: {inversion: {effect: up}}", ["'controls.inversion.effect'", "'zero' or 'positive'", "got 'up'"]),
        ("controls: {inversion: {effct: zero, effect: zero}}", ["unknown key 'effct'", "did you mean 'effect'?"]),
        ("controls: {inversion: {effect: zero, metric: hpsv}}", NO_METRIC),
        ("controls: [inversion]", ["'controls'", "a mapping", "got ['inversion']"]),
        ("headline: hpsv", NO_METRIC),
        ("gates: hpsv2", ["'gates'", "a list, or a mapping by metric", "got 'hpsv2'"]),
        ("gates: [hpsv2]", ["'gates.0'", "a mapping", "got 'hpsv2'"]),
        ("gates: [{delta: 0}]", ["missing", "'metric'"]),
        ("gates: [{metric: hpsv2}]", ["exactly one of delta, win_rate and ratio", "got none"]),
        (
            "gates: [{metric: hpsv2, delta: 0, ratio: 1}]",
            ["exactly one of delta, win_rate and ratio", "got delta and ratio"],
        ),
        ("gates: [{metric: calls, delta: 0}]", ["calls is a cost", "should be a ratio", "got delta"]),
        ("gates: [{metric: hpsv2, dleta: 0}]", ["unknown key 'dleta'", "did you mean 'delta'?"]),
        (
            "gates: [{metric: hpsv2, win_rate: 2}]",
            ["'gates.0.win_rate'", "less than or equal to 1,", "got 2"],
        ),
        (
            "gates: [{metric: pickscore, delta: 0}]",
            ["metric 'pickscore'", "not in this suite", "did you mean 'clipscore'?"],
        ),
        (
            "gates: [{metric: hpsv2, method: best, delta: 0}]",
            ["method 'best'", "not in this suite", "did you mean 'best_of_4'?"],
        ),
        (
            "gates: [{metric: hpsv2, prompts: hpb, delta: 0}]",
            ["prompt set 'hpb'", "not in this suite", "did you mean 'hpd'?"],
        ),
    ],
)
def test_a_mistake_in_controls_and_gates(written: str, facts: list[str]) -> None:
    assert lacks(refused(f"{LINES}{written}\n"), 14, *facts) == []


def test_a_broken_plugin_is_reported_where_it_is_used() -> None:
    registry.add_plugin("metrics", "bad", registry.Broken("bad", "bench-extra", ImportError("no torchaudio")), "extra")
    facts = ("'bad'", "package 'bench-extra'", "does not load", "ImportError: no torchaudio")
    assert lacks(refused(changed("hpsv2", "bad")), 13, *facts) == []


def test_a_plugin_may_refuse_with_a_user_error_or_a_value_error() -> None:
    class Strict(Parameters):
        kind: str = "a"

        def model_post_init(self, _context: Any) -> None:
            if self.kind == "b":
                raise UserError("kind b needs a GPU")
            if self.kind == "c":
                raise ValueError("kind c is not written")

    registry.add_plugin("methods", "strict", Strict, "bench")
    users, value = (refused(changed("- inversion", f"- {{use: strict, kind: {kind}}}")) for kind in "bc")
    assert users == "suites/s.yaml:10: kind b needs a GPU"
    assert lacks(value, 10, "method 'strict'", "kind c is not written") == []
