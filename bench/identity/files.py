"""Where modules lie, what is in them, and which package brings them. Imports none of them."""

from __future__ import annotations

import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.identity.source import OWN, Kept, Parts
from bench.moved import MOVED

GROUPS = tuple(f"bench.{kind}" for kind in ("models", "methods", "samplers", "prompts", "metrics", "families"))
"""Entry points by which a package brings code."""
LIBRARIES = frozenset({"torch", "torchvision", "numpy", "scipy", "PIL", "diffusers", "transformers", "pydantic",
                       "pydantic_core", "safetensors", "open_clip", "timm", "pandas", "peft"})  # fmt: skip
_INSTALLED = frozenset(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))

Place = tuple[str, int, int]
"""A file with its time and size."""
kept = Kept()
_files: dict[tuple[str, Place], Parts] = {}
named: set[str] = set()
"""Files that the user named as plugins."""


def is_loose(top: str) -> bool:
    """Whether a module lies where no package is installed, such as beside a notebook."""
    origin, folders, _ = top_of(top)
    place = next(iter([origin, *folders] if origin else folders), None)
    return place is not None and not any(Path(place).is_relative_to(folder) for folder in _INSTALLED)


def file_name(top: str) -> str | None:
    """The name of a module's file; None where it has none."""
    origin = top_of(top)[0]
    return Path(origin).name if origin else None


def place_now(name: str) -> str:
    """A name's place in this release: plugins may import a module of this project from where it was."""
    module, rest = name, ""
    while module:
        if module in MOVED:
            return MOVED[module] + rest
        module, dot, last = module.rpartition(".")
        rest = dot + last + rest
    return name


def module_of(name: str) -> str | None:
    """The module that an imported name is, or is in; None for one that cannot be found."""
    top = name.partition(".")[0]
    if top in LIBRARIES or top in sys.stdlib_module_names:
        return None
    if source_of(name) is not None:
        return name
    above = name.rpartition(".")[0]
    return above if above and source_of(above) is not None else None


def parts_of(module: str) -> Parts | None:
    """A module's parts; None where it has no source that can be read."""
    found = source_of(module)
    if found is None:
        return None
    path, read = found
    package = path.endswith("__init__.py")
    rows = module.partition(".")[0] in OWN
    place = stat(path)
    if place is not None and (module, place) in _files:
        return _files[module, place]
    try:
        parts = kept.parts(read(), module, package=package, rows=rows)
    except (OSError, SyntaxError, ValueError):
        return None
    if place is not None:
        _files[module, place] = parts
    return parts


def stat(path: str) -> Place | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return path, found.st_mtime_ns, found.st_size


def top_of(name: str) -> tuple[str | None, tuple[str, ...], Any]:
    """(file, folders, loader) of a top-level module or package; finding one imports nothing."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if spec is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
    if spec is None:
        return getattr(module, "__file__", None), (), None
    return spec.origin, tuple(spec.submodule_search_locations or ()), spec.loader


def source_of(module: str) -> tuple[str, Callable[[], bytes]] | None:
    """A module's source file, and what reads it; its packages are not imported."""
    top, *inner = module.split(".")
    origin, folders, loader = top_of(top)
    if not inner:
        places = [origin] if origin and origin.endswith(".py") else []
    else:
        stems = ["/".join([folder, *inner]) for folder in folders]
        places = [place for stem in stems for place in (f"{stem}/__init__.py", f"{stem}.py")]
    for place in places:
        if Path(place).is_file():
            return place, Path(place).read_bytes
        if hasattr(loader, "archive"):
            try:
                loader.get_data(place)
            except OSError:
                continue
            return place, functools.partial(loader.get_data, place)
    return None


# Whose it is ---------------------------------------------------------------------------------------------------------


@functools.cache
def _points() -> dict[str, str]:
    """Distributions by the top-level names of the modules that their entry points for `bench` name."""
    points = [one for group in GROUPS for one in metadata.entry_points(group=group)]
    return {one.module.partition(".")[0]: one.dist.name for one in points if one.dist}


def owner(file: str) -> str | None:
    """Whose a source file is, such as `my-package 1.2`, where another package brings it; None for all others.

    Of a file that the user named as a plugin, its name.
    """
    path = Path(file)
    if file in named:
        return path.name
    for top, distribution in _points().items():
        for name in {top, *packages_of(distribution)} - {*OWN}:
            origin, folders, _ = top_of(name)
            if file == origin or any(path.is_relative_to(folder) for folder in folders):
                return f"{distribution} {version_of(distribution)}"
    return None


def is_own(file: str) -> bool:
    """Whether a source file is one of this project."""
    return any(Path(file).is_relative_to(folder) for name in OWN for folder in top_of(name)[1])


def distribution_of(top: str) -> str | None:
    return _points().get(top)


@functools.cache
def version_of(distribution: str | None) -> str | None:
    try:
        return metadata.version(distribution) if distribution else None
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def packages_of(distribution: str) -> set[str]:
    """Top-level names of all modules of a distribution, as far as it lists them."""
    named = {top for top, name in _points().items() if name == distribution}
    files = metadata.distribution(distribution).files or ()
    listed = {
        f.parts[0].removesuffix(".py") for f in files if f.suffix == ".py" and not f.parts[0].startswith(("_", "."))
    }
    return {*named, *listed} - {*OWN}
