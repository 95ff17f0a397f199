"""What the scripts of this folder share: public code read from a checkout, and vectors written with their origin.

Nothing of the public code is kept here. A script names the repository, the commit and the file; the file is read from
the checkout that the user names, and its git blob id says whether it is the one that was meant.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import sys
import types
import zlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

VECTORS = Path(__file__).parent / "vectors"


@dataclass(frozen=True)
class Source:
    """One file of public code."""

    repository: str
    commit: str
    path: str
    """Where the file lies in the repository."""
    blob: str
    """The file's git blob id at that commit."""
    licence: str

    def read(self, checkout: Path) -> str:
        """The file's text; SystemExit where it is missing or is another version."""
        path = checkout / self.path
        if not path.is_file():
            raise SystemExit(f"{path}: not there; --checkout wants {self.repository} at {self.commit[:12]}")
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if blob != self.blob:
            raise SystemExit(f"{path}: blob {blob[:12]}, expected {self.blob[:12]}: check out {self.commit[:12]}")
        return content.decode()


def arguments(description: str | None, *, checkout: str | None = None, argv: list[str] | None = None) -> Any:
    """The command line that every script has; `checkout` is the help text of --checkout where one is needed."""
    parser = argparse.ArgumentParser(description=description)
    if checkout:
        parser.add_argument("--checkout", type=Path, required=True, metavar="DIR", help=checkout)
    parser.add_argument("--seed", type=int, default=0, help="another number gives other networks and inputs")
    parser.add_argument("--out", type=Path, default=VECTORS, metavar="DIR", help="where the .npz files go")
    return parser.parse_args(argv)


def module(text: str, name: str) -> types.ModuleType:
    """The text as a module. Names that today's libraries no longer have are given as empty classes while it loads."""
    placed: list[tuple[types.ModuleType, str]] = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            continue
        try:
            found = importlib.import_module(node.module)
        except ImportError:
            continue
        for alias in node.names:
            if alias.name != "*" and not hasattr(found, alias.name):
                setattr(found, alias.name, type(alias.name, (), {}))
                placed.append((found, alias.name))
    made = types.ModuleType(name)
    sys.modules[name] = made
    try:
        exec(compile(text, name, "exec"), made.__dict__)
    finally:
        for found, missing in placed:
            delattr(found, missing)
    return made


def branch(text: str, *, holding: str) -> types.CodeType:
    """The innermost `if` body that assigns the name `holding`, ready to be executed by itself."""
    best: list[ast.stmt] | None = None
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.If):
            continue
        for body in (node.body, node.orelse):
            if any(isinstance(s, ast.Assign) and _names(s, holding) for s in body):
                best = body
    if best is None:
        raise SystemExit(f"no branch assigns {holding!r}: the public file is laid out in another way")
    return compile(ast.Module(best, type_ignores=[]), holding, "exec")


def _names(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)


def generator(case: str, seed: int) -> np.random.Generator:
    """A generator that follows from the case's name and the seed alone."""
    return np.random.default_rng(zlib.crc32(f"{case}/{seed}".encode()))


def write(folder: Path, name: str, origin: dict[str, Any], arrays: dict[str, Any]) -> Path:
    """NAME.npz with the arrays and, as JSON text in `origin`, where they come from; says what it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npz"
    kept = {key: _array(value) for key, value in arrays.items()}
    np.savez_compressed(path, origin=np.array(json.dumps({**origin, **versions()}, sort_keys=True)), **kept)
    print(f"{path} {path.stat().st_size:,} bytes")
    return path


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def versions() -> dict[str, str]:
    """The libraries that the public code ran with; the environment of HPSv2's package has no diffusers."""
    import torch

    found = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    with suppress(PackageNotFoundError):
        found["diffusers"] = version("diffusers")
    return found


def cited(source: Source) -> dict[str, Any]:
    """The part of `origin` that names the public file."""
    return {
        "repository": source.repository,
        "commit": source.commit,
        "file": source.path,
        "blob": source.blob,
        "licence": source.licence,
    }


def diffusers_source(name: str) -> dict[str, Any]:
    """The part of `origin` that names a file of the installed diffusers."""
    import diffusers

    return {
        "repository": "huggingface/diffusers",
        "commit": f"v{diffusers.__version__}",
        "file": f"src/diffusers/{name}",
        "licence": "Apache-2.0",
    }
