"""What a gate hands back: Markdown for people, JUnit XML for CI, JSON (bench/schemas/gate.schema.json) for programs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.gate.verdicts import ORDER, SETTING, Judgement, Outcome, Verdict, counted, overall
from bench.records import Results

COLOURS: dict[Outcome, str] = {"failed": "🔴", "not comparable": "⚪", "inconclusive": "🟡", "passed": "🟢"}


def said_of(verdict: Verdict) -> str:
    """A verdict's outcome in words: an inconclusive one against a baseline is of a change."""
    changed = verdict.outcome == "inconclusive" and verdict.check == "baseline"
    return "changed, inconclusive" if changed else verdict.outcome


def mark_of(verdict: Verdict) -> str:
    """What a line on the terminal starts with: `FAILED` is to be seen in a log, `ok` not to be."""
    return {"passed": "ok", "failed": "FAILED"}.get(verdict.outcome, said_of(verdict))


class Report(BaseModel):
    """A gate's answer as JSON."""

    model_config = ConfigDict(
        title="The verdicts of noisebench's gate", extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )

    schema_version: Literal[1] = Field(alias="schema")
    kind: Literal["noisebench gate"]
    outcome: Outcome
    """The worst of all verdicts; a gate without verdicts is not comparable."""
    exit_code: int
    """0, 1 or 3 as the verdicts say; any other is of the error that ended the command before."""
    run: str
    """Name of the run folder; empty where there is none."""
    suite: str
    suite_id: str
    baseline: str | None
    """Name of the frozen baseline's file, where there is one."""
    counts: dict[Outcome, int]
    notes: list[str]
    """What a reader must know beside the verdicts, such as weights that have changed since the baseline."""
    verdicts: list[Verdict]
    results_sha256: str | None = None
    """Digest of the results.json beside which the verdicts lie, where they lie in a run's folder."""


def as_json(judgement: Judgement, results: Results | None) -> dict[str, Any]:
    """The whole answer, after bench/schemas/gate.schema.json; without results where there is no run to judge."""
    report = Report(
        schema=1,
        kind="noisebench gate",
        outcome=overall(judgement.verdicts),
        exit_code=judgement.exit_code,
        run=results.run.folder if results else "",
        suite=results.suite.name if results else "",
        suite_id=results.suite.id if results else "",
        baseline=judgement.baseline,
        counts=counted(judgement.verdicts),
        notes=judgement.notes,
        verdicts=judgement.verdicts,
    )
    return report.model_dump(mode="json", by_alias=True)


def by_method(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A line a method, the worst last: its outcome, images that changed, the worst finding, and how many of each."""
    groups: dict[str, list[Verdict]] = {}
    for row in verdicts:
        groups.setdefault(row.method, []).append(row)
    for method, rows in sorted(groups.items(), key=lambda one: -min(ORDER.index(row.outcome) for row in one[1])):
        worst = min(rows, key=lambda row: ORDER.index(row.outcome))
        n = len(rows)
        if worst.outcome == "passed":
            yield f"{mark_of(worst)}: {method}: {n} verdict{'s' * (n > 1)}{_images_changed(rows)}"
            continue
        outcomes = ", ".join(f"{number} {name}" for name, number in reversed(counted(rows).items()) if number)
        yield f"{mark_of(worst)}: {worst.sentence}" + (f" ({n} verdicts: {outcomes})" if n > 1 else "")


def _images_changed(rows: Sequence[Verdict]) -> str:
    """How many of a method's images have changed, over all of its settings; nothing where no digests were kept."""
    arms = {tuple(getattr(row, name) for name in SETTING): row for row in rows if row.images_changed is not None}
    if not arms:
        return ""
    changed, images = (sum(getattr(row, name) for row in arms.values()) for name in ("images_changed", "images"))
    return f", {changed} of {images} images changed"


def markdown(judgement: Judgement) -> str:
    """A summary: the counts, one row a verdict with failures first, and what else must be known."""
    rows = sorted(judgement.verdicts, key=lambda verdict: ORDER.index(verdict.outcome))
    counts = ", ".join(f"{number} {name}" for name, number in counted(rows).items())
    lines = ["| outcome | rule | method | finding |", "| --- | --- | --- | --- |"]
    for row in rows:
        words = map(_escape, (said_of(row), row.rule, row.method, row.sentence))
        lines.append(f"| {COLOURS[row.outcome]} {' | '.join(words)} |")
    table = "\n" + "\n".join(lines) + "\n" if rows else "\nNo rule was checked.\n"
    notes = "".join(f"\n- {_escape(note)}" for note in judgement.notes)
    return f"## Gate: {overall(rows)}\n\n{counts}.\n{table}{notes and notes + chr(10)}"


def _escape(text: str) -> str:
    """Names come from files that others write: nothing in them may act as Markdown or html."""
    line = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip().replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*_~]|\](?=[(\[:]))", r"\\\1", line)


def junit(verdicts: Sequence[Verdict]) -> str:
    """JUnit XML: a failure where a rule failed, an error where nothing could be compared (exit code 3 is no pass).

    What is inconclusive is skipped, with its reason.

    A gate that checked nothing is one error, so that no reader of the file takes an empty one for a pass.
    """
    rows = list(verdicts) or [
        Verdict(
            check="rule", rule="gate", method="any method", outcome="not comparable", sentence="no rule was checked"
        )
    ]
    number = counted(rows)
    counts = {"tests": len(rows), "failures": number["failed"], "errors": number["not comparable"],
              "skipped": number.get("inconclusive", 0)}  # fmt: skip
    root = ET.Element("testsuites", {name: str(count) for name, count in counts.items()})
    suite = ET.SubElement(
        root, "testsuite", {"name": "bench.gate", **{key: str(value) for key, value in counts.items()}}
    )
    for row in rows:
        case = ET.SubElement(suite, "testcase", {"classname": _xml(row.method), "name": _xml(row.rule), "time": "0"})
        if row.ok:
            ET.SubElement(case, "system-out").text = _xml(row.sentence)
        elif row.outcome == "inconclusive":
            ET.SubElement(case, "skipped", {"message": _xml(row.sentence)})
        else:
            kind, word = ("failure", "Regression") if row.comparable else ("error", "NotComparable")
            ET.SubElement(case, kind, {"type": word, "message": _xml(row.sentence)})
    ET.indent(root)
    # Declared by hand: ElementTree would name the locale's encoding, and the file is written in UTF-8.
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
