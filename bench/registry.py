"""Named plugins: models, methods, samplers, prompts, metrics, and the weights that methods put on models.

The project's own plugins live one a file in the package of their kind and register themselves by a decorator;
others come through entry points of the groups `bench.models`, `bench.methods` and so on. A plugin's module
must not import torch at its top, so that `plan` and `--help` stay quick. Plugins of this process alone, from a file
that `--plugin` names or from a notebook, come through `put`.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Any, TypeVar

from bench.errors import UserError, nearest

PROJECT = "noisebench"
"""This distribution: what it has through entry points, and not in the package of a kind, is the embedded world's."""
NOTEBOOK = "__main__"
"""The module of a notebook's cells, and of a script that is run; also the source of what they register."""
KINDS = ("models", "methods", "samplers", "prompts", "metrics", "weights")

T = TypeVar("T")


@dataclass(frozen=True)
class Names:
    """Marks a parameter that names a plugin of a kind, wherever in a method it is."""

    kind: str


MetricName = Annotated[str, Names("metrics")]
"""A parameter that names a metric: `--twin` puts the embedded stand-in in its place, its digest enters the job id,
and reports mark the method where that metric judges it."""


def named_fields(record: Any, kind: str) -> list[str]:
    """The fields of a pydantic class that name a plugin of a kind."""
    return [name for name, one in record.model_fields.items() if Names(kind) in one.metadata]


_plugins: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
_sources: dict[tuple[str, str], str] = {}
_resolvers: dict[str, tuple[Callable[[str], bool], Callable[[str], Any]]] = {}
"""By kind, what tells a reference (such as a model's folder) from a name, and what makes a plugin of it."""


_put: set[tuple[str, str]] = set()
"""What `put` registered."""
_discovered: set[str] = set()
"""Kinds whose packages were looked for."""
beside: set[str] = set()
"""Files that define something of no kind here, such as an executor."""
_reading: list[str] = []
"""The sources whose code is run now, the innermost last."""
_configured: dict[tuple[str, str], Any] = {}
"""Plugins that stand for those of their names for a while, with the user's settings."""


@contextmanager
def configured(kind: str, plugins: Mapping[str, Any]) -> Iterator[None]:
    """Within, these plugins have their names, whether others have them or none: such as a metric on the user's own
    checkpoint, or a plugin of a test."""
    before = dict(_configured)
    _configured.update({(kind, name): plugin for name, plugin in plugins.items()})
    try:
        yield
    finally:
        _configured.clear()
        _configured.update(before)


