"""Getting what suites need onto this machine: each source once, the others continuing where one cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.errors import UserError
from bench.needs.base import Need, Source, Tell, Unreachable, gigabytes

ROOM = 1_000_000_000
"""Bytes that stay free beside what is fetched."""


def fetch(needs: Sequence[Need], *, to: Path | None = None, tell: Tell) -> None:
    """Get what is not here and can be fetched, and say of the rest what brings it here.

    Scorers' files go into the folder `to`, if one is given, as a suite's `checkpoint: FOLDER` has them. UserError at
    the end where something could not be had; what could is kept.
    """
    todo = _todo(needs, to)
    getting = [need for need in todo if not need.source.command]
    _check_room(getting, to)
    failed: list[UserError] = []
    for at, need in enumerate(getting, start=1):
        size = f", about {gigabytes(need.about_bytes)}" if need.about_bytes else ""
        head = f"[{at}/{len(getting)}] {need.of}: {need.what}"
        tell(f"{head} from {need.source.where}{size}")
        try:
            need.source.get(tell=lambda line, head=head: tell(f"{head}: {line}"), to=_folder(need, to))  # type: ignore[misc]
        except UserError as error:
            failed.append(error)
            tell(f"failed: {need.of}: {error}")
    tell(f"fetched {len(getting) - len(failed)} of {len(getting)}; {_count(needs) - len(todo)} were here")
    for need in todo:
        if need.source.command:
            tell(f"not to be fetched: {need.of} needs {need.what}: {need.source.command}")
    if failed:
        more = f" (and {len(failed) - 1} more, above)" if len(failed) > 1 else ""
        raise UserError(f"{len(failed)} of {len(getting)} could not be fetched: {failed[0]}{more}")


def listed(needs: Sequence[Need], *, to: Path | None = None) -> Iterator[str]:
    """What `fetch` would get, a line each with its size, as the hub says it where it can be asked; then the sum.

    UserError at the end where the hub cannot be reached; all lines come before it.
    """
    total, unknown = 0, 0
    away: Unreachable | None = None
    todo = _todo(needs, to)
    for need in todo:
        if need.source.command:
            yield f"{need.of}: {need.what}: not to be fetched: {need.source.command}"
            continue
        size, said = need.about_bytes, _about(need)
        if away is None:  # a host that did not answer is not asked again
            try:
                size, said = _size(need)
            except Unreachable as error:
                away = error
        total, unknown = total + (size or 0), unknown + (size is None)
        yield f"{need.of}: {need.what} from {need.source.where}: {said}"
    more = f" and {unknown} of unknown size" if unknown else ""
    about = "about " if away else ""
    yield f"in all {about}{gigabytes(total)}{more} to fetch; {_count(needs) - len(todo)} are here"
    if away:
        raise UserError(f"what is still to come is unknown, sizes above are those published: {away}")


def _size(need: Need) -> tuple[int | None, str]:
    """Bytes still to come, as far as they are known, and how that is said; Unreachable where no host answers."""
    try:
        if asked := need.source.size():
            return asked, gigabytes(asked)
    except Unreachable:
        raise
    except UserError as error:
        about = f"{_about(need)}; " if need.about_bytes else ""
        return need.about_bytes, f"{about}{error}"
    return need.about_bytes, _about(need)


def _left(need: Need) -> int:
    try:
        return _size(need)[0] or 0
    except Unreachable:
        return need.about_bytes or 0


def _about(need: Need) -> str:
    """A size as published."""
    return "size unknown" if need.about_bytes is None else f"about {gigabytes(need.about_bytes)}"


def _folder(need: Need, to: Path | None) -> Path | None:
    """Where a need goes if not to its own place: scorers' files only."""
    return to if to is not None and need.of.startswith("metric ") else None


def _todo(needs: Iterable[Need], to: Path | None) -> list[Need]:
    """Each source that is to be brought here, once. What goes into a folder of its own is looked for there alone."""
    found: dict[tuple[Source, Path | None], Need] = {}
    for need in needs:
        folder = _folder(need, to)
        here = need.source.laid(folder, need.what) if folder else need.source.here()
        if not here:
            found.setdefault((need.source, folder), need)
    return list(found.values())


def _count(needs: Iterable[Need]) -> int:
    return len({need.source for need in needs})


def _check_room(getting: Sequence[Need], to: Path | None) -> None:
    """UserError, before hours of downloading, where the disk has not the room for what is known of it."""
    from huggingface_hub import constants

    place = Path(to or constants.HF_HUB_CACHE)
    existing = next(p for p in (place, *place.resolve().parents) if p.is_dir())
    free = shutil.disk_usage(existing).free
    wanted = sum(need.about_bytes or 0 for need in getting)
    if wanted and wanted + ROOM > free:
        # What was fetched before it was cut off needs no room again; only here is it worth to ask for that.
        wanted = sum(_left(need) for need in getting)
    if wanted and wanted + ROOM > free:
        other = "give --to a folder" if to else "set HF_HOME to a folder"
        raise UserError(
            f"{place}: {gigabytes(free)} are free, and about {gigabytes(wanted)} are to be fetched; free some room, or "
            f"{other} on another disk"
        )
