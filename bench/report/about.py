"""What was compared, and everything that decided the numbers: the report's first and last words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench import registry
from bench.records import Provenance, Results, RunRecord
from bench.report.paper import MODELS, in_the_paper
from bench.report.words import POOLED, distinct, setting
from bench.store import ELSEWHERE

SETTINGS_NAMED = 4


def compared(results: Results, *, escape: Callable[[object], str] = str) -> list[str]:
    """What was compared, in a few sentences."""
    suite, arms = results.suite, results.arms
    methods = [name for name in distinct(arm.method for arm in arms) if name != suite.baseline]
    sets = [name for name in distinct(arm.prompts for arm in arms) if name != POOLED]
    models, settings = distinct(arm.model for arm in arms), distinct(map(setting, arms))
    said = [f"Suite {escape(suite.name)} ({escape(suite.id)})."]
    if suite.reproduces:
        said[0] += f" Reproduces {escape(in_the_paper(suite.reproduces))}."
    if len(results.runs) > 1:
        said[0] += f" Merged from {len(results.runs)} runs."
    if not arms:
        return [*said, "No arm was measured."]
    more = f"; and {len(settings) - SETTINGS_NAMED} more" if len(settings) > SETTINGS_NAMED else ""
    shared, of = "prompts, seeds and starting noise", f"model {escape(', '.join(models))}; "
    if models == [ELSEWHERE]:  # of its images only prompts and seeds are known
        shared, of = "prompts and seeds", ""
    said.append(
        f"{escape(', '.join(methods) or 'No method')} against {escape(results.suite.baseline)}, each on the same "
        f"{shared}; {of}"
        f"prompts {escape(', '.join(sets) or 'all sets')}; {escape('; '.join(settings[:SETTINGS_NAMED]))}{more}."
    )
    return said


def toy(results: Results) -> str:
    """What a run on stand-ins is, so that its numbers are taken for no one else's."""
    models = [registry.get("models", name) for name in distinct(arm.model for arm in results.arms)
              if name in registry.names("models")]  # fmt: skip
    sides = sorted({max(model.size) for model in models if model.twin_of})
    real = distinct(MODELS.get(model.twin_of[0], model.twin_of[0]) for model in models if model.twin_of)
    if not real:
        return "Toy test run: embedded stand-ins, not the models, prompts and scorers that the suite names."
    return f"Toy test run: {' and '.join(map(str, sides))}-pixel shapes, not {' or '.join(real)}."


def differences(results: Results) -> list[str]:
    """What is not the same in all merged runs: `suite`, `commit`, `hardware`, `torch` and so on."""
    said = ["suite"] if _varies([run.id for run in results.runs]) else []
    made = [run.provenance for run in results.runs]
    facts = {"commit": [one.commit for one in made], **_facts(made)}
    said += [name for name, values in facts.items() if _varies(values)]
    for known in ([one.packages for one in made], [one.weights for one in made]):
        said += [name for name, values in _by_name(known).items() if _varies(values)]
    return said


def provenance(results: Results) -> list[tuple[str, str]]:
    """Name and value of everything that decided these numbers; of merged runs, what each of them says."""
    runs, made = results.runs, [run.provenance for run in results.runs]
    names = [run.folder for run in runs]
    if len(runs) == 1:
        rows = [("run", runs[0].folder), ("created", runs[0].created)]
    else:
        rows = [(f"run {place}", _run(run)) for place, run in enumerate(runs, 1)]
        rows.append(("the runs differ in", ", ".join(differences(results)) or "nothing that was recorded"))
    rows += [("suite id", results.suite.id), ("command", results.suite.command or made[0].command or "")]
    rows.append(("commit", _each([_commit(one) for one in made], names)))
    rows += [(name, _each(values, names)) for name, values in _facts(made).items()]
    versions = _by_name([one.packages for one in made])
    rows.append(("packages", ", ".join(f"{name} {_each(values, names)}" for name, values in versions.items())))
    for name, digests in _by_name([one.weights for one in made]).items():
        # A run of another model has no digest of this one: that is no difference.
        having = [place for place, digest in enumerate(digests) if digest]
        rows.append((f"weights of {name}", _each([digests[i] for i in having], [names[i] for i in having])))
    for name, metric in results.metrics.items():
        twins = f"twin of {', '.join(metric.twin_of)}" if metric.twin_of else ""
        parts = [metric.digest, metric.scale, twins]
        rows.append((f"metric {name}", "; ".join(part for part in parts if part)))
    return [(name, value) for name, value in rows if value]


def _facts(made: Sequence[Provenance]) -> dict[str, list[str | None]]:
    """What each run's machine was."""
    return {
        "python": [one.python for one in made],
        "hardware": [one.hardware for one in made],
        "cpu": [one.cpu for one in made],
    }


def _by_name(known: Sequence[Mapping[str, str | None]]) -> dict[str, list[str | None]]:
    """What each run has of every name that one of them has."""
    return {name: [one.get(name) for one in known] for name in distinct(name for one in known for name in one)}


def _run(run: RunRecord) -> str:
    sessions = f"{run.sessions} sessions" if run.sessions > 1 else ""
    state = "" if run.finished else "not finished"
    parts = (run.folder, f"suite {run.suite} ({run.id})", run.created, sessions, state)
    return ", ".join(part for part in parts if part)


def _commit(made: Provenance) -> str:
    changed = " (with uncommitted changes)" if made.dirty else ""
    return f"{made.commit}{changed}" if made.commit else ""


def _varies(values: Sequence[str | None]) -> bool:
    """Whether runs that say something say different things."""
    return len({value for value in values if value}) > 1


def _each(values: Sequence[str | None], names: Sequence[str]) -> str:
    """The one value, or every value with the run that has it."""
    said = [value or "" for value in values]
    if len(set(said)) <= 1:
        return said[0] if said else ""
    return "; ".join(f"{value or 'not recorded'} ({name})" for value, name in zip(said, names, strict=True))
