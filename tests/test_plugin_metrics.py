"""A metric of pairs and one of sets from another package, from plan to export, without a line of ours for either."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Bench, Run, forms
from PIL import Image

N = 6
SUITE = (
    TINY[: TINY.index("methods:")]
    + """methods: [standard, reseed]
metrics: [brighter, colours]
gates:
  - {metric: brighter, win_rate: 0.0}
  - {metric: colours, delta: -1.0}
"""
)


@pytest.fixture(scope="module")
def ran(
    bench_forked: Bench,
    installed: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    home = tmp_path_factory.mktemp("metrics")
    (home / "two.yaml").write_text(SUITE)
    options = ("--limit", N, "--runs", home / "runs", "--no-cache", "--device", "cpu")
    with forms("md,html,tex"):
        done = bench_forked("run", home / "two.yaml", *options, env=installed)
    assert done.code == 0, done.err
    (folder,) = [p for p in (home / "runs").iterdir() if p.is_dir()]
    return Run(home / "two.yaml", home / "runs", home, folder)


def pictures(run: Run, method: str) -> np.ndarray:
    """Mean colours of the method's images by prompt, (N, 3) in 0 to 255."""
    query = "SELECT file FROM cells JOIN images USING (job_id) WHERE method = ? ORDER BY prompt_index"
    files = [file for (file,) in run.rows(query, method)]
    return np.stack([np.asarray(Image.open(run.folder / file), np.float64).mean(axis=(0, 1)) for file in files])


def test_the_plan_says_what_each_judges(
    bench_forked: Bench,
    installed: dict[str, str],
    ran: Run,
) -> None:
    done, few = (bench_forked("plan", ran.suite, "--limit", n, env=installed) for n in (N, 3))
    assert f"scoring:        brighter {N} pairs of images in both orders; colours {2 * N} images in sets" in done.out
    assert "colours 6 images, but no value: it needs 4 a method, there are 3" in few.out


def test_results_and_report_have_their_numbers_from_the_images_themselves(ran: Run) -> None:
    ours, theirs = pictures(ran, "reseed"), pictures(ran, "standard")
    found = ran.results()
    rows = {c["metric"]: c for c in found["comparisons"] if c["prompts"] == "*"}
    likes = 1 / (1 + np.exp((theirs.mean(axis=1) - ours.mean(axis=1)) / 10))
    assert rows["brighter"]["win_rate"] == pytest.approx(likes.mean())
    assert rows["brighter"]["delta"] == pytest.approx(2 * likes.mean() - 1)
    spreads = [(colours / 255).var(axis=0).sum() for colours in (ours, theirs)]
    assert rows["colours"]["delta"] == pytest.approx(spreads[0] - spreads[1], abs=1e-6)
    assert all(metric["score_ms"] > 0 for metric in found["metrics"].values())
    for name in ("report.md", "report.html", "report.tex"):
        text = (ran.folder / name).read_text()
        assert "Brighter" in text
        assert "Spread of colours" in text


def test_gate_and_frozen_baseline_judge_both(
    bench_forked: Bench,
    installed: dict[str, str],
    ran: Run,
    tmp_path: Path,
) -> None:
    freeze = ("baseline", "freeze", ran.folder, "--out", tmp_path / "frozen.json")
    options = ("--baseline", tmp_path / "frozen.json", "--json", tmp_path / "gate.json")
    for command in (freeze, ("gate", ran.folder, *options)):
        done = bench_forked(*command, env=installed)
        assert done.code == 0, done.out + done.err
    verdicts = json.loads((tmp_path / "gate.json").read_text())["verdicts"]
    assert {(v["check"], v["metric"]) for v in verdicts} == {
        (check, metric) for check in ("rule", "baseline") for metric in ("brighter", "colours")
    }
    assert {v["estimate"] for v in verdicts if v["check"] == "baseline"} == {0.0}


def test_compare_and_export_have_both(
    bench_forked: Bench,
    installed: dict[str, str],
    ran: Run,
    tmp_path: Path,
) -> None:
    shutil.copytree(ran.folder, tmp_path / "again")
    compared = ("compare", ran.folder, tmp_path / "again", "--json", tmp_path / "c.json")
    for command in (compared, ("export", ran.folder, "--out", tmp_path / "export")):
        done = bench_forked(*command, env=installed)
        assert done.code == 0, done.err
    rows = [c for c in json.loads((tmp_path / "c.json").read_text())["comparisons"] if c["method"] == "reseed"]
    assert {(c["metric"], c["delta"]) for c in rows} == {("brighter", 0.0), ("colours", 0.0)}
    with (tmp_path / "export" / "features.csv").open() as file:
        features = [json.loads(row["features"]) for row in csv.DictReader(file)]
    both = np.concatenate([pictures(ran, m) for m in ("reseed", "standard")]) / 255
    np.testing.assert_allclose(sorted(features), sorted(both.tolist()), atol=1e-6)
    with (tmp_path / "export" / "pair_scores.csv").open() as file:
        assert [row["metric"] for row in csv.DictReader(file)] == ["brighter"] * N
