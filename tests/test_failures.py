"""An image that cannot be made is marked with its reason, in the ledger, results and reports; all others are made."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import jsonschema
import pytest
from conftest import Bench, Done, Plug, Run, call, forms
from facts import missing

from bench import registry
from bench.analysis import results
from bench.analysis.failed import NAMED
from bench.errors import UserError
from bench.methods.base import Method
from bench.report.trust import REASONS, trust
from bench.store import Ledger

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = 2
SUITE = """\
name: failing
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 3
baseline: standard
methods:
  - standard
  - sour
  - refusing
  - inversion
  - {name: best_of_sour, chain: [sour, {use: best_of_n, n: 2, selection_metric: shapes-preference}]}
  - {use: best_of_n, name: best_of_2, n: 2, selection_metric: shapes-preference}
metrics: [shapes-clipscore]
gates:
  - {metric: shapes-clipscore, method: sour, delta: -100}
"""
NOT_FINITE = "its initial noise is not finite (NaN or infinity); try another guidance or precision"
REFUSED = "refusing: step 1 asks for what this image has not; give another prompt"


class Sour(Method):
    """Gives not-a-number for the images of one prompt's first seed."""

    def noise(self, s: Any, x: Any) -> Any:
        x = 0.9 * x
        for i, item in enumerate(s.items):
            if item.seed == 0 and item.prompt.text == FIRST[0]:
                x[i, 0, 0, 0] = float("nan")
        return x


class Refusing(Method):
    """Finds only in the loop that it cannot go on, as a method with weights or words of its own may."""

    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        if i == 1:
            raise UserError(REFUSED)
        return following(x)


FIRST = [""]
"""The first prompt's text."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[tuple[Run, Done]]:
    """A run in which images fail, and how it ended; the methods that break stay registered."""
    home = tmp_path_factory.mktemp("failing")
    suite = home / "failing.yaml"
    suite.write_text(SUITE)
    FIRST[0] = registry.get("prompts", "shapes-pickapic").read()[0].text
    with registry.configured("methods", {"sour": Sour, "refusing": Refusing}):
        with forms("md,html"):
            done = call("run", suite, *options(home / "runs"))
        (folder,) = [p for p in (home / "runs").iterdir() if p.is_dir()]
        yield Run(suite, home / "runs", home / "cache", folder), done


def options(runs: Path) -> tuple[object, ...]:
    return ("--limit", PROMPTS, "--runs", runs, "--no-cache", "--device", "cpu")


def test_the_images_that_failed_are_counted_and_the_exit_code_says_so(ran: tuple[Run, Done]) -> None:
    _, done = ran
    assert done.code == 3, done.err
    listed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert listed == [
        f"failed: 1 images of sour; the first: shapes-pickapic 0, seed 0: {NOT_FINITE}",
        f"failed: 2 images of refusing; the first: shapes-pickapic 0, seed 0: {REFUSED}",
        f"failed: 1 images of best_of_sour; the first: shapes-pickapic 0, seed 0: candidate 1 of 2: {NOT_FINITE}",
    ]
    assert "Traceback" not in done.err


def test_the_ledger_has_a_reason_or_an_image_for_every_cell(ran: tuple[Run, Done]) -> None:
    run, _ = ran
    ledger = Ledger(run.folder, read_only=True)
    reasons, images = ledger.failures(), ledger.images()
    cells = dict(ledger.db.execute("SELECT job_id, method FROM cells"))
    ledger.close()
    assert not set(reasons) & set(images)
    assert set(cells) <= {*reasons, *images}
    assert {m for j, m in cells.items() if j in reasons} == {"sour", "refusing", "best_of_sour"}


def test_results_list_them_with_their_reasons(ran: tuple[Run, Done]) -> None:
    run, _ = ran
    found = run.results()
    schema = json.loads((Path(results.__file__).parents[1] / "schemas" / "results.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    setting = {"model": "shapes-sdxl", "sampler": "ddim", "steps": 3, "guidance": found["arms"][0]["guidance"]}
    assert [{k: v for k, v in row.items() if k != "images"} for row in found["failed"]] == [
        {**setting, "method": "sour", "reason": NOT_FINITE, "n": 1},
        {**setting, "method": "refusing", "reason": REFUSED, "n": 2},
        {**setting, "method": "best_of_sour", "reason": f"candidate 1 of 2: {NOT_FINITE}", "n": 1},
    ]
    places = [[(i["prompts"], i["index"], i["seed"], i["run"]) for i in row["images"]] for row in found["failed"]]
    first, second = (("shapes-pickapic", k, 0, 0) for k in range(2))
    assert places == [[first], [first, second], [first]]
    assert found["failed"][0]["images"][0]["prompt"] == FIRST[0]
    assert found["run"]["finished"] is False


def test_no_mean_counts_an_image_that_failed_and_no_arm_with_one_is_ranked(ran: tuple[Run, Done]) -> None:
    run, _ = ran
    found = run.results()
    arms = {a["method"]: a for a in found["arms"] if a["prompts"] == "*"}
    complete = {name: (a["complete"], a["n"], a["n_expected"]) for name, a in arms.items()}
    assert complete == {
        "standard": (True, 2, 2),
        "sour": (False, 1, 2),
        "refusing": (False, 0, 2),
        "inversion": (True, 2, 2),
        "best_of_sour": (False, 1, 2),
        "best_of_2": (True, 2, 2),
    }
    scores = run.scores("shapes-clipscore")
    for name, arm in arms.items():
        values = [v for (method, _), v in scores.items() if method == name]
        assert len(values) == arm["n"]
        mean = arm["metrics"]["shapes-clipscore"]["mean"]
        assert mean == (pytest.approx(fmean(values)) if values else None)
    rows = {c["method"]: c for c in found["comparisons"] if c["prompts"] == "*"}
    assert {m for m, row in rows.items() if not row["complete"]} == {"sour", "refusing", "best_of_sour"}
    assert all(row["p_holm"] is None for row in rows.values() if not row["complete"])


@pytest.mark.parametrize("form", ["report.md", "report.html"])
def test_reports_show_them_with_their_reasons(ran: tuple[Run, Done], form: str) -> None:
    run, _ = ran
    text = html.unescape((run.folder / form).read_text())
    where = "shapes-sdxl, ddim, 3 steps"
    assert f"1 image of sour ({where}" in text
    assert f"could not be made: {NOT_FINITE}; it is shapes-pickapic 0, seed 0." in text
    assert f"could not be made: {REFUSED}; the first is shapes-pickapic 0, seed 0." in text
    assert f"could not be made: candidate 1 of 2: {NOT_FINITE}; it is" in text


def test_a_gate_on_such_an_arm_is_not_comparable(ran: tuple[Run, Done], bench: Bench) -> None:
    run, _ = ran
    done = bench("gate", run.folder)
    assert done.code == 3
    assert "not comparable" in done.out


def test_the_best_of_fewer_is_not_taken_for_the_best_of_n(ran: tuple[Run, Done]) -> None:
    """The choice fails for its candidate's reason; the sound candidate is there, and is not taken in its place."""
    run, _ = ran
    query = "SELECT prompt_index, chosen_from FROM cells LEFT JOIN images USING (job_id) WHERE method = 'best_of_sour'"
    chosen = {index: json.loads(among) if among else None for index, among in run.rows(query)}
    assert chosen[0] is None
    assert len(chosen[1]) == 2
    (made,) = run.rows("SELECT COUNT(*) FROM images WHERE chosen_from IS NULL")
    assert made == (2 + 2 + 1 + 2 + 2,), "standard, inversion, sour, its other seeds, and reseeded ones"


