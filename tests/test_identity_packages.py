"""Code of other packages: what its digest follows, and a method that is broken on purpose, from end to end."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench
from suite_texts import ANY_PROMPTS, write_suite

from bench import identity

FROM_INVERSION = '''\
"""Inversion as another package has it."""

from bench.methods.inversion import Inversion

from {package}.parts import shift


class Moved(Inversion):
    """Inversion, moved."""

    about = "inversion, moved"

    def noise(self, s, x):
        return super().noise(s, x) + shift()
'''

PARTS = '''\
"""What the method adds."""


def shift():
    return 0.0
'''


def package(folder: Path, *, name: str = "moved_noise", version: str = "1.3") -> Path:
    """A package with the method `moved`, as pip leaves one in a folder of the path; returns its code's folder."""
    code = folder / name
    code.mkdir(parents=True, exist_ok=True)
    (code / "__init__.py").write_text("")
    (code / "method.py").write_text(FROM_INVERSION.format(package=name))
    (code / "parts.py").write_text(PARTS)
    (code / "unused.py").write_text("NOTHING = 1\n")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[bench.methods]\nmoved = {name}.method:Moved\n")
    return code


# Other packages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """What gives the method class of a package in a folder, as a new process would import it."""
    package(tmp_path, name="moved_here")
    monkeypatch.syspath_prepend(str(tmp_path))

    def fresh() -> Any:
        for name in [n for n in sys.modules if n.partition(".")[0] == "moved_here"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module("moved_here.method").Moved

    return fresh


def test_a_plugin_has_its_own_modules_and_ours_that_it_builds_on(moved: Callable[[], Any]) -> None:
    code = identity.of(moved())
    assert code is not None
    assert code.modules == ("bench.methods.inversion", "moved_here.method", "moved_here.parts")


@pytest.mark.parametrize(
    ("file", "text", "same"),
    [
        ("parts.py", PARTS.replace("0.0", "0.25"), False),
        ("parts.py", "# a comment\n" + PARTS.replace("What the", "All that the"), True),
        ("unused.py", "NOTHING = 2\n", True),
    ],
)
def test_a_plugin_s_digest_follows_what_it_imports(
    moved: Callable[[], Any], tmp_path: Path, file: str, text: str, same: bool
) -> None:
    before = identity.of(moved())
    (tmp_path / "moved_here" / file).write_text(text)
    after = identity.of(moved())
    assert before is not None
    assert after is not None
    assert (before.digest == after.digest) == same


DIGESTS = """
from bench import identity, registry
print(identity.loop().digest, *(identity.of(registry.get("methods", name)).digest for name in ("reseed", "inversion")))
"""


def digests_in(folder: Path) -> list[str]:
    """The digests of the loop and of two methods, by the copy of the package in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "BENCH_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_code_that_moves_within_the_project_is_the_same_code(tmp_path: Path) -> None:
    """A module that all images go through lies elsewhere, and all that import it say so."""
    shutil.copytree(
        Path(identity.__file__).parents[1], tmp_path / "bench", ignore=shutil.ignore_patterns("*.safetensors", "*.pyc")
    )
    before = digests_in(tmp_path)
    (tmp_path / "bench" / "sampling" / "noise.py").rename(tmp_path / "bench" / "runner" / "noise.py")
    for path in (tmp_path / "bench").rglob("*.py"):
        text = path.read_text().replace("bench.sampling.noise", "bench.runner.noise")
        path.write_text(text.replace("from bench.sampling import noise\n", "from bench.runner import noise\n"))
    after = digests_in(tmp_path)
    assert after == before
    drawing = tmp_path / "bench" / "runner" / "noise.py"
    drawing.write_text(drawing.read_text().replace("dtype=torch.float32", "dtype=torch.float64"))
    assert digests_in(tmp_path)[0] != before[0]


def test_code_in_a_zip_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path / "plain", name="moved_zip")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in (tmp_path / "plain" / "moved_zip").glob("*.py"):
            archive.write(path, f"moved_zip/{path.name}")
    monkeypatch.syspath_prepend(str(tmp_path / "all.zip"))
    code = identity.of(importlib.import_module("moved_zip.method").Moved)
    assert code is not None
    assert code.unread == ()
    assert "moved_zip.parts" in code.modules


def test_code_without_source_falls_back_to_the_version_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import py_compile

    code_folder = package(tmp_path, name="moved_bare")
    for path in code_folder.glob("*.py"):
        py_compile.compile(str(path), cfile=str(path.with_suffix(".pyc")))
        path.unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    code = identity.of(importlib.import_module("moved_bare.method").Moved)
    assert code is not None
    assert code.unread == ("moved_bare.method",)
    assert code.record()["without_source"] == ["moved_bare.method"]


# A method that is broken on purpose, from end to end ------------------------------------------------------------------


def ledger(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, bench_forked: Bench) -> dict[str, Any]:
    """A run of a method of another package, a baseline of it, and the method broken since: its version is as it was."""
    home = tmp_path_factory.mktemp("broken")
    code = package(home / "site")
    methods = ["standard", "moved"]
    file = write_suite(home / "moved.yaml", ANY_PROMPTS, methods=methods, controls=None)
    env = {"PYTHONPATH": str(home / "site")}
    options: list[object] = ["run", file, "--limit", 3, "--runs", home / "runs", "--cache", home / "cache"]
    first = bench_forked(*options, env=env)
    assert first.code == 0, first.err
    (folder,) = (home / "runs").iterdir()
    frozen = bench_forked("baseline", "freeze", folder, "--out", home / "base.json", env=env)
    assert frozen.code == 0, frozen.err
    before = dict(ledger(folder, "SELECT method || prompt_index, digest FROM cells JOIN images USING (job_id)"))
    (code / "parts.py").write_text(PARTS.replace("0.0", "0.25"))
    return {"options": options, "env": env, "folder": folder, "home": home, "before": before}


@pytest.mark.slow
def test_a_run_of_other_code_asks_what_to_do(broken: dict[str, Any], bench_forked: Bench) -> None:
    done = bench_forked(*broken["options"], env=broken["env"])
    assert done.code == 2
    assert "3 images of this run were made by other code: method moved has changed since" in done.error
    assert "--regenerate" in done.error
    assert "--keep-images" in done.error


@pytest.mark.slow
def test_kept_images_are_stated_by_report_and_provenance(broken: dict[str, Any], bench_forked: Bench) -> None:
    keep, base = (*broken["options"], "--keep-images"), ("--baseline", broken["home"] / "base.json")
    gates = ((*keep, "--gate", *base), ("gate", broken["folder"], *base))
    commands = (keep, broken["options"], *gates)
    done, again, *judged = (bench_forked(*one, env=broken["env"]) for one in commands)
    assert done.code == 0, done.err
    now = dict(ledger(broken["folder"], "SELECT method || prompt_index, digest FROM cells JOIN images USING (job_id)"))
    assert now == broken["before"]
    results = json.loads((broken["folder"] / "results.json").read_text())
    (note,) = [note for note in results["notes"] if "--keep-images" in note]
    assert note.startswith("3 of 6 images were made by other code")
    assert "method moved" in note
    assert note.partition("(--keep-images)")[0] in (broken["folder"] / "report.md").read_text()
    # Decided once: it resumes without a question.
    assert again.code == 0, again.err
    # A gate passes on images that are the baseline's own, and says whose they are; of the finished run too.
    for one in judged:
        assert one.code == 0, one.err
        assert f"note: {note}" in one.out + one.err


@pytest.mark.slow
def test_a_gate_sees_a_method_that_was_broken(broken: dict[str, Any], bench_forked: Bench) -> None:
    """As in the issue: noise + 0.25, `version` as it was; also with a cache that has the images of before."""
    base = broken["home"] / "base.json"
    judged = ("--gate", "--baseline", base, "--verbose")
    done = bench_forked(*broken["options"], *judged, env=broken["env"])
    said = done.out + done.err
    assert "exactly 0, the same 3 scores" in said, "the plain arm is what it was"
    assert "judged: 3 images new, 0 from the cache, 3 from this run folder" in said
    now = dict(ledger(broken["folder"], "SELECT method || prompt_index, digest FROM cells JOIN images USING (job_id)"))
    assert {name for name, digest in now.items() if digest != broken["before"][name]} == {
        name for name in now if name.startswith("moved")
    }
    moved = [line for line in said.splitlines() if "moved on shapes-clipscore" in line]
    assert moved
    assert not any("exactly 0" in line for line in moved)
    assert all("3 of 3 images changed" in line for line in moved)
    assert all(line.startswith(("changed, inconclusive: ", "FAILED: ")) for line in moved)
    results = json.loads((broken["folder"] / "results.json").read_text())
    recorded = results["run"]["provenance"]["code"]["method moved"]
    assert (recorded["distribution"], recorded["version"]) == ("moved_noise", "1.3")
    assert not any("--keep-images" in note for note in results["notes"])


@pytest.mark.slow
def test_a_plugin_s_error_is_named_as_the_plugin_s(tmp_path: Path, bench_forked: Bench) -> None:
    code = package(tmp_path / "site")
    text = (code / "method.py").read_text()
    (code / "method.py").write_text(text + "\n    def for_model(self, entry):\n        return entry.no_such_thing\n")
    line = len((code / "method.py").read_text().splitlines())
    file = write_suite(tmp_path / "moved.yaml", methods=["standard", "moved", "reseed"])
    done = bench_forked("plan", file, env={"PYTHONPATH": str(tmp_path / "site")})
    last = done.err.splitlines()[-1]
    assert done.code == 2
    assert last.startswith(f"error: {code / 'method.py'}:{line}: AttributeError: ")
    assert "code of the package moved_noise 1.3" in last
    assert "internal error" not in done.err
