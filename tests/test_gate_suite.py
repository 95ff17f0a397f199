"""The two forms of a suite's gates: a list, and a mapping by metric, say the same and are judged the same."""

from __future__ import annotations

import pytest

from bench.errors import UserError
from bench.suite import Gate, Suite, parse

SUITE = """\
models: [sdxl]
prompts: [pick-a-pic, drawbench]
samplers: [ddim]
baseline: standard
methods: [standard, inversion, reseed]
metrics: [clipscore, hpsv2]
"""


def read(gates: str, *overrides: str) -> Suite:
    return parse(SUITE + gates, file="s.yaml", overrides=overrides)


def test_the_mapping_is_the_list() -> None:
    mapping = """\
gates:
  clipscore: {delta: -0.01}
  noise_ms: {ratio: 1.2}
  win_rate: {min: 0.5}
"""
    rules = """\
gates:
  - {metric: clipscore, delta: -0.01}
  - {metric: noise_ms, ratio: 1.2}
  - {win_rate: 0.5}
"""
    assert read(mapping).gates == read(rules).gates
    assert read(mapping).gates == (
        Gate(metric="clipscore", delta=-0.01),
        Gate(metric="noise_ms", ratio=1.2),
        Gate(metric=None, win_rate=0.5),
    )
    assert read(mapping).id == read("").id, "gates decide no result"


def test_a_metric_may_have_several_rules_and_a_rule_all_its_options() -> None:
    made = read("""\
gates:
  hpsv2:
    - {method: inversion, delta: 0.0, require: shown}
    - {method: reseed, delta: -0.5, two_sided: true, prompts: drawbench}
  win_rate: {min: 0.4, metric: clipscore}
""")
    assert [str(gate) for gate in made.gates] == [
        "hpsv2 delta >= +0 (shown)",
        "hpsv2 delta >= -0.5 (two-sided), drawbench",
        "clipscore win_rate >= 0.4",
    ]
    assert [gate.method for gate in made.gates] == ["inversion", "reseed", None]


def test_set_reaches_into_a_mapping() -> None:
    assert read("gates: {clipscore: {delta: 0.0}}\n", "gates.clipscore.delta=-0.25").gates[0].delta == -0.25


def test_filters_and_twins_keep_what_a_mapping_says() -> None:
    text = SUITE + "gates: {clipscore: {delta: -0.01}, hpsv2: {delta: 0}, win_rate: {min: 0.5}}\n"
    kept = parse(text, file="s.yaml", metrics=["clipscore"]).gates
    assert kept == (Gate(metric="clipscore", delta=-0.01), Gate(win_rate=0.5))
    twin = parse(text, file="s.yaml", twin=True).gates
    assert [gate.metric for gate in twin] == ["shapes-clipscore", "shapes-preference", None]


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ("gates:\n  clipscor: {delta: 0}",
         "s.yaml:8: metric 'clipscor' is not in this suite; did you mean 'clipscore'?"),
        ("gates:\n  clipscore:\n    dleta: 0", "s.yaml:9: unknown key 'dleta'; did you mean 'delta'?"),
        ("gates:\n  clipscore: 0.1", "s.yaml:8: 'gates.clipscore' should be a mapping such as {delta: -0.01}, got 0.1"),
        ("gates:\n  clipscore: {delta: low}", "s.yaml:8: 'gates.clipscore.delta' should be a number, got 'low'"),
        ("gates:\n  clipscore: {metric: hpsv2, delta: 0}",
         "s.yaml:8: the metric of a gate under 'clipscore' is 'clipscore'; leave 'metric' out"),
        ("gates:\n  clipscore: {ratio: 2}",
         "s.yaml:8: a ratio is taken on a cost, and 'clipscore' is none; known: calls, calls_noise, calls_sampling, "
         "calls_total, decode_ms, encode_ms, memory, noise_ms, peak_bytes, sampling_ms, select_ms, total_ms"),
        ("gates:\n  noise_ms: {delta: 2}", "s.yaml:8: noise_ms is a cost: its gate should be a ratio, got delta"),
        ("gates:\n  noise_ms: {ratio: 2, two_sided: true}",
         "s.yaml:8: a ratio cannot be two_sided (gate on noise_ms)"),
        ("gates:\n  clipscore: {delta: 0.1, two_sided: true}",
         "s.yaml:8: two_sided needs a delta up to 0 or a win_rate up to 0.5, which says how far both sides may go "
         "(gate on clipscore)"),
        ("gates:\n  win_rate: {max: 0.5}", "s.yaml:8: a gate under 'win_rate' needs 'min'"),
        ("gates:\n  win_rate: {min: 5}", "s.yaml:8: 'gates.win_rate.min' should be less than or equal to 1, got 5"),
        ("gates:\n  win_rate: {min: 0.5, win_rate: 0.4}",
         "s.yaml:8: a gate under 'win_rate' needs 'min' alone, got 'win_rate' too"),
        ("gates:\n  clipscore: {delta: 0, require: proof}",
         "s.yaml:8: 'gates.clipscore.require' should be 'plausible' or 'shown', got 'proof'"),
        ("gates:\n  clipscore:\n    - {delta: 0}\n    - {method: inverson, delta: 0}",
         "s.yaml:10: method 'inverson' is not in this suite; did you mean 'inversion'?"),
        ("gates:\n  clipscore: {delta: 0}\n  clipscore: {delta: 1}",
         "s.yaml:9: duplicate key 'clipscore' (first on line 8)"),
        ("gates: 5", "s.yaml:7: 'gates' should be a list, or a mapping by metric, got 5"),
        ("gates: [{metric: clipscore, ratio: 2}]", "s.yaml:7: a ratio is taken on a cost, and 'clipscore' is none"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_line(gates: str, expected: str) -> None:
    with pytest.raises(UserError) as raised:
        read(gates + "\n")
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)
