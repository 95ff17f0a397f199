"""Tables of README and docs are those of their committed data, and so is every interval in their sentences."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from facts import missing

ROOT = Path(__file__).parents[1]


@pytest.fixture
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_texts_agree_with_their_data(
    figures: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["figures.py"])
    assert figures.main() == 0, capsys.readouterr().out


def test_a_figure_that_was_changed_by_hand_is_found(
    figures: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A digit in a table, and one in a sentence; `--write` writes the first and still names the second."""
    for name in figures.TEXTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for form in (*figures.DATA, figures.TABLES):
        for path in ROOT.glob(form):
            (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / path.relative_to(ROOT))
    readme = tmp_path / "README.md"
    results = json.loads((ROOT / "reports/sdxl_main_twin/results.json").read_text())
    row = figures.pooled(results["comparisons"], "npnet", "shapes-geneval")
    right = figures.signed(row, 3)
    text = readme.read_text()
    assert text.count(right) >= 1
    readme.write_text(text.replace(right, "+0.777 [+0.666, +0.888]", 1) + "\nA gain of 0.123 [0.111, 0.199].\n")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["figures.py"])
    assert figures.main() == 1
    said = capsys.readouterr().out
    assert missing(said, "README.md: a table", "python docs/figures.py --write") == []
    assert "README.md: 0.123 [0.111, 0.199] is in none of" in said
    monkeypatch.setattr("sys.argv", ["figures.py", "--write"])
    assert figures.main() == 1
    assert "0.123" in capsys.readouterr().out
    assert right in readme.read_text()
    assert "0.777" not in readme.read_text()
