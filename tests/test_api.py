"""The Python API: suites and objects in, frames out; what a notebook defines is pinned by its source."""

from __future__ import annotations

import json
import linecache
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import Bench, call
from conftest import Run as Finished

import bench as package
from bench import identity, registry
from bench.api import Run
from bench.api.objects import suite_of
from bench.errors import UserError

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "api.md").read_text()
SUITE: dict[str, Any] = {
    "name": "api",
    "models": ["shapes-sdxl"],
    "prompts": ["shapes-pickapic"],
    "samplers": ["ddim"],
    "steps": 2,
    "baseline": "standard",
    "methods": ["standard", "inversion", "reseed"],
    "metrics": ["shapes-clipscore", "shapes-geneval"],
    "controls": {"reseed": "zero"},
    "gates": [{"metric": "shapes-clipscore", "method": "reseed", "delta": -9.0, "prompts": "shapes-pickapic"}],
}
SHIFTED = """\
from bench.methods.base import Method

COLUMNS = 1


def shift(x, by):
    return x.roll(by * COLUMNS, dims=-1)


class Shifted(Method):
    by: int = 1

    def noise(self, s, x):
        return shift(x, self.by)
"""
BRIGHTER = """\
from bench.metrics.base import MetricEntry, Value


class Brighter:
    def score_pairs(self, baseline_images, method_images, prompts):
        return [Value(float(m.mean() > b.mean())) for b, m in zip(baseline_images, method_images)]


brighter = MetricEntry("brighter", "Brighter", "preference", lambda device: Brighter(), lambda: "1", kind="pair")
"""


class Notebook:
    """A module `__main__` without a file, whose cells have their source where tracebacks look it up."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.module = ModuleType("__main__")
        self.cells = 0
        patch.setitem(sys.modules, "__main__", self.module)

    def cell(self, text: str) -> None:
        self.cells += 1
        name = f"<cell {self.cells} of {id(self)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        self.run(text, name)

    def run(self, text: str, name: str) -> None:
        exec(compile(text, name, "exec", dont_inherit=True), vars(self.module))

    def digest(self, name: str) -> str:
        """Of the code of a class or function, as job ids have it."""
        code = identity.of(vars(self.module)[name])
        assert code is not None
        return code.digest

    def __getitem__(self, name: str) -> Any:
        return vars(self.module)[name]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    yield Notebook(monkeypatch)
    registry.forget(registry.NOTEBOOK)


Made = tuple[Run, Notebook]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[Made]:
    """One run of objects of a notebook: a method twice, a chain, prompts in a list, a metric of pairs."""
    with pytest.MonkeyPatch.context() as patch:
        book = Notebook(patch)
        book.cell("import bench")
        book.cell(SHIFTED)
        book.cell(BRIGHTER)
        book.module.SUITE = SUITE  # type: ignore[attr-defined]
        book.module.RUNS = tmp_path_factory.mktemp("api")  # type: ignore[attr-defined]
        book.cell("""run = bench.run(
    SUITE,
    methods={"one": Shifted(), "two": [Shifted(by=2), "reseed"], "inversion": "inversion"},
    prompts=["a <b>red</b> circle", {"prompt": "two blue squares", "category": "counting"}],
    metrics=["shapes-clipscore", brighter],
    runs=RUNS,
    device="cpu",
)""")
    yield book["run"], book
    registry.forget(registry.NOTEBOOK)


# Importing ----------------------------------------------------------------------------------------------------------


def imported(code: str) -> set[str]:
    """The modules that code imports in a process of its own."""
    script = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_almost_nothing(one_thread: None) -> None:
    found = imported("import bench")
    assert {name for name in found if name.partition(".")[0] == "bench"} == {"bench"}
    assert len(found) <= 3, found


def test_the_api_loads_neither_torch_nor_pandas_until_it_is_asked(one_thread: None, finished: Finished) -> None:
    heavy = {"torch", "pandas", "diffusers", "transformers", "matplotlib"}
    code = f"import bench; run = bench.read({str(finished.folder)!r}); run.headline"
    assert not heavy & imported(code)
    assert "pandas" in imported(f"{code}; run.comparisons")


def test_the_package_has_what_it_names_and_nothing_else() -> None:
    assert {"run", "read", "Run"} <= {*dir(package)}
    assert package.run is sys.modules["bench.api"].run
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


# Frames -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["comparisons", "scores", "images", "costs"])
def test_every_column_is_documented_and_every_number_has_a_unit(made: Made, name: str) -> None:
    frame = getattr(made[0], name)
    assert frame.attrs["run"] == made[0].folder.name
    assert all(frame.attrs["about"][column] for column in frame.columns)
    numbers = {c for c in frame.columns if frame[c].dtype.kind in "if"}
    assert numbers == set(frame.attrs["units"])
    row = next(line for line in DOCS.splitlines() if line.startswith(f"| `run.{name}`"))
    listed = [word for span in re.findall(r"`([a-z_ ]+)`", row.split("|")[3]) for word in span.split()]
    plain = [c for c in frame.columns if not re.search(r"_ratio(_low|_high)?$", c)]
    assert [word for word in listed if not word.startswith("_ratio")] == plain


def test_deltas_are_those_of_the_scores(made: Made) -> None:
    """The mean over prompts of method minus baseline, taken from the scores by hand, is the comparison's delta."""
    run = made[0]
    table = run.scores.pivot_table(index="index", columns=["metric", "method"], values="value")
    pooled = run.comparisons[run.comparisons["prompts"] == "*"]
    assert len(pooled) == 6  # three methods, two metrics
    for row in pooled.itertuples():
        expected = (table[row.metric][row.method] - table[row.metric]["standard"]).mean()
        assert row.delta == pytest.approx(expected, abs=1e-12)


