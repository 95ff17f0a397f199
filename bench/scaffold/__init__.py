"""Working starts for something of one's own, as files: a method, a suite, a package of plugins.

Templates lie beside this file, with @name@, @Class@ and @package@ where the given name belongs. What is written runs
and passes its own test.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path

from bench import registry
from bench.errors import UserError
from bench.store import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
KINDS: Mapping[str, Mapping[str, str]] = {
    "method": {
        "method.py": "@name@.py",
        "method_suite.yaml": "@name@.yaml",
        "test_method.py": "test_@name@.py",
    },
    "suite": {"suite.yaml": "@name@.yaml"},
    "plugin": {
        "plugin/pyproject.toml": "@dist@/pyproject.toml",
        "plugin/README.md": "@dist@/README.md",
        "plugin/package.py": "@dist@/@package@/__init__.py",
        "method.py": "@dist@/@package@/method.py",
        "method_suite.yaml": "@dist@/suites/@name@.yaml",
        "plugin/test_plugin.py": "@dist@/tests/test_@name@.py",
    },
}
"""By kind: templates, and the files that they become."""
_NEXT = {
    "method": (
        "python -m bench run @name@.yaml --plugin @name@.py --limit 4",
        "python -m pytest test_@name@.py",
    ),
    "suite": ("python -m bench plan @name@.yaml", "python -m bench run @name@.yaml --twin --limit 4"),
    "plugin": (
        "pip install -e @dist@",
        "python -m bench run @dist@/suites/@name@.yaml --limit 4",
        "python -m pytest @dist@/tests",
    ),
}


def write(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the start of a `kind` below a folder, and return its files.

    UserError for a name that cannot be one, that a method has already, or where a file would be written over.
    """
    words = _words(kind, name)
    files = {folder / filled(place, words): template for template, place in KINDS[kind].items()}
    if there := [path for path in files if path.exists()]:
        raise UserError(f"{there[0]}: is there already, and nothing is written over; take another name or --to")
    for path, template in files.items():
        text = filled((TEMPLATES / f"{template}.in").read_text(encoding="utf-8"), words)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another --to") from error
    return list(files)


def following(kind: str, name: str) -> list[str]:
    """Commands that try what was written, to be given in its folder."""
    words = _words(kind, name, known=False)
    return [filled(line, words) for line in _NEXT[kind]]


def filled(text: str, words: Mapping[str, str]) -> str:
    """A template with its words in their places."""
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def _words(kind: str, name: str, *, known: bool = True) -> dict[str, str]:
    """What stands in a template's places."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(module):
        raise UserError(
            f"{name!r}: no name for a {kind}; expected small letters, digits and _ after a letter, such as my_{kind}"
        )
    if known and kind != "suite" and module in registry.names("methods"):
        owner = registry.source("methods", module)
        raise UserError(f"{name!r}: a method of {owner} has this name already; take another")
    # A package's method is named by its entry point, a file's by what registers it.
    registers = kind == "method"
    return {
        "register_import": "from bench.registry import register\n" if registers else "",
        "register": '@register("methods", "@name@")\n' if registers else "",
        "name": module,
        "Class": "".join(part.capitalize() for part in module.split("_") if part),
        "package": f"bench_{module}",
        "dist": f"bench-{module.replace('_', '-')}",
    }
