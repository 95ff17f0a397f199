"""The source of what a notebook defines, or a script that is run: its module is no file that could stand for it.

A class or function counts by its own definition, and by the definitions and plain values of its module that it uses,
and theirs, in whatever cell they stand. Everything else there may change freely.
"""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from hashlib import sha256
from pathlib import PurePath
from types import CodeType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import Any, TypeVar

from bench.errors import UserError
from bench.identity import source
from bench.registry import NOTEBOOK

_PLAIN = (bool, int, float, complex, str, bytes, PurePath, Enum, type(None), type(...), TypeVar)
_NAMED = {"dtype", "device", "Size"}
"""Types of torch whose values are plain."""


def part(thing: Any) -> source.Part:
    """The digest of a class's or function's source with all that it uses of its module, and what those import.

    UserError where there is no source, as in a Python prompt, or where something that it uses has none.
    """
    found: dict[str, str] = {}
    imports: dict[str, None] = {}
    todo = [thing]
    while todo:
        one = todo.pop()
        key = f"{one.__qualname__} {id(one)}"
        if key in found:
            continue
        node = _definition(one)
        if node is None:
            found[key] = _attributes(one)
            continue
        read = source.parse(ast.unparse(node).encode(), NOTEBOOK, package=False, rows=False)[""]
        found[key] = read.digest
        imports.update(dict.fromkeys(read.imports))
        for name, given in _used(node, vars(sys.modules[one.__module__])):
            value = inspect.unwrap(given) if callable(given) else given
            if isinstance(value, ModuleType):
                imports[value.__name__] = None
            elif isinstance(value, type | FunctionType) and value.__module__ == one.__module__:
                todo.append(value)
            elif isinstance(value, type | FunctionType) or _is_builtin(value):
                imports[f"{value.__module__}.{value.__name__}"] = None
            else:
                found[name] = _written(value, name, thing)
    words = sorted(f"{key.partition(' ')[0]} {digest}" for key, digest in found.items())
    return source.Part(sha256("\n".join(words).encode()).hexdigest()[:16], tuple(sorted(imports)))


def code_file(thing: Any) -> str:
    """Where a traceback says that the code of a class or function stands, such as a cell; empty without code."""
    own = _function(thing)
    return own.__code__.co_filename if own else ""


def _function(thing: Any) -> FunctionType | None:
    """The function itself, or the first that a class defines."""
    if isinstance(thing, FunctionType):
        return inspect.unwrap(thing)
    plain = (getattr(one, "__func__", getattr(one, "fget", one)) for one in vars(thing).values())
    functions = (inspect.unwrap(one) for one in plain if isinstance(one, FunctionType))
    return next((one for one in functions if one.__qualname__.startswith(f"{thing.__qualname__}.")), None)


def _definition(thing: Any) -> ast.stmt | None:
    """The statement that defines it; None for a class without functions of its own."""
    own = _function(thing)
    if own is None:
        return None
    code = own.__code__
    noun = "class" if isinstance(thing, type) else "function"
    said = f"{noun} {thing.__qualname__!r} has no source that could pin its images; put it in a file and import it"
    text = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(text)
    except SyntaxError:
        raise UserError(said) from None
    found = [one for one in tree.body if _spans(one, code.co_firstlineno)]
    if not found:
        raise UserError(said)
    if thing.__name__ == "<lambda>":
        alone = [n for n in ast.walk(found[0]) if isinstance(n, ast.Lambda) and n.lineno == code.co_firstlineno]
        return ast.Expr(alone[0]) if len(alone) == 1 else found[0]
    return found[0]


def _spans(one: ast.stmt, line: int) -> bool:
    first = min([one.lineno, *(decorator.lineno for decorator in getattr(one, "decorator_list", ()))])
    return first <= line <= (one.end_lineno or first)


def _used(node: ast.stmt, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of all that a definition reads of its module."""
    tree = ast.fix_missing_locations(ast.Module([node], type_ignores=[]))
    todo: list[CodeType] = [compile(tree, "definition", "exec", dont_inherit=True)]
    while todo:
        code = todo.pop()
        todo += [one for one in code.co_consts if isinstance(one, CodeType)]
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in names:
                yield step.argval, names[step.argval]


def _is_builtin(value: Any) -> bool:
    """Whether it is a function of a library that is not written in Python, such as `math.sqrt` or `numpy.mean`."""
    return callable(value) and hasattr(value, "__name__") and type(value).__module__ in ("builtins", "numpy")


def _attributes(thing: type) -> str:
    """A class that has no code: what it sets. Its parameters are in a method's identity."""
    plain = {name: value for name, value in vars(thing).items() if isinstance(value, str | int | float | frozenset)}
    return repr(sorted((name, _text(value)) for name, value in plain.items() if not name.startswith("__")))


def _written(value: Any, name: str, thing: Any) -> str:
    """A value as text; UserError for one that no text holds."""
    text = _text(value)
    if text is None:
        raise UserError(
            f"{thing.__qualname__!r} uses {name!r} of the notebook, whose content ({type(value).__name__}) cannot pin "
            "its images; make it a parameter, make it inside, or put both in a file and import that"
        )
    return text


def _text(value: Any) -> str | None:
    if isinstance(value, _PLAIN) or type(value).__module__ == "typing" or isinstance(value, GenericAlias | UnionType):
        return repr(value)
    if type(value).__module__ == "torch" and type(value).__name__ in _NAMED:
        return repr(value)
    if type(value) is dict:
        value = [part for item in value.items() for part in item]
    if isinstance(value, list | tuple | set | frozenset):
        inner = [_text(one) for one in value]
        if any(one is None for one in inner):
            return None
        ordered = sorted(map(str, inner)) if isinstance(value, set | frozenset) else map(str, inner)
        return f"{type(value).__name__}({', '.join(ordered)})"
    return None