def test_a_preference_is_two_p_minus_one_and_the_baselines_own_is_zero(made: Made) -> None:
    run = made[0]
    files = run.images.set_index(["index", "method"])["file"]
    brightness = {place: np.asarray(_open(file)).mean() for place, file in files.items()}
    values = run.scores[run.scores["metric"] == "brighter"].set_index(["index", "method"])["value"]
    assert len(values) == 8
    for (index, method), value in values.items():
        wins = brightness[index, method] > brightness[index, "standard"]
        assert value == (0 if method == "standard" else 2 * wins - 1)


def _open(file: str) -> Any:
    from PIL import Image

    return Image.open(file)


def test_costs_are_those_that_the_arms_have(made: Made) -> None:
    """Inversion makes two calls beside the sampler's two."""
    costs = made[0].costs.set_index(["prompts", "method"]).loc["*"]
    assert costs.loc["standard", "calls_total"] == 2
    assert costs.loc["inversion", "calls_total"] == 4
    assert costs.loc["inversion", "calls_total_ratio"] == 2
    assert np.isnan(costs.loc["standard", "calls_total_ratio"])


def test_a_run_of_the_command_line_is_read(finished: Finished) -> None:
    run = package.read(str(finished.folder))
    assert len(run.images) == len(run.results.arms) / 2 * 4
    assert all(Path(file).is_file() for file in run.images["file"])
    stored = finished.scores("shapes-geneval")
    ours = run.scores[run.scores["metric"] == "shapes-geneval"]
    assert ours.set_index(["method", "index"])["value"].to_dict() == stored
    assert run.failed == {} == run.unscored


def test_a_report_of_several_runs_is_read_through_all_of_them(
    made: Made, finished: Finished, bench: Bench, tmp_path: Path
) -> None:
    copy = finished.copy(tmp_path)
    other = bench("run", copy.suite, "--limit", 2, "--runs", copy.runs, "--device", "cpu", "--method", "inversion")
    assert other.code == 0, other.err
    done = bench("report", *sorted(copy.runs.glob("tiny-*")), "--out", tmp_path / "merged")
    assert done.code == 0, done.err
    run = package.read(tmp_path / "merged" / "results.json")
    assert len(run.results.runs) == 2
    assert set(run.images["run"]) == {path.name for path in copy.runs.glob("tiny-*")} == set(run.scores["run"])


