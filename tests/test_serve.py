"""The local pages over a folder of runs: what they show, that they change nothing, and that no one else gets in."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from facts import missing
from handmade import image, make
from served import HOSTILE, text
from served import client as client
from served import runs as runs
from served import seen as seen
from suite_texts import TWO_ARMS, suite_text

from bench.store import SCHEMA, Ledger

# Pages ----------------------------------------------------------------------------------------------------------------


def test_the_list_says_how_far_each_run_is_and_why_one_cannot_be_read(client: Any, finished: Run) -> None:
    page = text(client.get("/"))
    assert finished.folder.name in page
    assert "Four arms on the embedded world" in page
    assert "4 of 8 images" in page
    assert "No results yet." in page
    assert f"written by a newer version (ledger schema {SCHEMA + 1}" in page
    assert "an empty run (its ledger has no cell)" in page
    assert "not a readable ledger (file is not a database)" in page
    assert "no run " not in page, "a folder without a ledger"


def test_the_verdict_in_the_list_is_the_reports(client: Any, finished: Run) -> None:
    from bench.records import read
    from bench.report import headline

    assert headline(read(finished.folder)) in text(client.get("/"))


def test_a_run_that_continues_is_shown_again(client: Any, runs: Path) -> None:
    assert "4 of 8 images" in text(client.get("/"))
    ledger = Ledger(runs / "halfway")
    job = ledger.db.execute("SELECT job_id FROM cells WHERE prompt_index = 2").fetchone()[0]
    ledger.put_images([image(job_id=job, digest="new", file=f"images/{job}.png")])
    assert "5 of 8 images" in text(client.get("/"))
    ledger.close()


def test_a_run_is_shown_while_it_is_being_written(client: Any, runs: Path) -> None:
    """A writer holds its transaction open; readers see what was there before it."""
    writer = sqlite3.connect(runs / "halfway" / "ledger.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM images")
    assert "4 of 8 images" in text(client.get("/"))
    page = client.get("/run/halfway/")
    assert page.status_code == 200
    assert text(page).count("not made yet") == 4
    writer.execute("ROLLBACK")
    writer.close()


def test_the_report_is_given_as_it_is(client: Any, runs: Path, finished: Run) -> None:
    response = client.get(f"/run/{finished.folder.name}/report.html")
    assert response.status_code == 200
    assert response.data == (runs / finished.folder.name / "report.html").read_bytes()
    assert "sandbox allow-scripts" in response.headers["Content-Security-Policy"]
    assert "allow-same-origin" not in response.headers["Content-Security-Policy"]


def test_a_missing_report_is_said(client: Any) -> None:
    response = client.get("/run/many/report.html")
    assert response.status_code == 404
    assert missing(text(response), "many", "no report.html yet", "`bench report`") == []


def test_all_pairs_are_paged_fifty_at_a_time(client: Any) -> None:
    seen: list[str] = []
    for number in (1, 2, 3):
        page = client.get(f"/run/many/?page={number}").get_data(as_text=True)
        found = re.findall(r'<p class="meta">(\S+), index (\d+), seed 0', page)
        assert len(found) == (50, 50, 20)[number - 1]
        seen += [" ".join(one) for one in found]
    assert len(set(seen)) == 120
    assert client.get("/run/many/?page=99").data == client.get("/run/many/?page=3").data
    assert client.get("/run/many/?page=x").data == client.get("/run/many/?page=1").data


def test_pairs_are_filtered(client: Any) -> None:
    assert "60 pairs that match" in text(client.get("/run/many/?prompts=shapes-drawbench"))
    assert "1 pairs that match" in text(client.get("/run/many/?prompts=shapes-drawbench&text=Number 17"))
    assert "No pair matches." in text(client.get("/run/many/?text=nowhere"))
    both, only = (client.get(f"/run/many/?method={m}").get_data(as_text=True) for m in ("inversion", "standard"))
    assert both.count("<figure>") == 100
    assert only.count("<figure>") == 50
    for query in ("prompts=nowhere", "method=nothing", "setting=7"):
        assert client.get(f"/run/many/?{query}").status_code == 404


def test_wildcards_in_the_search_are_plain_text(client: Any) -> None:
    assert "2 pairs that match" in text(client.get("/run/many/", query_string={"text": "100%_"}))
    assert "No pair matches." in text(client.get("/run/many/", query_string={"text": "1%7"}))


def test_a_pair_has_its_scores_and_deltas(client: Any) -> None:
    page = text(client.get("/run/many/?prompts=shapes-pickapic&text=number 12"))
    assert "standard shapes-preference 5" in page
    assert "inversion shapes-preference 6 +1" in page


def test_settings_are_shown_and_chosen_where_there_are_several(client: Any, runs: Path) -> None:
    make(runs / "steps", lambda s: float(s.steps), suite=suite_text(TWO_ARMS, steps=[4, 6]))
    assert "8 pairs: " in text(client.get("/run/steps/"))
    page = text(client.get("/run/steps/?setting=1"))
    assert "4 pairs that match" in page
    assert "standard shapes-preference 6" in page
    assert "standard shapes-preference 4" not in page


def test_two_runs_are_compared_by_picking_them(client: Any, runs: Path) -> None:
    make(runs / "more", lambda s: 1.0 + s.index, n=20)
    make(runs / "less", lambda s: 1.0 * s.index, n=20)
    page = text(client.get("/compare?a=less&b=more"))
    assert "more (B) against less (A)" in page
    assert "standard in B against standard in A on Preference: +1" in page
    ledger = Ledger(runs / "more")
    ledger.db.execute("UPDATE scores SET value = value + 1")
    ledger.close()
    assert "standard in B against standard in A on Preference: +2" in text(client.get("/compare?a=less&b=more"))


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("", 404, "two runs are needed to compare"),
        ("a=many&b=many", 404, "the same run folder twice"),
        ("a=many&b=nowhere", 404, "no run is called 'nowhere' here"),
        ("a=many&b=junk", 404, "not a readable ledger"),
        ("a=many&b=empty", 409, "an empty run"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_line(client: Any, query: str, code: int, said: str) -> None:
    response = client.get(f"/compare?{query}")
    assert response.status_code == code
    assert said in text(response)


def test_hostile_prompts_are_inert(client: Any) -> None:
    response = client.get("/run/many/?page=3")
    assert HOSTILE in text(response)
    assert "<script" not in response.get_data(as_text=True)
    found = client.get("/run/many/", query_string={"text": HOSTILE})
    assert "<script" not in found.get_data(as_text=True)
    assert "2 pairs that match" in text(found)
    assert "<script" not in client.get("/run/<script>/").get_data(as_text=True)


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    from bench.serve.app import make_app

    assert "No run is here yet" in text(make_app(tmp_path).test_client().get("/"))


def test_one_runs_folder_is_a_list_of_one(finished: Run) -> None:
    from bench.serve.app import make_app

    page = make_app(finished.folder).test_client()
    assert "1 in " in text(page.get("/"))
    assert page.get(f"/run/{finished.folder.name}/").status_code == 200
