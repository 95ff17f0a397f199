"""The Python API: suites and objects in, frames out; what a notebook defines is pinned by its source."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Bench, call
from conftest import Run as Finished
from kept_models import kept
from kept_models import kept_models as kept_models
from notebook_cells import BRIGHTER, SHIFTED, SUITE, Notebook
from notebook_cells import notebook as notebook

import bench as package
from bench import registry
from bench.api import Run
from bench.errors import UserError

ROOT = Path(__file__).parents[1]

DOCS = (ROOT / "docs" / "api.md").read_text()

Made = tuple[Run, Notebook]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[Made]:
    """One run of objects of a notebook: a method twice, a chain, prompts in a list, a metric of pairs."""
    with pytest.MonkeyPatch.context() as patch, kept():
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


# Importing ------------------------------------------------------------------------------------------------------------


def imported(*steps: str) -> list[set[str]]:
    """What a process of its own has imported after each step of some code."""
    said = "; print(*set(sys.modules) - before)\n"
    script = "import sys; before = set(sys.modules)\n" + "".join(step + said for step in steps)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_importing_the_package_loads_almost_nothing(one_thread: None) -> None:
    (found,) = imported("import bench")
    assert {name for name in found if name.partition(".")[0] == "bench"} == {"bench"}
    assert len(found) <= 3, found


def test_the_api_loads_neither_torch_nor_pandas_until_it_is_asked(one_thread: None, finished: Finished) -> None:
    heavy = {"torch", "pandas", "diffusers", "transformers", "matplotlib"}
    read = f"import bench; run = bench.read({str(finished.folder)!r}); run.headline"
    light, asked = imported(read, "run.comparisons")
    assert not heavy & light
    assert "pandas" in asked


def test_the_package_has_what_it_names_and_nothing_else() -> None:
    assert {"run", "read", "Run"} <= {*dir(package)}
    assert package.run is sys.modules["bench.api"].run
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


# Frames ---------------------------------------------------------------------------------------------------------------


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
    few = ("--limit", 2, "--method", "inversion", "--cache", finished.cache)
    other = bench(*copy.arguments(*few))
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


# Showing --------------------------------------------------------------------------------------------------------------


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


# Objects --------------------------------------------------------------------------------------------------------------


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


@pytest.mark.usefixtures("kept_models")
def test_a_part_of_a_run_is_made_in_a_folder_of_its_own(tmp_path: Path) -> None:
    given = {**SUITE, "methods": ["standard"], "controls": {}, "gates": []}
    part = package.run(given, limit=2, shard=(2, 2), batch_size=1, runs=tmp_path, cache=False, device="cpu")
    assert part.id.endswith("-shard-2-of-2")
    assert part.images["index"].unique().tolist() == [1]
    assert any("This is shard 2 of 2 of a run" in note for note in part.results.notes)
    assert "shard 1 of 2 of api" in call("merge", part.folder).error


# The page -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kept_models")
def test_the_examples_of_the_page_run(notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
