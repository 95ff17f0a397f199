"""No file executes code: how every loader of this project is called, seen in its syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bench
import npnet

ROOT = Path(bench.__file__).parents[1]
FILES = sorted([*Path(bench.__file__).parent.rglob("*.py"), *Path(npnet.__file__).parent.rglob("*.py")])
NEVER = {
    "eval", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.jit.load", "torch.hub.load",
    "joblib.load", "marshal.loads", "shelve.open", "pd.read_pickle", "yaml.load", "yaml.full_load", "yaml.unsafe_load",
    "shutil.unpack_archive", "tar.extractall", "tar.extract", "archive.extractall", "archive.extract",
}  # fmt: skip
"""What runs what is in a file, or writes where an archive says."""
RUNS = {("bench/plugins.py", "exec"), ("bench/plugins.py", "compile"), ("bench/identity/interactive.py", "compile")}
"""A plugin is code by its nature, and is run because the user names it; a notebook's cell is parsed."""


def calls() -> Iterator[tuple[str, int, str, dict[str, str]]]:
    """(file, line, function, its keywords) of every call."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
                yield file.relative_to(ROOT).as_posix(), node.lineno, ast.unparse(node.func), keywords


CALLS = list(calls())


def test_nothing_that_runs_a_file_is_called() -> None:
    found = [(file, line, name) for file, line, name, _ in CALLS if name in NEVER]
    assert found == []
    assert {(file, name) for file, _, name, _ in CALLS if name in ("exec", "compile")} == RUNS


def test_tensors_are_read_as_tensors_alone() -> None:
    loads = [(file, line, words) for file, line, name, words in CALLS if name == "torch.load"]
    assert len(loads) >= 5
    assert [(file, line) for file, line, words in loads if words.get("weights_only") != "True"] == []
    arrays = [(file, line, words) for file, line, name, words in CALLS if name == "np.load"]
    assert len(arrays) >= 3
    # NumPy's own default is False.
    assert [(file, line) for file, line, words in arrays if words.get("allow_pickle", "False") != "False"] == []


@pytest.mark.parametrize("word", ["trust_remote_code", "custom_pipeline", "shell"])
def test_no_repositorys_code_and_no_shell_is_asked_for(word: str) -> None:
    assert [(file, line) for file, line, _, words in CALLS if words.get(word, "False") not in ("False", "None")] == []
