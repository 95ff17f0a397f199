"""Two runs compared (`bench.analysis.compare`), as sentences, Markdown and one self-contained page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.records.base import Labels
from bench.records.two_runs import DeltaRow, JudgedMetric, PairedArm, TwoRuns
from bench.report import pages, tables
from bench.report.comparison_tables import all_tables, pooled_arms
from bench.report.markdown import LIMIT, bullets, escape, table_lines
from bench.report.strongest import most_independent
from bench.report.verdict import method_sentences
from bench.report.words import distinct, interval, number, pooled, setting
from bench.store import write_atomically

_ENDS = {"json": "json", "markdown": "md", "html": "html"}
NAMED = 6
"""Arms or differences that a sentence names before it counts the rest."""


# Sentences -----------------------------------------------------------------------------------------------------------


def compared(found: TwoRuns) -> list[str]:
    """Which runs A and B are."""
    said = []
    for side, run in (("A", found.a), ("B", found.b)):
        commit = str(run.provenance.commit or "")[:12]
        parts = (f"suite {run.suite} ({run.id})", run.created, f"commit {commit}" if commit else "")
        said.append(f"{side}: {run.folder}, {', '.join(part for part in parts if part)}")
    return said


def sentences(found: TwoRuns) -> list[str]:
    """The verdict in plain words: same images, deltas by arm, times, and what was not compared."""
    if identical(found):
        return [_nothing_changed(found)]
    return [*_same(found), *_deltas(found), *_speed(found), *_apart(found)]


def identical(found: TwoRuns) -> bool:
    """Whether both runs have the same cells with the same images, and every score of one is the other's."""
    whole = all(
        arm.complete and arm.identical == arm.n_expected == arm.n_a == arm.n_b and not arm.changed_prompts
        for arm in found.arms
    )
    apart = found.only_a or found.only_b or found.not_compared
    same = all(row.complete and row.delta == 0 and not row.win and not row.loss for row in found.comparisons)
    return whole and same and not apart


def _nothing_changed(found: TwoRuns) -> str:
    n, metrics = sum(arm.n for arm in pooled_arms(found)), len(found.metrics)
    judged = f" and all their scores by {metrics} metric{'s' * (metrics > 1)}" if metrics else ""
    ratios = [arm.cost.times.total_ms.ratio for arm in pooled_arms(found) if arm.cost.times]
    known = sorted(ratio for ratio in ratios if ratio is not None)
    ends = distinct(number(ratio, 2) for ratio in known[:1] + known[-1:])
    took = f"; an image took {' to '.join(ends)} times as long in B" if ends else ""
    return f"The two runs are identical: all {n} images{judged} are the same{took}."


def _same(found: TwoRuns) -> list[str]:
    n, same = (sum(counts) for counts in ([a.n for a in pooled_arms(found)], [a.identical for a in pooled_arms(found)]))
    if n and n == same:
        return [f"All {n} images that both runs have are the same, byte for byte."]
    return [f"{same} of the {n} images that both runs have are the same, byte for byte."]


class _Step(DeltaRow):
    """B's arm as the method, and A's as its baseline."""

    baseline: str
    """A's arm."""


@dataclass(frozen=True)
class _Steps:
    """What the report's sentences read."""

    metrics: Mapping[str, JudgedMetric]
    comparisons: Sequence[_Step]
    arms: Sequence[PairedArm] = ()


def _deltas(found: TwoRuns) -> list[str]:
    """The report's own sentences, B's arm being the method and A's its baseline; silent where no image changed."""
    changed = {tables.place(arm) for arm in pooled_arms(found) if arm.identical < arm.n or not arm.complete}
    shown = [
        _Step.model_validate(dict(row) | {"method": f"{row.method} in B", "baseline": f"{row.method} in A"})
        for row in found.comparisons
        if tables.place(row) in changed
    ]
    of = _Steps(found.metrics, shown)
    return method_sentences(of, shown, first=most_independent(of, pooled(shown)))


def _speed(found: TwoRuns) -> list[str]:
    made = [arm for arm in pooled_arms(found) if arm.n]
    timed = [(arm, arm.cost.times.total_ms) for arm in made if arm.cost.times]
    said = [
        f"{_name(found, arm)} {number(total.ratio, 2)} {interval(total.low, total.high, 2)}".rstrip()
        for arm, total in timed
        if total.ratio is not None
    ]
    lines = [f"Time an image, B as a multiple of A: {_some(said)}."] if said else []
    untimed = [arm for arm in made if not arm.cost.times]
    for reason in distinct(arm.cost.no_times for arm in untimed):
        mine, others = (
            ", ".join(distinct(name or "not recorded" for some in hardware for name in some))
            for hardware in ([a.cost.hardware_a for a in untimed], [a.cost.hardware_b for a in untimed])
        )
        more = f" ({mine} against {others})" if mine != others else ""
        names = _some([_name(found, arm) for arm in untimed if arm.cost.no_times == reason])
        lines.append(f"Times of {names}: {reason}, not compared{more}.")
    return lines