@contextmanager
def isolated(plugins: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[None]:
    """Within, nothing that is registered outlives the block; for tests.

    `plugins`, by kind and name, are all that there are, as if they were this project's. Without them all are as
    before, and the packages that are installed are looked for again.
    """
    for kind in KINDS:
        _discover(kind)  # a module that is imported within registers its plugins once, and they would be lost
    before = ({kind: dict(known) for kind, known in _plugins.items()}, dict(_sources), set(_put), set(_discovered))
    if plugins is None:
        _discovered.clear()
    else:
        of = {kind: dict(plugins.get(kind, {})) for kind in KINDS}
        _restore(of, {(kind, name): "bench" for kind in KINDS for name in of[kind]}, set(), set(KINDS))
    try:
        yield
    finally:
        _restore(*before)


def _restore(
    plugins: dict[str, dict[str, Any]], sources: dict[tuple[str, str], str], put: set[tuple[str, str]], kinds: set[str]
) -> None:
    _plugins.update(plugins)
    _sources.clear()
    _sources.update(sources)
    _put.clear()
    _put.update(put)
    _discovered.clear()
    _discovered.update(kinds)


def register(kind: str, name: str) -> Callable[[T], T]:
    """Class or instance decorator that names a plugin; a second plugin of one name is an error.

    A notebook, or a file that `--plugin` names, may give its own name again: its cells are run more than once.
    """
    # What a plugin file imports of this package registers itself as ever: only the file's own names are the file's.
    own = bool(_reading) and sys._getframe(1).f_globals.get("__file__") == _reading[-1]

    def add(plugin: T) -> T:
        source = _reading[-1] if own else NOTEBOOK if getattr(plugin, "__module__", "") == NOTEBOOK else None
        if source is None:
            add_plugin(kind, name, plugin, "bench")
        else:
            put(kind, name, plugin, source)
        return plugin

    return add


def add_plugin(kind: str, name: str, plugin: Any, source: str) -> None:
    """Register `plugin` under a name; `source` says which package it came from."""
    known = _plugins[kind].get(name)
    if known is not None and known is not plugin:
        raise UserError(
            f"two {kind} are named {name!r} (from {_sources[kind, name]} and {source}); uninstall one or rename it"
        )
    _plugins[kind][name] = plugin
    _sources[kind, name] = source


def put(kind: str, name: str, plugin: Any, source: str) -> None:
    """Register a plugin for this process; it takes the place of one of that name that came this way before."""
    _discover(kind)
    if (kind, name) in _put:
        del _plugins[kind][name]
    add_plugin(kind, name, plugin, source)
    _put.add((kind, name))


def forget(source: str) -> None:
    """Remove what `put` registered from a source."""
    for kind, name in put_by(source):
        del _plugins[kind][name], _sources[kind, name]
        _put.discard((kind, name))


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Within, `register` takes plugins as `put` does, from this source."""
    _reading.append(source)
    try:
        yield
    finally:
        _reading.pop()


def name_of(kind: str, plugin: Any) -> str | None:
    """The name under which a plugin is registered; None where it is not."""
    return next((name for name, one in _known(kind).items() if one is plugin), None)


def put_by(source: str) -> list[tuple[str, str]]:
    """(kind, name) of what `put` registered from a source."""
    return sorted(one for one in _put if _sources[one] == source)


def of_this_process(kind: str, name: str) -> str | None:
    """The source of a plugin that `put` registered; None where other processes find it themselves."""
    return _sources[kind, name] if (kind, name) in _put else None


def add_resolver(kind: str, matches: Callable[[str], bool], resolve: Callable[[str], Any]) -> None:
    """Let plugins of a kind be named by a place too: where `matches(name)`, `resolve(name)` is the plugin."""
    _resolvers[kind] = (matches, resolve)


@cache
def _resolved(kind: str, name: str) -> Any:
    return _resolvers[kind][1](name)


def _discover(kind: str) -> dict[str, Any]:
    if kind in _discovered:
        return _plugins[kind]
    package = importlib.import_module(f"bench.{kind}")
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        importlib.import_module(f"bench.{kind}.{module.name}")
    for point in entry_points(group=f"bench.{kind}"):
        distribution = point.dist.name if point.dist else point.value
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:
            # A broken third-party plugin must not take the whole program down with it; asking for it by name does.
            plugin = Broken(point.name, distribution, error)
        add_plugin(kind, point.name, plugin, distribution)
    _discovered.add(kind)
    return _plugins[kind]


def _known(kind: str) -> dict[str, Any]:
    """Plugins of a kind by name, those that `configured` put there included."""
    here = {name: plugin for (of, name), plugin in _configured.items() if of == kind}
    return {**_discover(kind), **here} if here else _discover(kind)


class Broken:
    """Stands for a plugin whose package does not load; `line` says why."""

    def __init__(self, name: str, distribution: str, error: BaseException):
        at = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        where = f" ({at[-1].filename}:{at[-1].lineno})" if len(at) > 1 else ""
        said = f"{type(error).__name__}: {error}{where}"
        self.line = f"plugin {name!r} of package {distribution!r} does not load: {said}"


def names(kind: str) -> list[str]:
    """Sorted names of one kind."""
    return sorted(_known(kind))


def source(kind: str, name: str) -> str:
    """The distribution that registered a plugin; `bench` for the project's own, PROJECT for a configured one."""
    _discover(kind)
    return _sources.get((kind, name), PROJECT) if (kind, name) in _configured else _sources[kind, name]


def get(kind: str, name: str) -> Any:
    """The plugin of that name; an unknown name is a UserError with the nearest known one."""
    if (kind, name) in _configured:
        return _configured[kind, name]
    plugins = _known(kind)
    if name not in plugins and kind in _resolvers and _resolvers[kind][0](name):
        return _resolved(kind, name)
    if name not in plugins:
        near = nearest(name, plugins)
        yours = "" if "did you mean" in near else "; one of your own comes with --plugin FILE.py"
        raise UserError(f"unknown {kind.rstrip('s')} {name!r}{near}{yours}")
    plugin = plugins[name]
    if isinstance(plugin, Broken):
        raise UserError(plugin.line)
    return plugin


def twin(kind: str, name: str) -> str | None:
    """The embedded stand-in for a plugin: the one that says `twin_of` it.

    The embedded world's own, and what is of this process alone, is its own twin.
    """
    for other, plugin in sorted(_known(kind).items()):
        of = getattr(plugin, "twin_of", ())
        own = other == name and (of or source(kind, name) == PROJECT or (kind, name) in _put)
        if name in of or own:
            return other
    return None
