"""Figures as files: there when the data is, the same bytes again, names of others shown and not obeyed."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from bench import report
from bench.errors import UserError
from bench.report import drawing, figures, html, panels, plots

from . import samples
from .samples import HOSTILE, Page, of, spoil

pytest.importorskip("matplotlib", reason="figures are an optional extra")


SHEETS = ("win_rates", "quality_cost", "step_curves", "stage_split")


def at_steps(small: dict[str, Any]) -> dict[str, Any]:
    for part in ("arms", "comparisons"):
        small[part] = [copy.deepcopy(row) | {"steps": steps} for steps in (10, 25, 50) for row in small[part]]
    return small


@pytest.fixture
def stepped(small: dict[str, Any]) -> dict[str, Any]:
    """The small results at 10, 25 and 50 steps."""
    return at_steps(small)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Their figures as files."""
    return plots.write(of(at_steps(samples.small())), tmp_path_factory.mktemp("figures") / "figures")


def test_files_are_there_and_open(written: list[Path]) -> None:
    assert [path.name for path in written] == [f"{name}.{kind}" for name in SHEETS for kind in ("png", "svg")]
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 200
                assert len(image.convert("RGB").getcolors(1 << 24) or []) > 5, "not an empty sheet"
        else:
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_same_results_give_the_same_bytes(stepped: dict[str, Any], written: list[Path], tmp_path: Path) -> None:
    first = [path.read_bytes() for path in written]
    again = [path.read_bytes() for path in plots.write(of(stepped), tmp_path / "b")]
    assert first == again
    assert not any(b"matplotlib" in data.lower()[:3000] and b"dc:date" in data for data in first)


