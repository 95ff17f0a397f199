"""The project's own suites have names, and a file of the user's comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import suite
from bench.errors import UserError
from bench.suite import shipped


def test_a_suite_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert suite.load(Path("shapes_quick")).id == suite.load(shipped.FOLDERS[0] / "shapes_quick.yaml").id
    assert "sdxl_main" in shipped.names()


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes_quick").write_text("models: 3")
    with pytest.raises(UserError, match=r"^shapes_quick"):
        suite.load(Path("shapes_quick"))


@pytest.mark.parametrize("given", ["shapes_quick.yaml", "here/shapes_quick"])
def test_a_path_is_no_name(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        suite.load(Path(given))


def test_a_misspelt_name_has_the_nearest_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="sdxl_mian: no such file; did you mean 'sdxl_main'"):
        suite.load(Path("sdxl_mian"))


SUITES = sorted((Path(__file__).parents[1] / "suites").glob("*.yaml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_of_the_project_is_valid_and_has_a_twin(path: Path) -> None:
    made = suite.load(path)
    assert (made.name, bool(made.title)) == (path.stem, True)
    if all(model.startswith("shapes-") for model in made.models):
        return  # it is of the embedded world already
    twin = suite.load(path, twin=True)
    assert twin.twin
    assert twin.baseline in [method.label for method in twin.methods]
