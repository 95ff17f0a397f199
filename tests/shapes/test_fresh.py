"""Fresh captions: of the evaluation buckets, in no shipped set, drawn again from their seed."""

import json
from collections import Counter
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.prompts import own
from bench.shapes import fresh
from bench.shapes.captions import SPLITS, bucket
from bench.shapes.prompt_sets import FILE, MIX

COMMITTED = Path(__file__).parents[2] / "suites" / "captions" / "npnet_trainings.jsonl"


def test_fresh_captions_are_in_no_set_and_in_no_bucket_of_training():
    shipped = {row["prompt"] for rows in json.loads(FILE.read_text()).values() for row in rows}
    found = [row["prompt"] for row in fresh.fresh(5, 1)]
    assert len(set(found)) == len(found) == 100
    assert not shipped & set(found)
    apart = {*SPLITS["train"], *SPLITS["scorers"], *SPLITS["validation"]}
    assert not apart & {bucket(prompt) for prompt in found}


def test_the_mix_of_tasks_is_that_of_the_evaluation_sets():
    assert Counter(row["tag"] for row in fresh.fresh(5, 2)) == {tag: 2 * n for tag, n in MIX.items()}


def test_captions_used_before_are_left_out():
    first = {row["prompt"] for row in fresh.fresh(5, 1)}
    again = {row["prompt"] for row in fresh.fresh(5, 1, without=first)}
    assert len(again) == 100
    assert not first & again


def test_more_captions_than_the_grammar_has_are_refused_with_their_number(monkeypatch):
    monkeypatch.setattr(fresh, "TRIES", 300)
    with pytest.raises(UserError, match=r"single_object.* 1000 .*--sets"):
        fresh.fresh(5, 100)


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    out = tmp_path / "captions.jsonl"
    assert fresh.write(out, 5, 1) == 100
    assert len(own.read(out)) == 100
    with pytest.raises(UserError, match="is there already"):
        fresh.write(out, 6, 1)


def test_the_committed_captions_are_what_their_seed_draws():
    lines = [json.loads(line) for line in COMMITTED.read_text().splitlines()]
    assert lines == fresh.fresh(20261128)
