"""The shards of one run (`run --shard i/n`) as that run: checked against one another, then joined into its folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.store import Ledger, clone_or_copy, inside, write_atomically
from bench.store.files import missing_from
from bench.store.joining import join

KEPT = ("suite", "optimises", "learnt_from", "left_out", "scorers", "code", "made_with", "added_metrics", "batch_sizes")
"""What shards of one run have in common in their ledgers."""


def merge(runs: Sequence[Path], *, out: Path | None = None, scores: bool = True) -> Path:
    """Join all shards of a run into `out`, or into the folder that the run would have; returns that folder.

    Without `scores` the images alone are taken: the run command then scores them as it scores a run made in one go.
    UserError, which names the folder, where one is no shard, unfinished, of another run or twice there, or is missing.
    """
    with ExitStack() as stack:
        folders = list({run.resolve(): run for run in runs}.values())
        ledgers = [stack.enter_context(closing(Ledger(run, read_only=True))) for run in folders]
        found = sorted(((_shard(ledger), ledger) for ledger in ledgers), key=lambda one: one[0]["index"])
        _check(found)
        first = found[0][1]
        name = f"{first.get('suite')['name']}-{_suite_id(first)}"
        target = out or first.folder.resolve().parent / name
        if target.exists() and any(target.iterdir()):
            raise UserError(f"{target}: a folder with something in it is there; remove it, or give another --out")
        making = target.with_name(f".{target.name}.merging")
        shutil.rmtree(making, ignore_errors=True)
        _join(found, making, scores=scores)
        if target.exists():
            target.rmdir()
        making.rename(target)
        return target


def _suite_id(ledger: Ledger) -> str:
    from bench.analysis.results import load_suite

    return load_suite(ledger).id


def _shard(ledger: Ledger) -> dict[str, Any]:
    shard: dict[str, Any] | None = ledger.get("shard")
    if shard is None:
        raise UserError(
            f"{ledger.folder}: not a shard: it was made without --shard; `python -m bench report RUN RUN ...` puts "
            "whole runs together"
        )
    return shard


# What shards must have in common --------------------------------------------------------------------------------------


def _check(found: Sequence[tuple[dict[str, Any], Ledger]]) -> None:
    (shard, first), *others = found
    for other, ledger in others:
        for what, ours, theirs in _differences((shard, first), (other, ledger)):
            if ours != theirs:
                raise UserError(
                    f"{ledger.folder}: a shard of another run than {first.folder}: another {what} "
                    f"({_short(theirs)}, not {_short(ours)})"
                )
    by_index: dict[int, list[Path]] = {}
    for one, ledger in found:
        by_index.setdefault(one["index"], []).append(ledger.folder)
    for index, folders in by_index.items():
        if len(folders) > 1:
            raise UserError(f"{folders[1]}: shard {index} of {shard['of']} is there twice, the other is {folders[0]}")
    lacking = [str(k) for k in range(1, shard["of"] + 1) if k not in by_index]
    if lacking:
        raise UserError(
            f"shard{'s' * (len(lacking) > 1)} {', '.join(lacking)} of {shard['of']} of {first.get('suite')['name']} "
            f"({shard['whole'][:10]}) not given; run with --shard {lacking[0]}/{shard['of']}, or give the folder too"
        )
    for one, ledger in found:
        _check_made(one, ledger)


def _differences(
    ours: tuple[dict[str, Any], Ledger], theirs: tuple[dict[str, Any], Ledger]
) -> Iterable[tuple[str, Any, Any]]:
    """(what, its value in the first, its value in the other), what explains the most first."""
    a, b = ours[1], theirs[1]
    yield "suite", a.get("suite")["name"], b.get("suite")["name"]
    yield "number of shards", ours[0]["of"], theirs[0]["of"]
    yield "--batch-size", ours[0]["batch"], theirs[0]["batch"]
    codes, others = a.get("code") or {}, b.get("code") or {}
    for name in sorted({*codes, *others}):
        yield f"code of {name}", codes.get(name), others.get(name)
    made, others = a.get("made_with") or {}, b.get("made_with") or {}
    for name in sorted({*made, *others}):
        yield name, made.get(name), others.get(name)
    packages, others = _packages(a), _packages(b)
    for name in sorted({*packages, *others}):
        yield f"version of {name}", packages.get(name), others.get(name)
    yield "plan: its settings, prompts or scorers", ours[0]["whole"], theirs[0]["whole"]


def _packages(ledger: Ledger) -> dict[str, Any]:
    sessions = ledger.sessions()
    return dict(sessions[-1].provenance.get("packages") or {}) if sessions else {}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:10]}..."


def _check_made(shard: Mapping[str, Any], ledger: Ledger) -> None:
    """That every image of a shard is there, or is known to have failed."""
    named = f"{ledger.folder}: shard {shard['index']} of {shard['of']}"
    unmade = {cell.job_id for cell in ledger.cells()} - ledger.images().keys() - ledger.failures().keys()
    if unmade:
        raise UserError(f"{named} is not finished: {len(unmade)} images are to be made; run it again to finish it")
    if lost := missing_from(ledger.folder, sorted({one.file for one in ledger.images().values()})):
        raise UserError(f"{named} lacks {lost} of its image files; run it again, which makes them again")


# Joining --------------------------------------------------------------------------------------------------------------


def _join(found: Sequence[tuple[dict[str, Any], Ledger]], folder: Path, *, scores: bool) -> None:
    first = found[0][1]
    (folder / "images").mkdir(parents=True)
    for _, shard in found:
        for image in shard.images().values():
            if not (folder / image.file).exists():
                clone_or_copy(inside(shard.folder, image.file), folder / image.file)
    with closing(Ledger(folder, create=True)) as ledger:
        join(ledger, [shard for _, shard in found], [shard["at"] for shard, _ in found], scores=scores)
        for name in KEPT:
            if (value := first.get(name)) is not None:
                ledger.set(name, value)
        ledger.set("merged", [shard.folder.name for _, shard in found])
        sessions = [shard.sessions() for _, shard in found]
        last = [of[-1] for of in sessions if of]
        if last:
            number = ledger.begin_session(last[0].provenance)
            ledger.end_session(number, summed([one.stages or {} for one in last]))
        if scores and all(shard.get("finished") for _, shard in found):
            ledger.set("finished", found[0][0]["whole"])
    write_atomically(folder / "suite.yaml", (first.folder / "suite.yaml").read_bytes())


def summed(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the stages of several sessions took together: seconds and counts add up, what is in words is the first's."""
    found: dict[str, Any] = {}
    for one in stages:
        for name, value in one.items():
            if isinstance(value, Mapping):
                found[name] = summed([found.get(name, {}), value])
            elif isinstance(value, int | float) and name in found:
                found[name] += value
            else:
                found.setdefault(name, value)
    if found.get("seconds") and "inside" in found:
        found["efficiency"] = sum(found["inside"].values()) / found["seconds"]
    return found
