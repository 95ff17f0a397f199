"""Results against rules, or against a frozen baseline: verdicts, and the exit code they add up to.

A gate must neither pass what was not measured nor fire on noise. So a rule fails only when the data show a regression
with 95 % confidence, the whole interval of the paired delta or win rate lying beyond the threshold; and where an
interval is missing or over an incomplete set of pairs the answer is "not comparable", never "passed".

Several looks at noise find something sooner than one. Results carry 95 % intervals, so `check` widens each half-width
by z(1 - 0.025 / m) / z(0.975), Bonferroni's correction for m interval checks (a rule that names no method is checked
once a method and setting, and each counts). This takes the interval for normal on either side of its estimate.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from bench.errors import NotComparable, UserError, nearest
from bench.suite import COSTS
from bench.suite import EVERY_PROMPT_SET as POOLED

Results = dict[str, Any]
Row = dict[str, Any]

SCHEMA = 1
_THRESHOLDS = ("delta", "win_rate", "ratio")
_SETTING = ("model", "prompts", "sampler", "steps", "guidance")
_FROZEN = (*_SETTING, "method", "metric", "baseline", "n", "n_prompts", "delta", "low", "high", "p", "p_holm", "win",
           "tie", "loss", "win_rate", "win_low", "win_high", "detectable", "complete", "marked")  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One limit: on a metric's paired delta or win rate, or on a cost's ratio to the baseline.

    `delta: -0.05` fails when the true delta is shown to be below -0.05 (for a metric where lower is better: above
    +0.05); `win_rate: 0.4` when it is shown to be below 0.4; `ratio: 1.2` when the cost is above 1.2 of the baseline's.
    `two_sided` also fails a delta shown to be above |threshold|, and a win rate shown to be above 1 - threshold.
    """

    metric: str
    method: str | None = None
    delta: float | None = None
    win_rate: float | None = None
    ratio: float | None = None
    two_sided: bool = False
    prompts: str = POOLED

    def __post_init__(self) -> None:
        given = [name for name in _THRESHOLDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise UserError(
                f"a rule on {self.metric!r} needs exactly one of delta, win_rate and ratio, not {given or 'none'}"
            )
        if _finite(self.threshold) is None:
            raise UserError(f"the {self.kind} of a rule on {self.metric!r} must be a number, not {self.threshold!r}")
        if self.kind == "win_rate" and not 0 <= self.threshold <= 1:
            raise UserError(f"a win_rate is a share between 0 and 1, not {self.threshold!r}")
        if self.kind == "ratio":
            self._check_ratio()

    def _check_ratio(self) -> None:
        if self.metric not in COSTS:
            raise UserError(f"a ratio is taken on a cost, and {self.metric!r} is none{nearest(self.metric, COSTS)}")
        if self.two_sided or self.threshold <= 0:
            raise UserError(f"a ratio must be positive and cannot be two_sided (rule on {self.metric!r})")

    @property
    def kind(self) -> str:
        """`delta`, `win_rate` or `ratio`."""
        return next((name for name in _THRESHOLDS if getattr(self, name) is not None), _THRESHOLDS[0])

    @property
    def threshold(self) -> Any:
        """The one threshold that was given."""
        return getattr(self, self.kind)

    def __str__(self) -> str:
        sign = "<=" if self.kind == "ratio" else ">="
        value = f"{self.threshold:+g}" if self.kind == "delta" else f"{self.threshold:g}"
        where = "" if self.prompts == POOLED else f", {self.prompts}"
        return f"{self.metric} {self.kind} {sign} {value}{' (two-sided)' if self.two_sided else ''}{where}"

    @classmethod
    def parse(cls, given: Any) -> Rule:
        """A rule from a mapping with exactly these keys; raises UserError on anything else."""
        if not isinstance(given, dict):
            raise UserError(f"a rule is a mapping such as {{metric: hpsv2, delta: -0.05}}, not {given!r}")
        known = list(cls.__dataclass_fields__)
        for name in given:
            if name not in known:
                raise UserError(f"unknown key {name!r} in a rule{nearest(name, known)}")
        wanted: dict[str, tuple[type, ...]] = {"metric": (str,), "method": (str, type(None)), "prompts": (str,)}
        for name, kinds in {**wanted, "two_sided": (bool,)}.items():
            if name in given and not isinstance(given[name], kinds):
                raise UserError(f"{name} of a rule must be {kinds[0].__name__}, not {given[name]!r}")
        if not given.get("metric"):
            raise UserError(f"a rule needs a metric: {given!r}")
        return cls(**given)


@dataclass(frozen=True)
class Verdict:
    """What one rule says of one method; `ok` is False too where nothing could be compared."""

    rule: Rule
    method: str
    ok: bool
    comparable: bool
    sentence: str


def check(results: Results, rules: list[Rule]) -> list[Verdict]:
    """Every rule on every comparison or arm that it names; a rule that finds none is not comparable."""
    pairs = [(rule, row) for rule in rules for row in _rows_for(results, rule)]
    looks = sum(rule.kind != "ratio" for rule, _ in pairs)
    widening = NormalDist().inv_cdf(1 - 0.025 / max(looks, 1)) / NormalDist().inv_cdf(0.975)
    judged = []
    for rule in rules:
        rows = [row for other, row in pairs if other is rule]
        if not rows:
            judged.append(_cannot(rule, rule.method or "any method", _absent(results, rule)))
        for row in rows:
            judged.append(
                _cost(results, rule, row) if rule.kind == "ratio" else _bound(results, rule, row, widening=widening)
            )
    return judged


def _rows_for(results: Results, rule: Rule) -> list[Row]:
    """The comparisons, or for a ratio the arms, that a rule speaks of."""
    rows = results.get("arms" if rule.kind == "ratio" else "comparisons") or []
    return [
        row
        for row in rows
        if row.get("prompts") == rule.prompts
        and rule.method in (None, row.get("method"))
        and (row.get("metric") == rule.metric if rule.kind != "ratio" else not row.get("is_baseline"))
    ]


def _absent(results: Results, rule: Rule) -> str:
    rows = results.get("arms" if rule.kind == "ratio" else "comparisons") or []
    for name, wanted in (("method", rule.method), ("prompts", rule.prompts), ("metric", rule.metric)):
        known = {str(row.get(name)) for row in rows if row.get(name) is not None}
        if known and wanted is not None and wanted not in known and (name != "metric" or rule.kind != "ratio"):
            return f"there is no comparison with {name} {wanted!r}{nearest(wanted, known)}"
    return "there is no such comparison in these results"


def _bound(results: Results, rule: Rule, row: Row, *, widening: float) -> Verdict:
    """A delta or win rate decided on the bound of its widened interval."""
    known = _oriented(results, row) if rule.kind == "delta" else _win(row)
    if not row.get("complete"):
        return _cannot(rule, row["method"], f"{_where(row)}: incomplete, n = {row.get('n')}")
    if known is None:
        return _cannot(rule, row["method"], f"{_where(row)}: no {rule.kind} with an interval was measured")
    low, high = (known[0] + widening * (edge - known[0]) for edge in known[1:])
    if rule.kind == "win_rate":
        low, high = max(0.0, low), min(1.0, high)
    above = abs(rule.threshold) if rule.kind == "delta" else 1 - rule.threshold
    fails = "below" if high < rule.threshold else "above" if rule.two_sided and low > above else ""
    limit = above if fails == "above" else rule.threshold
    said = f"shown to be {fails} {limit:g}" if fails else f"not shown to be below {rule.threshold:g}"
    if rule.two_sided and not fails:
        said += f" or above {above:g}"
    flipped = rule.kind == "delta" and not _higher(results, row["metric"])
    value = f"{rule.kind} {known[0]:+.4g}" if rule.kind == "delta" else f"win rate {known[0]:.4g}"
    notes = (" (sign turned: lower is better)" if flipped else "") + (
        " († the method optimises it)" if row.get("marked") else ""
    )
    sentence = f"{_where(row)}: {value} [{low:.4g}, {high:.4g}]{notes}, {said}; n = {row.get('n')}"
    return Verdict(rule, row["method"], not fails, True, sentence)


def _cost(results: Results, rule: Rule, arm: Row) -> Verdict:
    """A cost as a multiple of the baseline's; measured, not estimated, so without an interval."""
    name, where = COSTS[rule.metric], f"{arm['method']}, {rule.metric}, {_setting(arm)}"
    base = next((row for row in results.get("arms") or [] if row.get("is_baseline") and _same(row, arm)), None)
    if base is None:
        return _cannot(rule, arm["method"], f"{where}: there is no baseline arm in this setting")
    for row in (arm, base):
        if not row.get("complete"):
            return _cannot(rule, arm["method"], f"{where}: {row['method']} is incomplete, n = {row.get('n')}")
    value, reference = (_finite((row.get("cost") or {}).get(name)) for row in (arm, base))
    if value is None or not reference or reference < 0:
        what = f"{arm['method']} has no {name}" if value is None else f"the baseline's {name} is {reference}"
        return _cannot(rule, arm["method"], f"{where}: {what}, so there is no ratio")
    ratio = value / reference
    said = f"{ratio:.3g} times {base['method']} ({value:.4g} against {reference:.4g})"
    word = "above" if ratio > rule.threshold else "within"
    return Verdict(rule, arm["method"], ratio <= rule.threshold, True, f"{where}: {said}, {word} {rule.threshold:g}")


# Frozen baselines ----------------------------------------------------------------------------------------------------


def freeze(results: Results, *, rules: Sequence[Rule] = ()) -> dict[str, Any]:
    """What `against_baseline` needs, for baselines/*.json; raises NotComparable where there is nothing to hold."""
    suite = results.get("suite") or {}
    rows = [row for row in results.get("comparisons") or [] if _fair(row) and row.get("complete") and _interval(row)]
    if not rows:
        raise NotComparable("nothing to freeze: no complete comparison over all prompt sets with an interval")
    metrics = results.get("metrics") or {}
    return {
        "schema": SCHEMA,
        "suite": suite.get("name"),
        "suite_id": suite.get("id"),
        "baseline": suite.get("baseline") or "standard",
        "rules": [{key: value for key, value in asdict(rule).items() if value is not None} for rule in rules],
        # Not part of the suite's id, but a delta by another scorer is another quantity.
        "metrics": {row["metric"]: (metrics.get(row["metric"]) or {}).get("digest") for row in rows},
        "comparisons": [{key: row.get(key) for key in _FROZEN} for row in rows],
    }


def against_baseline(results: Results, frozen: dict[str, Any], *, tolerance: float = 0.0) -> list[Verdict]:
    """Every frozen comparison (all prompt sets, unmarked) against the new one of the same name.

    Fails when the new interval lies wholly below the frozen one less `tolerance` (in the metric's unit). Two 95 %
    intervals that do not overlap are already a strict test (p near 0.006), so these are not widened again. The rules
    in `frozen["rules"]` are for `check`. Raises NotComparable on another schema, suite or baseline.
    """
    suite = results.get("suite") or {}
    said = (("schema", results.get("schema"), frozen.get("schema")), ("suite", suite.get("name"), frozen.get("suite")),
            ("suite id", suite.get("id"), frozen.get("suite_id")),
            ("baseline", suite.get("baseline") or "standard", frozen.get("baseline") or "standard"))  # fmt: skip
    for name, ours, theirs in said:
        if ours != theirs:
            raise NotComparable(
                f"the results have {name} {ours!r}, the frozen baseline has {theirs!r}; freeze it again"
            )
    new = {_key(row): row for row in results.get("comparisons") or []}
    digests = frozen.get("metrics") or {}
    verdicts = []
    for old in filter(_fair, frozen.get("comparisons") or []):
        row, digest = new.get(_key(old)), ((results.get("metrics") or {}).get(old["metric"]) or {}).get("digest")
        changed = old["metric"] in digests and digests[old["metric"]] != digest
        verdicts.append(_against(results, old, row, changed=changed, tolerance=tolerance))
    return verdicts


def _against(results: Results, old: Row, row: Row | None, *, changed: bool, tolerance: float) -> Verdict:
    held = _oriented(results, old)
    floor = (held[1] if held else 0.0) - tolerance
    rule = Rule(old["metric"], old["method"], delta=floor)
    found = _oriented(results, row) if row else None
    if changed:
        return _cannot(
            rule, old["method"], f"{_where(old)}: the scorer's digest has changed since the baseline was frozen"
        )
    if row is None or held is None or found is None:
        return _cannot(rule, old["method"], f"{_where(old)}: not measured {'when frozen' if held is None else 'now'}")
    if not row.get("complete"):
        return _cannot(rule, old["method"], f"{_where(old)}: incomplete, n = {row.get('n')}")
    ok = found[2] >= floor
    then, now = (f"{middle:+.4g} [{low:+.4g}, {high:+.4g}]" for middle, low, high in (held, found))
    allowed = f" (tolerance {tolerance:g})" if tolerance else ""
    word = "not shown to be below" if ok else "wholly below"
    return Verdict(rule, old["method"], ok, True, f"{_where(old)}: delta {now}, {word} the frozen {then}{allowed}")


# Rows ----------------------------------------------------------------------------------------------------------------


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _interval(row: Row, *names: str) -> tuple[float, float, float] | None:
    """(estimate, low, high), or None where one was not measured."""
    middle, low, high = (_finite(row.get(name)) for name in names or ("delta", "low", "high"))
    return None if middle is None or low is None or high is None else (middle, low, high)


def _win(row: Row) -> tuple[float, float, float] | None:
    return _interval(row, "win_rate", "win_low", "win_high")


def _oriented(results: Results, row: Row) -> tuple[float, float, float] | None:
    """The delta and its interval with the sign turned where lower is better, so that more is always better."""
    known = _interval(row)
    return known if known is None or _higher(results, row["metric"]) else (-known[0], -known[2], -known[1])


def _higher(results: Results, metric: str) -> bool:
    return ((results.get("metrics") or {}).get(metric) or {}).get("higher_is_better") is not False


def _fair(row: Row) -> bool:
    return row.get("prompts") == POOLED and not row.get("marked")


def _key(row: Row) -> tuple[Any, ...]:
    return (*(row.get(name) for name in _SETTING), row.get("method"), row.get("metric"))


def _same(left: Row, right: Row) -> bool:
    return all(left.get(name) == right.get(name) for name in _SETTING)


def _setting(row: Row) -> str:
    return f"{row.get('model')} ({row.get('sampler')}, {row.get('steps')} steps, g {row.get('guidance')})"


def _where(row: Row) -> str:
    return f"{row.get('method')} on {row.get('metric')}, {_setting(row)}"


def _cannot(rule: Rule, method: str, sentence: str) -> Verdict:
    return Verdict(rule, method, False, False, sentence)


# What a gate hands back ----------------------------------------------------------------------------------------------


def exit_code(verdicts: list[Verdict]) -> int:
    """0 all ok; 1 any failed; 3 where nothing, or not everything, could be compared and nothing failed."""
    if any(verdict.comparable and not verdict.ok for verdict in verdicts):
        return 1
    return 0 if verdicts and all(verdict.comparable for verdict in verdicts) else 3


def _outcome(verdict: Verdict) -> str:
    return "not comparable" if not verdict.comparable else "passed" if verdict.ok else "failed"


def markdown(verdicts: Iterable[Verdict]) -> str:
    """A summary: the counts, then one row a verdict, failures first."""
    order = ("failed", "not comparable", "passed")
    rows = sorted(verdicts, key=lambda verdict: order.index(_outcome(verdict)))
    counts = ", ".join(f"{sum(_outcome(row) == name for row in rows)} {name}" for name in reversed(order))
    head = {0: "passed", 1: "failed", 3: "not comparable"}[exit_code(rows)]
    lines = ["| outcome | rule | method | finding |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {' | '.join(map(_escape, (_outcome(row), str(row.rule), row.method, row.sentence)))} |" for row in rows
    ]
    table = "\n" + "\n".join(lines) + "\n" if rows else "\nNo rule was checked.\n"
    return f"## Gate: {head}\n\n{counts}.\n{table}"


def _escape(text: str) -> str:
    """Names come from files that others write: nothing in them may act as Markdown or html."""
    line = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip().replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*~]|\](?=[(\[:]))", r"\\\1", line)


def junit(verdicts: Iterable[Verdict]) -> str:
    """JUnit XML: a failure where a rule failed, an error where nothing could be compared (exit code 3 is no pass)."""
    rows = list(verdicts)
    outcomes = [_outcome(row) for row in rows]
    counts = {"tests": len(rows), "failures": outcomes.count("failed"), "errors": outcomes.count("not comparable")}
    root = ET.Element("testsuites", {name: str(count) for name, count in counts.items()})
    suite = ET.SubElement(
        root, "testsuite", {"name": "bench.gate", **{key: str(value) for key, value in counts.items()}}
    )
    for row, outcome in zip(rows, outcomes, strict=True):
        case = ET.SubElement(
            suite, "testcase", {"classname": _xml(row.method), "name": _xml(str(row.rule)), "time": "0"}
        )
        if outcome == "passed":
            ET.SubElement(case, "system-out").text = _xml(row.sentence)
        else:
            kind, word = ("failure", "Regression") if outcome == "failed" else ("error", "NotComparable")
            ET.SubElement(case, kind, {"type": word, "message": _xml(row.sentence)})
    ET.indent(root)
    # Declared by hand: ElementTree would name the locale's encoding, and the file is written in UTF-8.
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