@pytest.mark.parametrize("given", ["nowhere", "."])
def test_what_is_no_run_is_said(given: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run there"):
        package.read(tmp_path / given)


# Showing ------------------------------------------------------------------------------------------------------------


def test_the_images_of_a_prompt_stand_side_by_side(made: Made, tmp_path: Path) -> None:
    shown = made[0].show(0, methods=["standard", "two"])
    assert [*shown.files] == ["standard", "two"]
    whole = _open(str(shown.save(tmp_path / "pair.png")))
    sides = [_open(str(path)).size for path in shown.files.values()]
    assert whole.size == (sum(w for w, _ in sides), sides[0][1])
    left = np.asarray(whole)[:, : sides[0][0]]
    assert np.array_equal(left, np.asarray(_open(str(shown.files["standard"]))))
    assert "shapes-clipscore" in shown.notes["two"]


def test_a_prompt_is_text_and_no_markup_in_a_notebook(made: Made) -> None:
    for text in (made[0].show(0)._repr_html_(), made[0]._repr_html_()):
        assert "<b>red</b>" not in text
        assert "<script" not in text
    assert "&lt;b&gt;red" in made[0].show(0)._repr_html_()


def test_the_summary_says_what_the_report_says(made: Made) -> None:
    run = made[0]
    text = run._repr_html_()
    assert run.headline in text.replace("&#39;", "'")
    assert all(method in text for method in ("standard", "one", "two", "inversion"))
    assert run.id in repr(run)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"prompt": 7}, "no index 7"), ({"methods": ["tow"]}, "no method 'tow'"), ({"seed": 5}, "no seed 5"),
     ({"sampler": "euler"}, "no sampler 'euler'"), ({"colour": 1}, "unknown 'colour'")],
)  # fmt: skip
def test_a_place_that_the_run_lacks_is_said(made: Made, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        made[0].show(**asked)


# Objects ------------------------------------------------------------------------------------------------------------


def test_objects_are_the_suite_that_they_would_be_in_a_file(made: Made) -> None:
    run = made[0]
    document = json.loads(json.dumps(run.results.document()))
    assert {arm["method"] for arm in document["arms"]} == {"standard", "one", "two", "inversion"}
    text = (run.folder / "suite.yaml").read_text()
    assert re.search(r"use: shifted\n\s+by: 2", text)
    assert run.images["category"].unique().tolist() == ["", "counting"]
    assert run.results.suite.command is not None
    assert run.results.suite.command.startswith("bench.run({...}, methods={'one': Shifted(by=1)")


def test_what_is_there_is_not_made_again(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    run, book = made
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "images").iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", book.module)
        book.cell("""again = bench.run(
    SUITE,
    methods={"one": Shifted(), "two": [Shifted(by=2), "reseed"], "inversion": "inversion"},
    prompts=["a <b>red</b> circle", {"prompt": "two blue squares", "category": "counting"}],
    metrics=["shapes-clipscore", brighter],
    runs=RUNS,
    device="cpu",
)""")
    assert book["again"].folder == run.folder
    assert {path: path.stat().st_mtime_ns for path in (run.folder / "images").iterdir()} == before
    assert "generate:" not in capfd.readouterr().err


def test_a_part_of_a_run_is_made_in_a_folder_of_its_own(tmp_path: Path, one_thread: None) -> None:
    given = {**SUITE, "methods": ["standard"], "controls": {}, "gates": []}
    part = package.run(given, limit=2, shard=(2, 2), batch_size=1, runs=tmp_path, cache=False, device="cpu")
    assert part.id.endswith("-shard-2-of-2")
    assert part.images["index"].unique().tolist() == [1]
    assert any("This is shard 2 of 2 of a run" in note for note in part.results.notes)
    assert "shard 1 of 2 of api" in call("merge", part.folder).error


def test_an_object_takes_the_place_of_the_suites_method_of_its_label() -> None:
    from bench.methods.inversion import Inversion

    suite = suite_of(SUITE, methods=[Inversion(inversion_guidance=3.0)])
    assert [m.label for m in suite.methods] == ["standard", "inversion"]
    assert suite.methods[1].chain[0].params["inversion_guidance"] == 3.0
    assert suite.controls == {}
    assert suite.gates == ()


def test_names_keep_what_the_suite_has_and_add_what_it_lacks() -> None:
    suite = suite_of(SUITE, methods=["reseed", "ays"], metrics=["shapes-preference", "shapes-geneval"], limit=3)
    assert [m.label for m in suite.methods] == ["standard", "reseed", "ays"]
    assert suite.metrics == ("shapes-geneval", "shapes-preference")
    assert suite.limit == 3
    assert suite_of(SUITE).id == suite_of(dict(reversed(SUITE.items()))).id


def test_other_prompts_leave_out_the_gates_of_those_that_they_replace() -> None:
    assert len(suite_of(SUITE).gates) == 1
    suite = suite_of(SUITE, prompts="shapes-drawbench")
    assert suite.prompts == ("shapes-drawbench",)
    assert suite.gates == ()


def test_a_file_and_a_mapping_of_it_are_one_suite(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "api.yaml").write_text(yaml.safe_dump(SUITE))
    assert suite_of(tmp_path / "api.yaml").id == suite_of(SUITE).id
    twin = suite_of(ROOT / "suites" / "sdxl_main.yaml", twin=True, limit=2, overrides={"steps": 3})
    assert twin.twin
    assert twin.steps == (3,)


def test_objects_run_as_they_are_beside_stand_ins(notebook: Notebook) -> None:
    notebook.cell(SHIFTED)
    notebook.cell(BRIGHTER)
    suite = suite_of(
        ROOT / "suites" / "sdxl_main.yaml", twin=True, methods=[notebook["Shifted"]()], prompts=["a red circle"],
        metrics=["clipscore", notebook["brighter"]],
    )  # fmt: skip
    assert suite.models == ("shapes-sdxl",)
    assert suite.metrics == ("shapes-clipscore", "brighter")
    assert [m.label for m in suite.methods] == ["standard", "shifted"]
    assert suite.prompts[0].startswith("prompts-")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"suite": {**SUITE, "methods": ["standard", "inverson"]}}, r"suite\['methods'\]\[1\]: .*'inversion'"),
        ({"suite": {**SUITE, "stpes": 3}}, r"suite\['stpes'\]: unknown key"),
        ({"suite": {**SUITE, "seeds": [object()]}}, r"suite\['seeds'\]\[0\]: expected text, a number"),
        ({"suite": "nowhere.yaml"}, "nowhere.yaml: no such file"),
        ({"methods": ["inverson"]}, r"methods\[0\]: .*'inversion'"),
        ({"methods": [3]}, "methods: expected a Method"),
        ({"methods": "inversion"}, r"methods: expected a list.*\['inversion'\]"),
        ({"methods": ["inversion"], "overrides": {"baseline": "reseed2"}}, "reseed2"),
        ({"prompts": []}, "empty list"),
        ({"prompts": ["a cat", "a cat"]}, r"prompts\[1\]: the same prompt as number 0"),
        ({"prompts": ["shapes-drawbench"]}, "is the name of a prompt set"),
        ({"prompts": [{"promt": "a cat"}]}, r"prompts\[0\]: .*'promt'"),
        ({"prompts": {"mine": [7]}}, r"prompts\['mine'\]\[0\]: expected text"),
        ({"metrics": [7]}, "metrics: expected a name"),
        ({"metrics": ["clipscroe"]}, "clipscore"),
        ({"limit": 0}, "limit"),
        ({"shard": (0, 4)}, r"shard=\(0, 4\): expected \(i, n\) with i from 1 to n, such as \(1, 8\)"),
        ({"shard": (5, 4)}, "expected .i, n. with i from 1 to n"),
        ({"shard": "1/4"}, "shard='1/4': expected"),
        (
            {"shard": (1, 4), "batch_size": "auto", "device": "cpu", "limit": 1},
            "shard= 1/4: batches of 50 images leave",
        ),
        ({"plugins": ["nowhere.py"]}, "nowhere.py: no such file"),
    ],
)
def test_bad_input_is_one_clear_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as error:
        package.run(**{"suite": SUITE, "runs": tmp_path, **change})
    assert len(str(error.value).splitlines()) == 1
    assert error.value.__suppress_context__
    assert not [*tmp_path.iterdir()]


