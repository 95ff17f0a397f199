"""A plugin without a package: a Python file of the user's that defines methods, or has entries of other kinds.

`--plugin FILE.py` and `bench.run(plugins=[...])` run the file. What it registers (`bench.registry.register`) has that
name; a subclass of `Method` that it defines and does not register is named after its class, `MyMethod` as `my_method`,
and a metric, prompt set, sampler or model that it makes has its own name. Only files that the user names are run.
"""

from __future__ import annotations

import ast
import re
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import identity, registry
from bench.errors import BenchError, UserError, first_line

_loaded: dict[str, tuple[str, bytes]] = {}
"""By module name, the file and the content that it was made of."""


def load(file: Path | str) -> list[tuple[str, str]]:
    """Run a plugin file and register what it defines; returns (kind, name) of it.

    A file that was changed since is run again and takes its own place. UserError, with file and line, for one that
    cannot be read or run, that takes the name of another plugin, or that defines none.
    """
    path = Path(file).expanduser().resolve()
    data = _content(path, str(file))
    name = f"plugin_{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}"
    before = _loaded.get(name)
    if before is not None and not _is_registered(before[0]):
        before = None  # forgotten since: its name is free
    if before == (str(path), data):
        return registry.put_by(str(path))
    if before is not None and before[0] != str(path):
        raise UserError(f"{file}: {before[0]} is a plugin of the same name; rename one of the two files")
    registry.forget(str(path))
    _loaded.pop(name, None)
    tree = _tree(data, path)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    module = _run(tree, spec, path)
    for kind, plugin_name, plugin in _defined(module):
        _put(kind, plugin_name, plugin, tree, path)
    found = registry.put_by(str(path))
    if not found and str(path) not in registry.beside:
        raise UserError(
            f"{path}: defines no plugin; expected a subclass of bench.methods.base.Method, or a metric, prompt set, "
            "sampler, model or executor"
        )
    _loaded[name] = (str(path), data)
    return found


def _is_registered(path: str) -> bool:
    return bool(registry.put_by(path)) or path in registry.beside


def files() -> list[str]:
    """The files that were loaded, for another process to load them too."""
    return [path for path, _ in _loaded.values()]


def name_of(kind: type) -> str:
    """What a class is called in a suite: `MyMethod` as `my_method`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()


def _content(path: Path, given: str) -> bytes:
    if path.suffix != ".py":
        raise UserError(f"{given}: a plugin is a Python file, such as my_method.py")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{given}: no such file; expected a Python file with a plugin") from None
    except OSError as error:
        raise UserError(f"{given}: cannot be read: {error.strerror or error}") from None


def _tree(data: bytes, path: Path) -> ast.Module:
    try:
        return ast.parse(data, str(path))
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno or 1}: not valid Python: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{path}:1: not valid Python: {first_line(error)}") from None


def _run(tree: ast.Module, spec: ModuleSpec, path: Path) -> ModuleType:
    """The file as a module. Without bytecode on disk, which would go by the file's time."""
    module = sys.modules[spec.name] = module_from_spec(spec)
    identity.named.add(str(path))
    try:
        with registry.reading(str(path)):
            exec(compile(tree, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        registry.forget(str(path))
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        said = first_line(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{path}:{lines[-1] if lines else 1}: {said}") from error
    return module


def _defined(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    """(kind, name, plugin) of what a module defines and did not register itself."""
    from bench.methods.base import Method
    from bench.metrics.base import MetricEntry
    from bench.models.base import ModelEntry
    from bench.prompts.base import PromptSet
    from bench.samplers.diffusers_schedulers import Sampler

    kinds = {MetricEntry: "metrics", PromptSet: "prompts", Sampler: "samplers", ModelEntry: "models"}
    for variable, value in vars(module).items():
        if isinstance(value, type):
            own = value.__module__ == module.__name__ and not variable.startswith("_")
            if own and issubclass(value, Method) and registry.name_of("methods", value) is None:
                yield "methods", name_of(value), value
        elif (kind := kinds.get(type(value))) and registry.name_of(kind, value) is None:
            yield kind, value.name, value


def _put(kind: str, name: str, plugin: Any, tree: ast.Module, path: Path) -> None:
    try:
        registry.put(kind, name, plugin, str(path))
    except UserError as error:
        registry.forget(str(path))
        classes = {one.name: one.lineno for one in tree.body if isinstance(one, ast.ClassDef)}
        raise UserError(f"{path}:{classes.get(getattr(plugin, '__name__', ''), 1)}: {error}") from None
