"""The notebooks of docs/notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return found


def test_they_are_all_on_their_page() -> None:
    text = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) >= 4
    assert all(f"({notebook.name})" in text for notebook in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_one_is_kept_without_outputs_and_is_python(notebook: Path) -> None:
    code = [cell for cell in cells(notebook) if cell["cell_type"] == "code"]
    assert code
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        ast.parse("".join(cell["source"]))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_one_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a copy of its folder beside the reports, so that what it writes is not left here."""
    why = "`pip install -e .[docs]` installs it, as tox -e docs does"
    nbclient = pytest.importorskip("nbclient", reason=why)
    nbformat = pytest.importorskip("nbformat", reason=why)
    pytest.importorskip("ipykernel", reason=why)
    # The kernel needs the default folder of its connection file to be one that can be written to.
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "reports").symlink_to(ROOT / "reports")
    work = tmp_path / "docs" / "notebooks"
    work.mkdir(parents=True)
    read = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(read, timeout=300, kernel_name="python3", resources={"metadata": {"path": work}})
    done = client.execute()
    assert all(cell["execution_count"] for cell in done["cells"] if cell["cell_type"] == "code")
