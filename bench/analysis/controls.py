"""Methods whose effect is known: what a run must find of them if its other numbers are to be believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from bench import registry, stats
from bench.analysis.arms import POOLED
from bench.analysis.equal_compute import STANDARD
from bench.records import ComparisonRow, ControlRow
from bench.stats.intervals import FEW
from bench.suite import Suite

CONTROL_ALPHA = 0.01
"""A control of zero effect fails below this Holm-adjusted p: one harness in a hundred looks broken by chance."""


def known_effects(suite: Suite) -> list[str]:
    """Labels of the methods that no headline may name: the suite's controls, and fresh noise whether listed or not."""
    fresh = [spec.label for spec in suite.methods if {link.use for link in spec.chain} - {STANDARD} == {"reseed"}]
    return list(dict.fromkeys([*suite.controls, *fresh]))


def checked(comparisons: Sequence[ComparisonRow], suite: Suite) -> Iterator[ControlRow]:
    """Whether methods of known effect were seen to have it: a harness that fails this is not to be believed."""
    for label, control in suite.controls.items():
        rows = [
            c for c in comparisons if c.method == label and c.prompts == POOLED and control.metric in (None, c.metric)
        ]
        usable = [c for c in rows if c.complete and c.p is not None]
        adjusted: Any = stats.holm([c.p for c in usable if c.p is not None]) if usable else []
        for row in rows:
            where = next((i for i, c in enumerate(usable) if c is row), None)
            p = None if where is None else float(adjusted[where])
            yield finding_of(row, control.effect, p)


def finding_of(row: ComparisonRow, effect: Literal["zero", "positive"], p: float | None) -> ControlRow:
    def finding(ok: bool | None, said: str) -> ControlRow:
        sentence = f"{row.method} on {row.metric}{said}"
        return ControlRow(method=row.method, metric=row.metric, expect=effect, ok=ok, sentence=sentence)

    if p is None or row.delta is None or row.low is None or row.high is None:
        return finding(None, ": not measured, so not checked")
    seen = f"{row.delta:+.4g} [{row.low:+.4g}, {row.high:+.4g}], Holm p = {p:.2g}"
    if effect == "zero":
        ok = p >= CONTROL_ALPHA
        said = "as it must be" if ok else "the harness or the baseline is not to be believed"
        return finding(ok, f" must show nothing: {seen}: {said}")
    sign = registry.get("metrics", row.metric).sign
    ok = min(sign * row.low, sign * row.high) > 0 and p < CONTROL_ALPHA
    few = row.n_prompts is not None and row.n_prompts < FEW
    if few and not ok and max(sign * row.low, sign * row.high) > 0:
        return finding(None, f" must show a gain: {seen}: too few prompts ({row.n_prompts}) to show one")
    said = "as it must be" if ok else "the harness misses an effect that is there"
    return finding(ok, f" must show a gain: {seen}: {said}")
