"""A score is checked when it arrives; a broken row is named, can be dropped, and is scored again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Bench, Plug, Run
from damaged import whole
from ledgers import write_ledger

from bench.errors import UserError
from bench.metrics.base import MetricEntry, Value
from bench.store import Ledger

ROW = ("d" * 64, "p", "m", "s")


@pytest.mark.parametrize("value", [np.float32(0.5), np.float16(0.5), np.int64(1), 1, np.array(0.25)])
def test_a_number_of_any_kind_is_kept_as_a_number(tmp_path: Path, value: Any) -> None:
    ledger = Ledger(tmp_path / "run", create=True)
    ledger.put_scores([(*ROW, value, "{}", 1.0)])
    ledger.put_pair_scores([("d", "b", "p", "m", "s", value, "{}", None)])
    for table in ("scores", "pair_scores"):
        assert ledger.db.execute(f"SELECT typeof(value), value FROM {table}").fetchone() == ("real", float(value))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), np.float32("inf"), None, "much"])
def test_what_is_no_number_never_gets_into_a_ledger(tmp_path: Path, value: Any) -> None:
    ledger = Ledger(tmp_path / "run", create=True)
    with pytest.raises((ValueError, TypeError)):
        ledger.put_scores([(*ROW, value, "{}", 1.0)])
    assert not [*ledger.scores()]


class Numpy:
    """Gives numpy's numbers, infinity for the first image, and details that JSON has no form for."""

    def score(self, images: Sequence[np.ndarray], prompts: Any) -> list[Value]:
        detail = {"mean": np.float32(1), "of": np.ones(2)}
        return [Value(np.float32(np.inf if k == 0 else i.mean()), detail) for k, i in enumerate(images)]


def test_a_scorer_of_numpys_numbers_is_kept_and_infinity_is_one_scores_fault(
    bench: Bench, finished: Run, tmp_path: Path, plug: Plug
) -> None:
    run = finished.copy(tmp_path)
    entry = MetricEntry("numpy", "Numpy", "levels", lambda device: Numpy(), lambda: "numpy-1")
    plug("metrics", numpy=entry)
    done = bench("score", run.folder, "--metric", "numpy", "--device", "cpu")
    assert done.code == 3
    assert "scores of numpy; the first: " in done.err
    assert "its score is not finite (inf)" in done.err
    kinds = run.rows("SELECT DISTINCT typeof(value), detail FROM scores WHERE metric = 'numpy'")
    assert {kind for kind, _ in kinds} == {"real"}
    assert {json.dumps(json.loads(detail)) for _, detail in kinds} == {'{"mean": 1.0, "of": [1.0, 1.0]}'}
    assert bench("report", run.folder).code == 0


def test_a_broken_row_is_named_dropped_and_scored_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    """As older versions wrote it: a blob in the place of a number, and infinity."""
    run = finished.copy(tmp_path)
    before = run.scores("shapes-clipscore")
    ledger = Ledger(run.folder)
    of = "metric = 'shapes-clipscore'"
    keys = ledger.db.execute(f"SELECT digest, prompt FROM scores WHERE {of} ORDER BY 1").fetchall()
    for key, value in zip(keys, (np.float32(0.5).tobytes(), float("inf")), strict=False):
        ledger.db.execute(f"UPDATE scores SET value = ? WHERE digest = ? AND prompt = ? AND {of}", (value, *key))
    ledger.close()
    (run.folder / "SHA256SUMS").unlink()
    others = (("report", run.folder), ("gate", run.folder), ("compare", run.folder, finished.folder))
    for command in (*others, run.arguments()):
        done = bench(*command)
        assert done.code == 2
        assert "scores: 2 broken rows; the first: shapes-clipscore of image " in done.error
        assert f"`python -m bench verify {run.folder} --drop` removes what is broken" in done.error
    assert "scores: 2 broken rows" in bench("verify", run.folder).out
    assert bench("verify", run.folder, "--drop").code == 0
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert run.scores("shapes-clipscore") == pytest.approx(before, rel=1e-5), "of another batch of images"
    assert whole(run)


def test_a_ledger_of_absurd_values_is_refused_column_by_column(tmp_path: Path) -> None:
    """One row of each table, each with one column out of range: all are found."""
    changes = [
        ("images", "sampling_ms = -1"), ("images", "sampling_ms = 9e300"), ("images", "calls_sampling = 'x'"),
        ("images", "cost = '{'"), ("images", "digest = x'ff'"), ("images", "from_cache = 7"),
        ("images", "file = ''||x'01'"),
        ("cells", "steps = 1.5"), ("cells", "guidance = 'a'"), ("cells", "metadata = '{'"), ("cells", "seed = -4"),
        ("cells", "prompt = CAST(x'ff41' AS TEXT)"), ("scores", "value = 8e76"), ("scores", "ms = -2"),
        ("scores", "detail = 'x'"), ("meta", "value = '{\"a\"'"), ("sessions", "provenance = '[1'"),
        ("sessions", "stages = x'00'"),
    ]  # fmt: skip
    folder = tmp_path / "run"
    write_ledger(folder, lambda *_: 0.5, prompts=2).close()
    data = (folder / "ledger.sqlite").read_bytes()
    for table, change in changes:
        (folder / "ledger.sqlite").write_bytes(data)
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        ledger = Ledger(folder, checked=False)
        where = "" if table == "sessions" else f" WHERE rowid = (SELECT min(rowid) FROM {table})"
        where = " WHERE digest = (SELECT min(digest) FROM scores)" if table == "scores" else where
        where = " WHERE key = 'optimises'" if table == "meta" else where
        ledger.db.execute(f"UPDATE {table} SET {change}{where}")
        ledger.db.close()
        with pytest.raises(UserError, match=f"{table}: [12] broken rows?; the first: "):
            Ledger(folder, read_only=True)