def test_a_method_that_is_repaired_makes_what_failed(
    ran: tuple[Run, Done], tmp_path: Path, plug: Plug, bench: Bench
) -> None:
    run = ran[0].copy(tmp_path)
    sound = type("Sound", (Method,), {"noise": lambda self, s, x: 0.9 * x})
    for name in ("sour", "refusing"):
        plug("methods", **{name: sound})
    done = bench("run", run.suite, *options(run.runs))
    assert done.code == 0, done.err
    assert run.results()["failed"] == []
    assert "could not be made" not in (run.folder / "report.md").read_text()
    assert not run.rows("SELECT * FROM failures JOIN cells USING (job_id)"), "the other code's failures are its own"


def test_a_report_names_a_few_reasons_and_counts_the_others() -> None:
    from report.samples import of, small

    place = {"prompts": "p", "index": 3, "seed": 1, "prompt": "a cat", "run": 0}
    setting = {"model": "m", "sampler": "ddim", "steps": 4, "guidance": 5.0}
    rows = [
        {**setting, "method": "odd", "reason": f"reason {n}.", "n": n, "images": [place]} for n in range(1, REASONS + 3)
    ]
    said = [text for _, text in trust(of(small(failed=rows))) if "could not be made" in text]
    assert len(said) == REASONS + 1
    assert said[0].startswith(f"{REASONS + 2} images of odd (m, ")
    assert said[0].endswith(f"could not be made: reason {REASONS + 2}; the first is p 3, seed 1.")
    assert missing(said[-1], "3 more images", "2 other reasons", "results.json") == []


def test_results_name_the_first_failed_images_and_count_all(tmp_path: Path) -> None:
    from handmade import image, make

    from bench.analysis.failed import rows

    folder = make(
        tmp_path / "run", lambda spot: 1.0, n=50, images=lambda s: image() if s.method == "standard" else None
    )
    ledger = Ledger(folder)
    lost = [job for (job,) in ledger.db.execute("SELECT job_id FROM cells WHERE method = 'inversion'")]
    ledger.put_failures((job, "it is lost", "now") for job in lost)
    (row,) = rows([ledger])
    assert (row.n, len(row.images)) == (50, NAMED)
    assert [one.index for one in row.images] == list(range(NAMED))
    ledger.close()