def _apart(found: TwoRuns) -> list[str]:
    lines = [f"Not compared: {row.metric}: {row.reason}." for row in found.not_compared]
    pooled_rows = pooled_arms(found)
    sides = (
        ("A", found.only_a, [arm.n_a for arm in pooled_rows]),
        ("B", found.only_b, [arm.n_b for arm in pooled_rows]),
    )
    for side, arms, counts in sides:
        if arms:
            cells = sum(arm.cells for arm in arms)
            lines.append(f"Only in {side}: {cells} cells of {len(arms)} arms ({_some(_names(arms))}).")
        more = sum(n - arm.n_expected - arm.changed_prompts for n, arm in zip(counts, pooled_rows, strict=True))
        if more:
            lines.append(f"Only in {side}: {more} cells of arms that both have (other prompts or seeds).")
    changed = sum(arm.changed_prompts for arm in pooled_rows)
    if changed:
        lines.append(f"{changed} cells have another prompt in B than in A at the same place: not compared.")
    for field in distinct(row.differs for row in found.different_protocol):
        apart = [row for row in found.different_protocol if row.differs == field]
        values = distinct(f"{getattr(row.a, field)} in A, {getattr(row.b, field)} in B" for row in apart)
        lines.append(
            f"Different protocol, not compared: {len(apart)} pairs of arms differ in {field} ({_some(values)})."
        )
    return lines


def _name(found: TwoRuns, arm: Labels) -> str:
    return f"{arm.method} ({arm.model}, {setting(arm)})" if _many_settings(found) else arm.method


def _many_settings(found: TwoRuns) -> bool:
    return len({(arm.model, setting(arm)) for arm in found.arms}) > 1


def _names(arms: Sequence[Labels]) -> list[str]:
    return distinct(f"{arm.method} on {arm.model}, {setting(arm)}" for arm in arms)


def _some(words: list[str]) -> str:
    """The first of a list, and how many more there are."""
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return "; ".join(words[:NAMED]) + more


# Forms ---------------------------------------------------------------------------------------------------------------


def title(found: TwoRuns) -> str:
    """What a comparison is called."""
    return f"{found.b.folder} (B) against {found.a.folder} (A)"


def markdown(found: TwoRuns) -> str:
    """The whole comparison as Markdown, cut with a notice where GitHub would cut it."""
    parts = [
        f"# {escape(title(found))}",
        bullets(map(escape, compared(found))),
        "## Verdict",
        bullets(map(escape, sentences(found))),
        *(part for table in all_tables(found) for part in table_lines(table, folded=True)),
        *_section("## Notes", found.notes),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    if len(text) < LIMIT:
        return text
    notice = "\n\n(Cut here for length; the JSON and the HTML hold everything.)\n"
    return text[: text.rfind("\n", 0, LIMIT - len(notice) - 1)] + notice


def _section(head: str, lines: Iterable[str]) -> list[str]:
    said = [escape(line) for line in lines]
    return [head, bullets(said)] if said else []


def html(found: TwoRuns) -> str:
    """The whole comparison as one page that loads nothing and runs nothing."""
    text: str = pages.environment().get_template("comparison.html.j2").render(browser=None, **page(found))
    return text


def page(found: TwoRuns) -> dict[str, Any]:
    """What comparison.html.j2 lays out."""
    return {
        "title": title(found),
        "compared": compared(found),
        "sentences": sentences(found),
        "tables": all_tables(found),
        "notes": found.notes,
    }


def write(found: TwoRuns, folder: Path | None, *, files: Mapping[str, Path | None]) -> list[Path]:
    """Write comparison.json, .md and .html into `folder`, and single forms (`json`, `markdown`, `html`) into `files`.

    Returns their paths. Raises UserError where a file cannot be written.
    """
    making = {"json": TwoRuns.text, "markdown": markdown, "html": html}
    wanted = [(making[form], path) for form, path in files.items() if path]
    if folder:
        wanted += [(making[form], folder / f"comparison.{end}") for form, end in _ENDS.items()]
    for make, path in wanted:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A prompt set may have half a surrogate pair in its name, which UTF-8 cannot hold.
            write_atomically(path, make(found).encode("utf-8", "replace"))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error}); give another place") from error
    return [path for _, path in wanted]
