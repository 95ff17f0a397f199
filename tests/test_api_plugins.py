"""What a notebook or a plugin file defines: what counts as its code, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Bench
from facts import missing
from notebook_cells import BRIGHTER, SHIFTED, SUITE, Notebook
from notebook_cells import notebook as notebook

import bench as package
from bench import identity, registry
from bench.api.objects import suite_of
from bench.errors import UserError

# What a notebook defines ----------------------------------------------------------------------------------------------


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


# Plugin files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Writes a plugin file."""
    path = tmp_path / "my_noise.py"

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    yield write
    registry.forget(str(path))
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


def test_two_files_of_one_name_are_one_too_many_until_one_is_forgotten(
    plugin: Callable[[str], Path], tmp_path: Path
) -> None:
    from bench import plugins

    first = plugin(SHIFTED)
    second = tmp_path / "other" / first.name
    second.parent.mkdir()
    second.write_text(SHIFTED)
    plugins.load(first)
    with pytest.raises(UserError) as refused:
        plugins.load(second)
    assert missing(str(refused.value), str(first), str(second), "rename") == []
    registry.forget(str(first))
    try:
        assert plugins.load(second) == [("methods", "shifted")]
    finally:
        registry.forget(str(second))
    assert plugins.load(first) == [("methods", "shifted")]


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
