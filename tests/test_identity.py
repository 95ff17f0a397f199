"""Identity follows the code: edited code makes new images and scores, edited words do not."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Bench, InTurn

from bench import identity, registry
from bench.identity.source import parse
from bench.methods.base import Chain, Method
from bench.runner.plan import make_plan
from bench.suite import Suite, load

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


# Source --------------------------------------------------------------------------------------------------------------


def digest(text: str, *, rows: bool = False) -> str:
    return parse(text.encode(), "one.two", package=False, rows=rows)[""].digest


BASE = "def f(x):\n    if x < 0:\n        raise ValueError(f'{x} is below 0')\n    return x + 1\n"


@pytest.mark.parametrize(
    "other",
    [
        "# why\ndef f(x):\n\n    if x < 0:  # no\n        raise ValueError(f'{x} is below 0')\n    return (x + 1)\n",
        '"""Words."""\n' + BASE.replace("def f(x):\n", 'def f(x):\n    """More words."""\n'),
        BASE.replace("is below 0", "must be at least 0"),
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n".replace(
            "from typing import TYPE_CHECKING\n", ""
        )
        + BASE,
    ],
    ids=["comments and space", "docstrings", "what an error says", "imports for types"],
)
def test_words_do_not_count(other: str) -> None:
    assert digest(other) == digest(BASE)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("x + 1", "x + 1.0"),
        BASE.replace("x < 0", "x <= 0"),
        BASE.replace("ValueError", "KeyError"),
        BASE.replace("return x + 1", "return 1 + x"),
        "import os\n" + BASE,
    ],
)
def test_code_counts(other: str) -> None:
    assert digest(other) != digest(BASE)


def test_a_row_of_a_catalogue_counts_for_what_it_is_asked_for_only() -> None:
    row = "add_plugin('models', 'a', ModelEntry('a', steps=20))\n"
    assert digest(BASE + row, rows=True) == digest(BASE, rows=True)
    assert digest(BASE + row) != digest(BASE)


def test_the_digest_is_the_same_on_every_version_of_python() -> None:
    """Frozen: job ids of one commit are the same on another machine, whatever Python it has."""
    assert digest(BASE) == "64777853ceb4362c"


# What counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    ["bench.sampling.noise", "bench.sampling.session", "bench.sampling.schedule", "bench.methods.inversion",
     "bench.models.sdxl", "bench.models.pipeline", "bench.samplers.diffusers_schedulers", "bench.metrics.clipscore",
     "bench.metrics.pixels",
     "bench.shapes.detector", "bench.shapes.scorers", "npnet.network.model", "npnet.network.blocks", "npnet.method"],
)  # fmt: skip
def test_these_decide_pixels_or_scores(module: str) -> None:
    assert identity.counts(module)


@pytest.mark.parametrize(
    "module",
    ["bench.errors", "bench.cli.make", "bench.report.html", "bench.suite", "bench.runner.plan", "bench.store",
     "bench.job.stages", "bench.gate.against", "bench.stats", "bench.registry", "bench.sampling.meter",
     "bench.models.references",
     "bench.shapes.training", "bench.shapes.plugin", "npnet.training.train", "npnet.pairs.collect", "npnet.cli",
     "npnet.teachers.base", "npnet.network.convert"],
)  # fmt: skip
def test_these_do_not(module: str) -> None:
    assert not identity.counts(module)


def test_everything_that_images_go_through_is_there() -> None:
    parts = set(identity.loop().modules)
    assert {*identity.LOOP} <= parts, "a part of the loop has another name now: say so in bench/identity/deciding.py"
    assert {"bench.sampling.schedule", "bench.sampling.records"} <= parts
    for part in (name for name in identity.LOOP if ":" in name):
        module, _, name = part.partition(":")
        found: Any = importlib.import_module(module)
        for attribute in name.split("."):
            found = getattr(found, attribute)


ASIDE = {
    "bench.runner.faults:described": "words",
    "bench.runner.faults:fail_not_finite": "whether an image fails, not its pixels",
    "bench.runner.limits:limited": "whether the images of an arm fail, not their pixels",
    "bench.runner.faults:fault_of": "whether the images of an arm fail, not their pixels",
    "bench.runner.engine:Engine.scorer": "the digests of scorers are in the ids of what they are asked for",
    "bench.methods.nested:nested": "costs",
    "bench.registry:get": "it finds plugins, each of which has a digest",
    "bench.runner.score:_summed": "costs",
    "bench.store.keys:prompt_key": "by what a score is found",
}
"""What the code that images go through calls, and why it does not count."""


def called(part: str) -> set[str]:
    """Our functions, and methods of the same class, that a definition names, as `module:definition`."""
    name, _, definition = part.partition(":")
    module: Any = importlib.import_module(name)
    thing: Any = module
    for attribute in definition.split("."):
        thing = getattr(thing, attribute)
    owner = getattr(module, definition.partition(".")[0])
    found: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(thing)))):
        held: Any = None
        if isinstance(node, ast.Name):
            held = getattr(module, node.id, None)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of = getattr(module, node.value.id, None)
            of = owner if node.value.id == "self" else of if inspect.ismodule(of) else None
            held = getattr(of, node.attr, None)
        if inspect.isfunction(held) and held.__module__.startswith(("bench.", "npnet.")):
            found.add(f"{held.__module__}:{held.__qualname__}")
    return found


def test_nothing_that_images_go_through_calls_is_left_out() -> None:
    """What is neither digested nor stated above as of no effect on pixels and choices fails here."""
    parts = {name for name in identity.LOOP if ":" in name and "Family" not in name}
    begin = {
        "bench.runner.generator:Generator._sample",
        "bench.runner.generator:_png",
        "bench.runner.engine:Engine._embed",
    }
    assert begin <= parts
    needed = set().union(*map(called, parts | begin))
    assert {"bench.runner.engine:Engine._remember", "bench.runner.faults:checked"} <= needed
    covered = {name for name in needed if {name, name.partition(":")[0]} & {*identity.loop().modules}}
    assert needed - covered == {*ASIDE}


def test_the_hooks_that_a_chain_asks_are_digested() -> None:
    """`Chain` asks each link whether it has a hook; what `Method` answers decides which links are heard."""
    asked = {node.func.attr for node in ast.walk(ast.parse(inspect.getsource(Chain)))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
             and inspect.isfunction(getattr(Method, node.func.attr, None))}  # fmt: skip
    whether = {name for name in asked if not [*inspect.signature(getattr(Method, name)).parameters][1:]}
    plain = {"adapters", "controls", "learnt_from", "metrics", "optimises", "requires"}
    """Their answers are in the job id, or decide nothing."""
    assert {f"bench.methods.base:Method.{name}" for name in whether - plain} <= {*identity.LOOP}
    assert {"wraps_step", "sets_guidance", "adds_residuals", "reads_unconditional"} <= whether


def test_a_default_of_npnet_s_architecture_is_in_its_method_s_digest() -> None:
    code = identity.of(registry.get("methods", "npnet"))
    assert code is not None
    assert {"npnet.network.architecture", "npnet.network.model"} <= {*code.modules}


@pytest.mark.parametrize("kind", ["methods", "samplers"])
def test_every_plugin_of_ours_has_code(kind: str) -> None:
    for name in registry.names(kind):
        code = identity.of(registry.get(kind, name))
        assert code is not None
        assert code.modules
        assert (code.distribution, code.unread) == ("noisebench", ()), name


def test_a_metric_has_the_code_of_its_own_scorer() -> None:
    """Also where the catalogue makes its row by a function that all scorers share."""
    code = registry.get("metrics", "pickscore").code()
    assert {"bench.metrics.pickscore", "bench.metrics.real", "bench.metrics.pixels"} <= {*code.modules}
    assert "bench.metrics.hpsv2" not in code.modules
    assert "bench.metrics.distances" in registry.get("metrics", "fid").code().modules
    assert "bench.shapes.detector" in registry.get("metrics", "shapes-geneval").code().modules
    assert "bench.shapes.detector" not in registry.get("metrics", "shapes-clipscore").code().modules


def test_a_sampler_has_its_own_row_s_code_alone() -> None:
    ddim, heun = (identity.of(registry.get("samplers", name)) for name in ("ddim", "heun"))
    assert ddim is not None
    assert heun is not None
    assert not any("_distinct" in name for name in ddim.modules)
    assert any("_distinct" in name for name in heun.modules)


def test_votes_of_people_have_no_code() -> None:
    entry = registry.get("metrics", "human")
    assert entry.digest() == entry.identify()


def test_a_plan_is_hardly_slower_for_it() -> None:
    """Timed by what is counted: a second plan parses nothing."""
    identity.of(registry.get("methods", "inversion"))
    began = time.perf_counter()
    for _ in range(100):
        identity.of(registry.get("methods", "inversion"))
    assert time.perf_counter() - began < 2.0


# Other packages ------------------------------------------------------------------------------------------------------


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


def test_the_same_name_from_another_module_is_another_thing() -> None:
    """Both modules count already; which of the two is imported decides."""
    here, there = "from bench.metrics.pixels import f\n" + BASE, "from bench.metrics.towers import f\n" + BASE
    one, other = (parse(text.encode(), "bench.metrics.one", package=False, rows=True)[""] for text in (here, there))
    assert one.digest == other.digest
    assert [*identity.imported(one)] != [*identity.imported(other)]


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


# Ids -----------------------------------------------------------------------------------------------------------------


def suite(tmp_path: Path, text: str = TINY) -> Suite:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return load(path, limit=1)


def test_two_adapters_of_the_same_weights_make_two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from bench.models.sdxl import SDXL

    class Other(SDXL):
        """An adapter of another module."""

    module = sys.modules[__name__]
    monkeypatch.setattr(module, "Other", Other, raising=False)
    entry = registry.get("models", "shapes-sdxl")
    other = replace(entry, adapter=f"{__name__}:Other")
    plain = make_plan(suite(tmp_path))
    with registry.configured("models", {"shapes-sdxl": other}):
        theirs = make_plan(suite(tmp_path))
    assert not {*plain.jobs} & {*theirs.jobs}


# A method that is broken on purpose, from end to end ------------------------------------------------------------------


def ledger(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, bench_process: Bench) -> dict[str, Any]:
    """A run of a method of another package, a baseline of it, and the method broken since: its version is as it was."""
    home = tmp_path_factory.mktemp("broken")
    code = package(home / "site")
    file = home / "moved.yaml"
    text = TINY.replace("  - inversion\n", "  - moved\n").split("controls:")[0]
    best = "  - {use: best_of_n, name: best_of_2, n: 2, selection_metric: shapes-geneval}\n"
    text = text.replace(best + "  - reseed\n", "")
    text = text.replace("[shapes-geneval, shapes-clipscore]", "[shapes-clipscore]")
    file.write_text(text)
    env = {"PYTHONPATH": str(home / "site")}
    options: list[object] = ["run", file, "--limit", 3, "--runs", home / "runs", "--cache", home / "cache"]
    first = bench_process(*options, env=env)
    assert first.code == 0, first.err
    (folder,) = (home / "runs").iterdir()
    frozen = bench_process("baseline", "freeze", folder, "--out", home / "base.json", env=env)
    assert frozen.code == 0, frozen.err
    before = dict(ledger(folder, "SELECT method || prompt_index, digest FROM cells JOIN images USING (job_id)"))
    (code / "parts.py").write_text(PARTS.replace("0.0", "0.25"))
    return {"options": options, "env": env, "folder": folder, "home": home, "before": before}


@pytest.mark.slow
def test_a_run_of_other_code_asks_what_to_do(broken: dict[str, Any], bench_process: Bench) -> None:
    done = bench_process(*broken["options"], env=broken["env"])
    assert done.code == 2
    assert "3 images of this run were made by other code: method moved has changed since" in done.error
    assert "--regenerate" in done.error
    assert "--keep-images" in done.error


@pytest.mark.slow
def test_kept_images_are_stated_by_report_and_provenance(broken: dict[str, Any], bench_in_turn: InTurn) -> None:
    keep, base = (*broken["options"], "--keep-images"), ("--baseline", broken["home"] / "base.json")
    gates = ((*keep, "--gate", *base), ("gate", broken["folder"], *base))
    done, again, *judged = bench_in_turn(keep, broken["options"], *gates, env=broken["env"])
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
def test_a_gate_sees_a_method_that_was_broken(broken: dict[str, Any], bench_process: Bench) -> None:
    """As in the issue: noise + 0.25, `version` as it was; also with a cache that has the images of before."""
    base = broken["home"] / "base.json"
    done = bench_process(*broken["options"], "--gate", "--baseline", base, "--verbose", env=broken["env"])
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
def test_a_plugin_s_error_is_named_as_the_plugin_s(tmp_path: Path, bench_process: Bench) -> None:
    code = package(tmp_path / "site")
    text = (code / "method.py").read_text()
    (code / "method.py").write_text(text + "\n    def for_model(self, entry):\n        return entry.no_such_thing\n")
    line = len((code / "method.py").read_text().splitlines())
    file = tmp_path / "moved.yaml"
    file.write_text(TINY.replace("  - inversion\n", "  - moved\n"))
    done = bench_process("plan", file, env={"PYTHONPATH": str(tmp_path / "site")})
    last = done.err.splitlines()[-1]
    assert done.code == 2
    assert last.startswith(f"error: {code / 'method.py'}:{line}: AttributeError: ")
    assert "code of the package moved_noise 1.3" in last
    assert "internal error" not in done.err


def test_a_plugin_that_imports_from_an_old_place_has_the_digest_of_the_new_one() -> None:
    old, new = "from bench.noise import draw\n" + BASE, "from bench.sampling.noise import draw\n" + BASE
    one, other = (parse(text.encode(), "theirs", package=False, rows=False)[""] for text in (old, new))
    found = [*identity.imported(one)]
    assert found == [*identity.imported(other)]
    assert all(found)
    assert found, "a module that decides pixels counts by its old name, too"
