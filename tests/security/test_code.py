"""No file executes code: how every loader of this project is called, seen in its syntax trees."""

from __future__ import annotations

import ast
from functools import cache
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
_WORKERS = "bench/runner/executors"
MESSAGES = [
    (f"{_WORKERS}/fleet.py", "pickle.loads(answer)"),  # a worker's, received from the process or actor started for it
    (f"{_WORKERS}/worker.py", "pickle.loads(answer)"),  # one line after it was pickled: can the driver read it?
    (f"{_WORKERS}/worker.py", "pickle.loads(message)"),  # the driver's, as the next three
    (f"{_WORKERS}/worker.py", "pickle.loads(packed_recipe)"),
    (f"{_WORKERS}/worker.py", "pickle.loads(setting)"),
    (f"{_WORKERS}/worker.py", "pickle.loads(task)"),
]
"""Messages between the processes of one run, over a pipe without a name or by Ray's calls of an actor. The driver has
started the worker, both are this program, and each could run anything without them. None comes from a file."""


@cache  # not when the file is read: every process of pytest-xdist reads it, and one of them runs its tests
def trees() -> dict[str, ast.Module]:
    """Syntax trees by file."""
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def dotted(function: ast.expr) -> str:
    """What is called, as `torch.load`; a `?` for what is no name, as in `?.recv` of `opened().recv`."""
    parts = []
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    parts.append(function.id if isinstance(function, ast.Name) else "?")
    return ".".join(reversed(parts))


@cache
def calls() -> list[tuple[str, ast.Call, str]]:
    """(file, call, function) of every call."""
    return [
        (file, node, dotted(node.func))
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def keyword(call: ast.Call, name: str, default: str = "") -> str:
    """What a call gives by this name, as it is written."""
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), default)


def test_nothing_that_runs_a_file_is_called() -> None:
    found = [(file, ast.unparse(call)) for file, call, name in calls() if name in NEVER]
    assert sorted(found) == MESSAGES
    assert {(file, name) for file, _, name in calls() if name in ("exec", "compile")} == RUNS


def test_no_worker_and_no_driver_listens() -> None:
    """Of multiprocessing's connections only pipes are used, and pickle's names are called by their module's."""
    taken = [
        (file, node.module, {name.name for name in node.names})
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("multiprocessing.connection", "pickle")
    ]
    assert {file for file, _, _ in taken} == {f"{_WORKERS}/local.py", f"{_WORKERS}/worker.py"}
    assert all(names <= {"Connection", "Pipe", "wait"} for _, _, names in taken)
    last = [(file, name.rpartition(".")[2]) for file, _, name in calls()]
    assert [file for file, name in last if name == "recv"] == [], "of a connection it unpickles; recv_bytes does not"
    listening = {file for file, name in last if name in ("bind", "listen", "Listener", "create_server")}
    assert listening == {"bench/serve/__init__.py"}, "which answers GET and HEAD, and unpickles nothing"


def test_tensors_are_read_as_tensors_alone() -> None:
    loads = [(file, call) for file, call, name in calls() if name == "torch.load"]
    assert len(loads) >= 5
    assert [(file, call.lineno) for file, call in loads if keyword(call, "weights_only") != "True"] == []
    arrays = [(file, call) for file, call, name in calls() if name == "np.load"]
    assert len(arrays) >= 3
    # NumPy's own default is False.
    assert [(file, call.lineno) for file, call in arrays if keyword(call, "allow_pickle", "False") != "False"] == []


@pytest.mark.parametrize("word", ["trust_remote_code", "custom_pipeline", "shell"])
def test_no_repositorys_code_and_no_shell_is_asked_for(word: str) -> None:
    asked = [(file, call.lineno) for file, call, _ in calls() if keyword(call, word, "False") not in ("False", "None")]
    assert asked == []
