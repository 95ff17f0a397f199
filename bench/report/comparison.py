"""Two runs compared (`bench.analysis.compare`), as sentences, Markdown and one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.report import pages, tables
from bench.report.comparison_tables import Comparison, Row, all_tables, pooled_arms, rows
from bench.report.markdown import LIMIT, bullets, escape, table_lines
from bench.report.strongest import most_independent
from bench.report.verdict import told
from bench.report.words import distinct, interval, number, pooled, setting
from bench.store import write_atomically

_ENDS = {"json": "json", "markdown": "md", "html": "html"}
NAMED = 6
"""Arms or differences that a sentence names before it counts the rest."""


# Sentences -----------------------------------------------------------------------------------------------------------


def compared(found: Comparison) -> list[str]:
    """Which runs A and B are."""
    said = []
    for side in ("a", "b"):
        run = found[side]
        commit = str(run["provenance"].get("commit") or "")[:12]
        parts = (f"suite {run['suite']} ({run['id']})", run["created"], f"commit {commit}" if commit else "")
        said.append(f"{side.upper()}: {run['folder']}, {', '.join(part for part in parts if part)}")
    return said


def sentences(found: Comparison) -> list[str]:
    """The verdict in plain words: same images, deltas by arm, times, and what was not compared."""
    found = rows(found)
    return [*_same(found), *_deltas(found), *_speed(found), *_apart(found)]


def _same(found: Comparison) -> list[str]:
    n, same = (sum(arm[name] for arm in pooled_arms(found)) for name in ("n", "identical"))
    if n and n == same:
        return [f"All {n} images that both runs have are the same, byte for byte."]
    return [f"{same} of the {n} images that both runs have are the same, byte for byte."]


def _deltas(found: Comparison) -> list[str]:
    """The report's own sentences, B's arm being the method and A's its baseline; silent where no image changed."""
    changed = {tables.place(arm) for arm in pooled_arms(found) if arm["identical"] < arm["n"] or not arm["complete"]}
    shown = [
        rows(row | {"method": f"{row['method']} in B", "baseline": f"{row['method']} in A"})
        for row in found["comparisons"]
        if tables.place(row) in changed
    ]
    of = rows({"comparisons": shown, "metrics": found["metrics"], "arms": []})
    return told(of, shown, first=most_independent(of, pooled(shown)))


def _speed(found: Comparison) -> list[str]:
    made = [arm for arm in pooled_arms(found) if arm["n"]]
    timed = [(arm, arm["cost"]["times"]["total_ms"]) for arm in made if arm["cost"]["times"]]
    said = [
        f"{_name(found, arm)} {number(total['ratio'], 2)} {interval(total['low'], total['high'], 2)}".rstrip()
        for arm, total in timed
        if total["ratio"] is not None
    ]
    lines = [f"Time an image, B as a multiple of A: {_some(said)}."] if said else []
    untimed = [arm for arm in made if not arm["cost"]["times"]]
    for reason in distinct(arm["cost"]["no_times"] for arm in untimed):
        hardware = [", ".join(distinct(name for arm in untimed for name in arm["cost"][f"hardware_{x}"])) for x in "ab"]
        more = f" ({hardware[0]} against {hardware[1]})" if hardware[0] != hardware[1] else ""
        names = _some([_name(found, arm) for arm in untimed if arm["cost"]["no_times"] == reason])
        lines.append(f"Times of {names}: {reason}, not compared{more}.")
    return lines


def _apart(found: Comparison) -> list[str]:
    lines = [f"Not compared: {row['metric']}: {row['reason']}." for row in found["not_compared"]]
    for side in ("a", "b"):
        arms = found[f"only_{side}"]
        if arms:
            cells = sum(arm["cells"] for arm in arms)
            lines.append(f"Only in {side.upper()}: {cells} cells of {len(arms)} arms ({_some(_names(arms))}).")
        more = sum(arm[f"n_{side}"] - arm["n_expected"] - arm["changed_prompts"] for arm in pooled_arms(found))
        if more:
            lines.append(f"Only in {side.upper()}: {more} cells of arms that both have (other prompts or seeds).")
    changed = sum(arm["changed_prompts"] for arm in pooled_arms(found))
    if changed:
        lines.append(f"{changed} cells have another prompt in B than in A at the same place: not compared.")
    for field in distinct(row["differs"] for row in found["different_protocol"]):
        apart = [row for row in found["different_protocol"] if row["differs"] == field]
        values = distinct(f"{row['a'][field]} in A, {row['b'][field]} in B" for row in apart)
        lines.append(
            f"Different protocol, not compared: {len(apart)} pairs of arms differ in {field} ({_some(values)})."
        )
    return lines


def _name(found: Comparison, arm: Row) -> str:
    return f"{arm['method']} ({arm['model']}, {setting(arm)})" if _many_settings(found) else str(arm["method"])


def _many_settings(found: Comparison) -> bool:
    return len({(arm["model"], setting(arm)) for arm in found["arms"]}) > 1


def _names(arms: list[Row]) -> list[str]:
    return distinct(f"{arm['method']} on {arm['model']}, {setting(arm)}" for arm in arms)


def _some(words: list[str]) -> str:
    """The first of a list, and how many more there are."""
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return "; ".join(words[:NAMED]) + more


# Forms ---------------------------------------------------------------------------------------------------------------


def title(found: Comparison) -> str:
    """What a comparison is called."""
    return f"{found['b']['folder']} (B) against {found['a']['folder']} (A)"


def markdown(found: Comparison) -> str:
    """The whole comparison as Markdown, cut with a notice where GitHub would cut it."""
    parts = [
        f"# {escape(title(found))}",
        bullets(map(escape, compared(found))),
        "## Verdict",
        bullets(map(escape, sentences(found))),
        *(part for table in all_tables(found) for part in table_lines(table, folded=True)),
        *_section("## Notes", found["notes"]),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    if len(text) < LIMIT:
        return text
    notice = "\n\n(Cut here for length; the JSON and the HTML hold everything.)\n"
    return text[: text.rfind("\n", 0, LIMIT - len(notice) - 1)] + notice


def _section(head: str, lines: Iterable[str]) -> list[str]:
    said = [escape(line) for line in lines]
    return [head, bullets(said)] if said else []


def html(found: Comparison) -> str:
    """The whole comparison as one page that loads nothing and runs nothing."""
    text: str = pages.environment().get_template("comparison.html.j2").render(browser=None, **page(found))
    return text


def page(found: Comparison) -> dict[str, Any]:
    """What comparison.html.j2 lays out."""
    return {
        "title": title(found),
        "compared": compared(found),
        "sentences": sentences(found),
        "tables": all_tables(found),
        "notes": found["notes"],
    }


def write(found: Comparison, folder: Path | None, *, files: Mapping[str, Path | None]) -> list[Path]:
    """Write comparison.json, .md and .html into `folder`, and single forms (`json`, `markdown`, `html`) into `files`.

    Returns their paths. Raises UserError where a file cannot be written.
    """
    making = {"json": _json, "markdown": markdown, "html": html}
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


def _json(found: Comparison) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