def test_a_method_whose_parameters_cannot_be_written_down_is_refused(notebook: Notebook) -> None:
    notebook.cell(
        SHIFTED + "\n\nclass Called(Method):\n    name: str = 'a'\n\n    def noise(self, s, x):\n        return x"
    )
    with pytest.raises(UserError, match="cannot be called 'name'"):
        suite_of(SUITE, methods=[notebook["Called"]()])
    notebook.cell("class Odd(Shifted):\n    how: object = None")
    with pytest.raises(UserError, match="cannot be written down"):
        suite_of(SUITE, methods=[notebook["Odd"](how=object())])


# What a notebook defines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "changes"),
    [
        (SHIFTED.replace("    by: int", "    # words\n    by: int"), False),
        (SHIFTED + "\n\nUNUSED = 3\n", False),
        ("COLUMNS = 1\nother = 2", False),
        ("COLUMNS = 2", True),
        ("def shift(x, by):\n    return x.roll(-by * COLUMNS, dims=-1)", True),
        (SHIFTED.replace("shift(x, self.by)", "shift(x, self.by + 1)"), True),
    ],
)
def test_a_class_counts_with_what_it_uses_and_with_nothing_else(notebook: Notebook, cell: str, changes: bool) -> None:
    notebook.cell(SHIFTED)
    before = notebook.digest("Shifted")
    notebook.cell(cell)
    assert (notebook.digest("Shifted") != before) == changes