def test_figures_without_data_are_taken_away(stepped: dict[str, Any], written: list[Path], tmp_path: Path) -> None:
    for path in written:
        shutil.copy(path, tmp_path)
    for part in ("arms", "comparisons"):
        stepped[part] = [row for row in stepped[part] if row["steps"] == 25]
    stepped["comparisons"] = []
    plots.write(of(stepped), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage_split.png", "stage_split.svg"]


def test_nothing_measured_draws_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    small |= {"arms": [], "comparisons": [], "metrics": {}}
    assert plots.write(of(small), tmp_path / "figures") == []
    assert not (tmp_path / "figures").exists()


def test_names_are_shown_and_not_obeyed(small: dict[str, Any], tmp_path: Path) -> None:
    """Of methods, which stand beside bars, in legends and over stages."""
    names = [HOSTILE, r"$\frac{$", "_hidden_", "名前 😀 \u202e", "a\x00b", "x" * 500, ""]
    _, first, _ = small["arms"]
    small["arms"] = [small["arms"][0], *(copy.deepcopy(first) | {"method": name} for name in names)]
    small["comparisons"] = [copy.deepcopy(small["comparisons"][0]) | {"method": name} for name in names]
    written = plots.write(of(small), tmp_path)
    assert {path.name for path in written} == {
        f"{stem}.{kind}" for stem in ("win_rates", "quality_cost", "stage_split") for kind in ("png", "svg")
    }, "no name of others is a file name"
    for path in written:
        if path.suffix == ".svg":
            tree = ElementTree.parse(path)
            assert not [tag for tag in tree.iter() if tag.tag.endswith(("script", "foreignObject"))]
            said = path.read_text(encoding="utf-8")
            assert "_hidden_" in said
            assert "x" * 20 in said
            assert "x" * 400 not in said


def test_missing_library_is_one_line_and_the_rest_is_written(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BENCH_REPORT", raising=False)
    monkeypatch.setattr(drawing, "available", lambda: False)
    written = report.write(of(small), tmp_path)
    assert [path.name for path in written] == ["report.md", "report.html", "report.tex"]
    assert capsys.readouterr().err == f"note: {plots.MISSING_LIBRARY}\n"
    with pytest.raises(UserError, match="matplotlib is not installed"):
        report.write(of(small), tmp_path, formats=["figures"])


def test_matplotlib_is_loaded_for_figures_only_and_torch_for_no_report() -> None:
    modules = ", ".join(f"bench.report.{name}" for name in ("drawing", "figures", "plots", "html", "markdown"))
    code = f"import sys, bench.gate, {modules}; print(bool({{'matplotlib', 'torch'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_draws_in_the_stylesheets_colours(small: dict[str, Any], tmp_path: Path) -> None:
    page = html.render(of(small), tmp_path)
    light = page.split("@media", 1)[0]
    for colour, variable in figures.VARIABLES.items():
        assert f"{variable}: " in light, colour
    for variable, colour in {f"--m{index}": colour for index, colour in enumerate(drawing.COLOURS)}.items():
        assert f"{variable}: {colour};" in light
    (drawings,) = [[svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]]
    assert len(drawings) > 6
    for svg in drawings:
        assert not re.search(r"#[0-9a-f]{6}|url\(|xlink|\bid=|font-family", svg)
        assert "var(--" in svg


def test_a_pages_drawing_is_the_same_again(small: dict[str, Any]) -> None:
    given = panels.win_panels(of(small))
    first = figures.drawn(given)
    figures.figure_of.cache_clear()
    assert figures.drawn(given) == first


def test_a_mark_that_is_used_often_is_written_out(stepped: dict[str, Any]) -> None:
    drawing_ = figures.drawn(panels.step_panels(of(stepped)))[0]
    assert len(re.findall(r'<path d="[^"]*" transform="translate', drawing_)) >= 6, "three steps of two methods"
    assert "<use" not in drawing_


def test_neighbours_differ_in_colour_and_in_shape() -> None:
    looks = [(drawing.colour(index), drawing.MARKERS[index % len(drawing.MARKERS)]) for index in range(30)]
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in pairwise(looks))
    assert len(set(looks[1:])) == 7, "the eighth method looks like the first: names tell them apart"


# What both draw ------------------------------------------------------------------------------------------------------


def test_step_curves(stepped: dict[str, Any]) -> None:
    for row in stepped["comparisons"]:
        row |= {"delta": 1 / row["steps"], "low": 0.0, "high": 2 / row["steps"]}
    delta, mean = panels.step_panels(of(stepped))
    assert (delta.title, delta.axis, delta.delta) == ("Preference", "paired delta (logit)", True)
    assert [(line.method, line.index) for line in delta.lines] == [("inversion", 1), ("npnet", 2)]
    assert delta.lines[1].points == ((10.0, 0.1, 0.0, 0.2), (25.0, 0.04, 0.0, 0.08), (50.0, 0.02, 0.0, 0.04))
    assert [line.method for line in mean.lines] == ["standard", "inversion", "npnet"]
    assert "npnet +0.1 [+0, +0.2] at 10, +0.04 [+0, +0.08] at 25, +0.02 [+0, +0.04] at 50" in figures.says(delta)


def test_one_number_of_steps_makes_no_curve(small: dict[str, Any]) -> None:
    assert panels.step_panels(of(small)) == []


def test_incomplete_arms_are_not_drawn(stepped: dict[str, Any]) -> None:
    for row in [*stepped["arms"], *stepped["comparisons"]]:
        row["complete"] = row["method"] != "npnet" and row["complete"]
    assert {line.method for panel in panels.step_panels(of(stepped)) for line in panel.lines} == {
        "standard",
        "inversion",
    }
    assert all(bar.method == "inversion" for panel in panels.win_panels(of(stepped)) for bar in panel.bars)


def test_stage_split(small: dict[str, Any]) -> None:
    (panel,) = panels.stage_panels(of(small))
    assert panel.splits[0].stages == (6.4, 38.6, 486.0, 9.0, 0.0)
    assert panel.splits[0].total == pytest.approx(540.0)
    assert panel.splits[0].peak == 612
    boxes = re.findall(
        r'<path d="M ([\d.]+) [^"]*?L ([\d.]+) [^"]*" style="fill: var\(--s\d\)', figures.drawn([panel])[0]
    )
    widths = [float(right) - float(left) for left, right in boxes]
    assert widths[:4] == pytest.approx([296 * time / 540 for time in (6.4, 38.6, 486.0, 9.0)], abs=0.11)
    (memory,) = panels.memory_panels([panel])
    assert figures.drawn([memory])[0].count("612 MiB") == 3


def test_images_that_were_never_timed_have_no_split(small: dict[str, Any]) -> None:
    for row in small["arms"]:
        row["cost"] |= dict.fromkeys(("encode_ms", "noise_ms", "sampling_ms", "decode_ms", "total_ms", "peak_bytes"))
    assert panels.stage_panels(of(small)) == []


def test_titles_say_only_what_differs(stepped: dict[str, Any]) -> None:
    assert [panel.title for panel in panels.win_panels(of(stepped))] == [
        "Preference, 10 steps", "Preference, 25 steps", "Preference, 50 steps",
    ]  # fmt: skip


def test_ticks_are_round_and_inside() -> None:
    assert drawing.ticks(0.43, 0.57) == [0.45, 0.5, 0.55]
    assert drawing.ticks(0, 2100, 4) == [0, 1000, 2000]
    assert drawing.ticks(1.0, 1.0) == [1.0]


def test_marks_of_equal_cost_do_not_hide_one_another() -> None:
    moved = panels.side_by_side([100.0, 101.0, 300.0, 102.0], gap=7)
    assert moved == [94.0, 101.0, 300.0, 108.0]


def test_drawings_escape_names(example: dict[str, Any]) -> None:
    spoilt = of(spoil(example))
    stages = panels.stage_panels(spoilt)
    given = [*panels.win_panels(spoilt), *panels.cost_panels(spoilt), *stages, *panels.memory_panels(stages)]
    for svg in figures.drawn(given):
        page = Page(svg)
        assert page.open == []
        assert {tag for tag, _ in page.tags} <= {"svg", "text", "path"}
