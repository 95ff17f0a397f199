"""No cell of a CSV that we write is a formula to a spreadsheet, and Parquet holds every text as it is."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from conftest import Bench
from handmade import make

from bench.store import Ledger, export
from bench.store.exports import cell

FORMULAS = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3+cmd",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1",
    '=HYPERLINK("https://evil.example")',
)
STARTS = tuple("=+-@\t\r\n＝＋－＠")


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_text_that_is_a_formula_is_quoted(formula: str) -> None:
    assert cell(formula) == f"'{formula}"


@pytest.mark.parametrize("value", ["a cat", "1-1", "", "'quoted", -1.5, 0, None, float("-inf"), [-1.0]])
def test_everything_else_stays(value: object) -> None:
    assert cell(value) == value or value is None


def test_every_table_of_a_strangers_ledger_is_exported_without_formulas(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", lambda spot: -0.5, n=len(FORMULAS), texts=lambda _, index: FORMULAS[index])
    ledger = Ledger(folder)
    ledger.put_failures([("0" * 32, "=1+1", "now")])
    written = export(ledger, tmp_path / "out")
    ledger.close()
    tables = [path for path in written if path.suffix == ".csv"]
    texts = 0
    for path in tables:
        with path.open(newline="") as file:
            for row in csv.reader(file):
                for value in row:
                    if value.startswith(STARTS):
                        float(value)  # a number may have a sign
                    texts += value.startswith("'")
    assert texts >= len(FORMULAS) + 1
    cells = pd.read_parquet(tmp_path / "out" / "cells.parquet")
    assert set(cells["prompt"]) == set(FORMULAS)
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert set(scores["value"]) == {-0.5}, "a negative number is a number"


def test_scores_of_images_by_path_hold_none(bench: Bench, tmp_path: Path) -> None:
    from PIL import Image

    images, prompts = tmp_path / "=images", tmp_path / "prompts.txt"
    images.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 64), (60 * number, 0, 0)).save(images / f"{number}.png")
    prompts.write_text("\n".join(FORMULAS[:4]))
    done = bench("score", images, "--prompts", prompts, "--metric", "shapes-preference", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["prompt"] for row in rows} == {f"'{formula}" for formula in FORMULAS[:4]}
    for row in rows:
        for name, value in row.items():
            assert name in ("score", "seed") or not value.startswith(STARTS)
