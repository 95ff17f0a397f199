"""The project's own suites by their names: `python -m bench run sdxl_main --twin`, from an installation too."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
FOLDERS = (_PACKAGE.parent / "suites", _PACKAGE / "suites")
"""Beside the package in a checkout, within it in an installation."""


def folder() -> Path | None:
    """Where they lie here."""
    return next((path for path in FOLDERS if (path / "sdxl_main.yaml").is_file()), None)


def names() -> list[str]:
    """Of all of them, sorted."""
    place = folder()
    return sorted(path.stem for path in place.glob("*.yaml")) if place else []


def file_of(given: Path) -> Path:
    """The file that is meant: the given path, or the suite of that bare name where no such file is here."""
    place = folder()
    bare = given.parent == Path() and not given.suffix
    if place is None or not bare or given.exists():
        return given
    found = place / f"{given.name}.yaml"
    return found if found.is_file() else given