def test_what_it_inherits_from_its_own_notebook_counts_too(notebook: Notebook) -> None:
    notebook.cell(SHIFTED)
    child = "class Twice(Shifted):\n    def noise(self, s, x):\n        return super().noise(s, super().noise(s, x))"
    notebook.cell(child)
    before = notebook.digest("Twice")
    notebook.cell(SHIFTED.replace("shift(x, self.by)", "shift(x, -self.by)"))
    notebook.cell(child)
    assert notebook.digest("Twice") != before


def test_a_module_beside_the_notebook_counts(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside_api.py").write_text("def turned(x):\n    return -x\n")
    notebook.cell(
        "import beside_api\nfrom math import sqrt\nfrom bench.methods.base import Method\n\n\nclass Turned(Method):\n"
        "    def noise(self, s, x):\n        return beside_api.turned(x) * sqrt(1.0)"
    )
    before = notebook.digest("Turned")
    (tmp_path / "beside_api.py").write_text("def turned(x):\n    return 2 * -x / 2\n")
    assert notebook.digest("Turned") != before


def test_a_scorer_of_a_notebook_is_in_its_metrics_digest(notebook: Notebook) -> None:
    notebook.cell(BRIGHTER)
    before = notebook["brighter"].digest()
    notebook.cell(BRIGHTER.replace("m.mean() > b.mean()", "m.mean() >= b.mean()"))
    assert notebook["brighter"].digest() != before


def test_a_class_without_source_is_refused(notebook: Notebook) -> None:
    notebook.run(SHIFTED, "<stdin>")
    with pytest.raises(UserError, match=r"'Shifted' has no source.*put it in a file"):
        notebook.digest("Shifted")


def test_a_value_that_no_text_holds_is_refused(notebook: Notebook) -> None:
    notebook.cell("import numpy as np\nWEIGHTS = np.ones(3)")
    notebook.cell(SHIFTED.replace("shift(x, self.by)", "x * WEIGHTS.mean()"))
    with pytest.raises(UserError, match=r"'WEIGHTS'.*\(ndarray\).*make it a parameter"):
        notebook.digest("Shifted")


def test_a_name_of_a_package_stays_that_packages(notebook: Notebook) -> None:
    notebook.cell(SHIFTED.replace("Shifted", "Inversion"))
    with pytest.raises(UserError, match="two methods are named 'inversion'"):
        suite_of(SUITE, methods=[notebook["Inversion"]()])


def test_a_cell_may_be_run_twice(notebook: Notebook) -> None:
    text = 'from bench.registry import register\n\n\n@register("methods", "shifted_here")\n'
    for _ in range(2):
        notebook.cell(SHIFTED + "\n\n" + text + "class Again(Shifted):\n    pass")
    assert registry.get("methods", "shifted_here") is notebook["Again"]


def test_an_edited_method_asks_what_becomes_of_its_images(tmp_path: Path, notebook: Notebook, one_thread: None) -> None:
    """The advice names arguments of the call, and each of them works."""
    notebook.cell("import bench\n" + SHIFTED)
    notebook.module.SUITE, notebook.module.RUNS = SUITE, tmp_path  # type: ignore[attr-defined]
    call = "run = bench.run(SUITE, methods=[Shifted()], metrics=['shapes-clipscore'], limit=1, runs=RUNS, device='cpu'"
    notebook.cell(f"{call})")
    before = notebook["run"].images.set_index("method")["digest"]
    notebook.cell("COLUMNS = 3")
    with pytest.raises(UserError, match=r'method shifted has changed.*other_code="regenerate".*other_code="keep"'):
        notebook.cell(f"{call})")
    notebook.cell(f"{call}, other_code='keep')")
    assert notebook["run"].images.set_index("method")["digest"].equals(before)
    notebook.cell(f"{call}, other_code='regenerate')")
    after = notebook["run"].images.set_index("method")["digest"]
    assert after["standard"] == before["standard"]
    assert after["shifted"] != before["shifted"]


def test_a_fault_of_a_cell_fails_the_images_of_its_arm(
    tmp_path: Path, notebook: Notebook, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.cell("import bench\n" + SHIFTED.replace("shift(x, self.by)", "1 / 0"))
    notebook.module.SUITE, notebook.module.RUNS = SUITE, tmp_path  # type: ignore[attr-defined]
    notebook.cell("run = bench.run(SUITE, methods=[Shifted()], metrics=['shapes-clipscore'], limit=1, runs=RUNS)")
    run = notebook["run"]
    assert [*run.failed] == ["shifted"]
    assert "ZeroDivisionError" in run.failed["shifted"][0]
    assert "failed: 1 images of shifted" in capsys.readouterr().err
    images = run.images.set_index("method")
    assert "ZeroDivisionError" in images.loc["shifted", "failed"]
    assert images["failed"].isna()["standard"]
    assert "ZeroDivisionError" in run.show().notes["shifted"]


# Plugin files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Writes a plugin file."""
    path = tmp_path / "my_noise.py"

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    yield write
    registry.forget(str(path))
    from bench import plugins

    plugins._loaded.clear()
    sys.modules.pop("plugin_my_noise", None)


def test_a_file_is_a_plugin_of_every_command(
    bench: Bench, plugin: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    file, suite = plugin(SHIFTED), tmp_path / "own.yaml"
    suite.write_text(yaml.safe_dump({**SUITE, "methods": ["standard", "shifted"], "controls": {}, "gates": []}))
    assert "unknown method 'shifted'" in bench("plan", suite).error
    assert "shifted" in bench("ls", "methods", "--plugin", file).out
    assert bench("plan", suite, "--plugin", file, "--limit", 1).code == 0
    done = bench("run", suite, "--plugin", file, "--limit", 1, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "runs").iterdir()
    code = package.read(folder).results.run.provenance.code["method shifted"]
    assert code.distribution == "my_noise.py"
    registered = identity.of(registry.get("methods", "shifted"))
    assert registered is not None
    assert code.digest == registered.digest
    registry.forget(str(file))
    assert bench("report", folder).code == 0, "a report needs the plugin's results, and not the plugin"


def test_an_edited_file_takes_its_own_place(plugin: Callable[[str], Path]) -> None:
    from bench import plugins

    assert plugins.load(plugin(SHIFTED)) == [("methods", "shifted")]
    before = identity.of(registry.get("methods", "shifted"))
    assert plugins.load(plugin(SHIFTED)) == [("methods", "shifted")]
    plugins.load(plugin(SHIFTED.replace("by * COLUMNS", "-by * COLUMNS")))
    after = identity.of(registry.get("methods", "shifted"))
    assert before is not None
    assert after is not None
    assert before.digest != after.digest
    plugins.load(plugin(SHIFTED.replace("Shifted", "OtherName")))
    assert registry.name_of("methods", registry.get("methods", "other_name")) == "other_name"
    with pytest.raises(UserError, match="unknown method 'shifted'"):
        registry.get("methods", "shifted")


def test_a_file_registers_entries_of_other_kinds(plugin: Callable[[str], Path]) -> None:
    from bench import plugins

    more = 'from bench.registry import register\n\n\n@register("methods", "named")\nclass _Own(Shifted):\n    pass\n'
    found = plugins.load(plugin(SHIFTED + "\n\n" + BRIGHTER + "\n\n" + more))
    assert found == [("methods", "named"), ("methods", "shifted"), ("metrics", "brighter")]
    assert registry.twin("metrics", "brighter") == "brighter"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n", r"my_noise.py:2: not valid Python"),
        ("import math\n\nmath.sqrt(-1)\n", r"my_noise.py:3: ValueError"),
        ("import nothing_of_this_name\n", r"my_noise.py:1: ModuleNotFoundError"),
        ("import sys\nsys.exit(0)\n", r"my_noise.py:2: SystemExit"),
        ("x = 1\n", r"my_noise.py: defines no plugin"),
        (SHIFTED.replace("Shifted", "Inversion"), r"my_noise.py:10: two methods are named 'inversion'"),
        ("\0", r"my_noise.py:1: not valid Python"),
    ],
)
def test_a_broken_file_is_named_with_its_line(plugin: Callable[[str], Path], text: str, said: str) -> None:
    from bench import plugins

    with pytest.raises(UserError, match=said) as error:
        plugins.load(plugin(text))
    assert len(str(error.value).splitlines()) == 1
    assert "shifted" not in registry.names("methods")
    assert "plugin_my_noise" not in sys.modules or text.startswith(("x = 1", "from"))


def test_other_files_are_no_plugins(tmp_path: Path) -> None:
    from bench import plugins

    (tmp_path / "notes.txt").write_text("words")
    for given, said in (("notes.txt", "a plugin is a Python file"), ("away.py", "no such file"), ("", "a plugin is")):
        with pytest.raises(UserError, match=said):
            plugins.load(tmp_path / given)


# The page -----------------------------------------------------------------------------------------------------------


def test_the_examples_of_the_page_run(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").symlink_to(ROOT / "suites")
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS, re.S | re.M)
    assert len(blocks) >= 5
    try:
        for block in blocks:
            notebook.cell(block)
        assert set(notebook["run"].comparisons["method"]) == {"one", "two", "both"}
        assert set(notebook["mirrored"].comparisons["method"]) == {"mirrored"}
        assert (tmp_path / "pair.png").is_file()
        assert Path(notebook["fast"]["file"].iloc[0]).is_absolute()
    finally:
        registry.forget(str((tmp_path / "my_method.py").resolve()))
