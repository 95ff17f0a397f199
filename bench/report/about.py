"""What was compared, and everything that decided the numbers: the report's first and last words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.report.words import POOLED, Results, Row, baseline_name, distinct, setting
from bench.store import ELSEWHERE

SETTINGS_NAMED = 4
_FACTS = ("python", "hardware", "cpu")


def compared(results: Results, *, escape: Callable[[Any], str] = str) -> list[str]:
    """What was compared, in a few sentences."""
    suite, arms = results.get("suite", {}), results.get("arms") or []
    methods = [name for name in distinct(arm["method"] for arm in arms) if name != baseline_name(results)]
    sets = [name for name in distinct(arm["prompts"] for arm in arms) if name != POOLED]
    models, settings = distinct(arm["model"] for arm in arms), distinct(map(setting, arms))
    said = [f"Suite {escape(suite.get('name'))} ({escape(suite.get('id'))})."]
    if suite.get("reproduces"):
        said[0] += f" Reproduces {escape(suite['reproduces'])}."
    if len(runs(results)) > 1:
        said[0] += f" Merged from {len(runs(results))} runs."
    if not arms:
        return [*said, "No arm was measured."]
    more = f"; and {len(settings) - SETTINGS_NAMED} more" if len(settings) > SETTINGS_NAMED else ""
    alike, of = "prompts, seeds and starting noise", f"model {escape(', '.join(models))}; "
    if models == [ELSEWHERE]:  # of its images only prompts and seeds are known
        alike, of = "prompts and seeds", ""
    said.append(
        f"{escape(', '.join(methods) or 'No method')} against {escape(baseline_name(results))}, each on the same "
        f"{alike}; {of}"
        f"prompts {escape(', '.join(sets) or 'all sets')}; {escape('; '.join(settings[:SETTINGS_NAMED]))}{more}."
    )
    return said


def runs(results: Results) -> list[Row]:
    """Every run that the results hold; older results know one and name it `run`."""
    return list(results.get("runs") or []) or [results.get("run") or {}]


def folder_name(run: Row) -> str:
    """What a run is called in the report."""
    return str(run.get("folder") or "unnamed")


def differences(results: Results) -> list[str]:
    """What is not the same in all merged runs: `suite`, `commit`, `hardware`, `torch` and so on."""
    known = runs(results)
    said = ["suite"] if _varies([run.get("id") or run.get("suite") for run in known]) else []
    records = [run.get("provenance") or {} for run in known]
    said += [name for name in ("commit", *_FACTS) if _varies([record.get(name) for record in records])]
    for kind in ("packages", "weights"):
        names = distinct(name for record in records for name in record.get(kind) or {})
        said += [name for name in names if _varies([(record.get(kind) or {}).get(name) for record in records])]
    return said


def provenance(results: Results) -> list[tuple[str, str]]:
    """Name and value of everything that decided these numbers; of merged runs, what each of them says."""
    suite, known = results.get("suite", {}), runs(results)
    records = [run.get("provenance") or {} for run in known]
    names = [folder_name(run) for run in known]
    if len(known) == 1:
        rows = [("run", known[0].get("folder")), ("created", known[0].get("created"))]
    else:
        rows = [(f"run {place}", _run(run)) for place, run in enumerate(known, 1)]
        rows.append(("the runs differ in", ", ".join(differences(results)) or "nothing that was recorded"))
    rows += [("suite id", suite.get("id")), ("command", suite.get("command") or records[0].get("command"))]
    rows.append(("commit", _each([_commit(record) for record in records], names)))
    rows += [(name, _each([record.get(name) for record in records], names)) for name in _FACTS]
    packages = distinct(name for record in records for name in record.get("packages") or {})
    versions = {name: [(record.get("packages") or {}).get(name) for record in records] for name in packages}
    rows.append(("packages", ", ".join(f"{name} {_each(found, names)}" for name, found in versions.items())))
    for name in distinct(name for record in records for name in record.get("weights") or {}):
        # A run of another model has no digest of this one: that is no difference.
        having = [place for place, record in enumerate(records) if (record.get("weights") or {}).get(name)]
        digests = [records[place]["weights"][name] for place in having]
        rows.append((f"weights of {name}", _each(digests, [names[place] for place in having])))
    for name, metric in (results.get("metrics") or {}).items():
        twins = ", ".join(metric.get("twin_of") or [])
        parts = [metric.get("digest"), metric.get("scale"), f"twin of {twins}" if twins else ""]
        rows.append((f"metric {name}", "; ".join(str(part) for part in parts if part)))
    return [(name, str(value)) for name, value in rows if value not in (None, "", "None")]


def _run(run: Row) -> str:
    suite = f"suite {run['suite']} ({run.get('id')})" if run.get("suite") else ""
    sessions = f"{run['sessions']} sessions" if (run.get("sessions") or 1) > 1 else ""
    state = "not finished" if run.get("finished") is False else ""
    return ", ".join(str(part) for part in (folder_name(run), suite, run.get("created"), sessions, state) if part)


def _commit(record: Row) -> str:
    changed = " (with uncommitted changes)" if record.get("dirty") else ""
    return f"{record['commit']}{changed}" if record.get("commit") else ""


def _varies(values: list[Any]) -> bool:
    """Whether runs that say something say different things."""
    return len({str(value) for value in values if value not in (None, "")}) > 1


def _each(values: list[Any], names: list[str]) -> str:
    """The one value, or every value with the run that has it."""
    said = ["" if value is None else str(value) for value in values]
    if len(set(said)) <= 1:
        return said[0] if said else ""
    return "; ".join(f"{value or 'not recorded'} ({name})" for value, name in zip(said, names, strict=True))
