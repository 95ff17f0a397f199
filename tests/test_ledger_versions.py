"""Ledgers of every earlier version: what they lack is added, or read as if it were there."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from ledgers import write_ledger

from bench.store import Ledger, columns, schema
from bench.store.rows import Session

FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE cells (
  method TEXT, model TEXT, prompts TEXT, sampler TEXT, steps INTEGER, guidance REAL,
  prompt_index INTEGER, seed INTEGER, prompt TEXT, category TEXT, metadata TEXT, job_id TEXT,
  PRIMARY KEY (method, model, prompts, sampler, steps, guidance, prompt_index, seed));
CREATE TABLE images (
  job_id TEXT PRIMARY KEY, digest TEXT NOT NULL, file TEXT NOT NULL, chosen_from TEXT,
  calls_noise INTEGER, calls_sampling INTEGER, encode_ms REAL, noise_ms REAL, sampling_ms REAL, decode_ms REAL,
  peak_bytes INTEGER, peak_kind TEXT, batch INTEGER, hardware TEXT, latent_digest TEXT, from_cache INTEGER,
  created TEXT);
CREATE TABLE scores (
  digest TEXT, prompt TEXT, metric TEXT, scorer TEXT, value REAL NOT NULL, detail TEXT, ms REAL,
  PRIMARY KEY (digest, prompt, metric, scorer)) WITHOUT ROWID;
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, started TEXT, ended TEXT, provenance TEXT, stages TEXT);
INSERT INTO meta VALUES ('schema', '1');
INSERT INTO cells VALUES ('standard', 'm', 'p', 'ddim', 4, 5.0, 0, 0, 'a red circle', 'colors', NULL, 'j');
INSERT INTO images VALUES (
  'j', 'd', 'images/j.png', NULL, 0, 4, 1.5, 0.25, 8.0, 0.5, NULL, 'rss', 1, 'a cpu', 'l', 0, '');
INSERT INTO scores VALUES ('d', 'k', 'quality', 's', 0.5, '{}', 1.0);
INSERT INTO sessions VALUES (1, '2026-11-22', NULL, '{"commit": "c0ffee"}', NULL);
"""
"""As the first version wrote it."""


def layout(ledger: Ledger) -> dict[str, list[tuple[str, str]]]:
    """Names and kinds of the columns of every table, as they are read."""
    every = ("meta", *schema.TABLES)
    return {name: [(row[1], row[2]) for row in ledger.db.execute(f"PRAGMA table_info({name})")] for name in every}


def without(ledger: Ledger, additions: Sequence[schema.Table | schema.Column]) -> None:
    """Turn a ledger into one from before these additions."""
    for one in additions:
        drop = f"TABLE {one.name}" if isinstance(one, schema.Table) else f"images DROP COLUMN {one.name}"
        ledger.db.execute(f"{'DROP' if isinstance(one, schema.Table) else 'ALTER TABLE'} {drop}")


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("had", range(len(schema.ADDITIONS) + 1))
def test_a_ledger_of_every_earlier_state_is_read_as_todays(tmp_path: Path, had: int, *, read_only: bool) -> None:
    """With `had` of the additions: what a version of then wrote has today's columns, and defaults in the new ones."""
    today = Ledger(tmp_path / "today", create=True)
    old = write_ledger(tmp_path / "old", lambda *_: 1.0, prompts=2)
    images, scores = old.images(), [*old.scores()]
    without(old, schema.ADDITIONS[had:])
    old.close()
    before = (tmp_path / "old" / "ledger.sqlite").read_bytes()
    found = Ledger(tmp_path / "old", read_only=read_only)
    names = {table: [name for name, _ in columns] for table, columns in layout(found).items()}
    assert names == {table: [name for name, _ in columns] for table, columns in layout(today).items()}
    assert found.images() == images
    assert [*found.scores()] == scores
    assert [*found.pair_scores(), *found.features(), *found.unscored()] == []
    assert not found.failures()
    if read_only:
        assert (tmp_path / "old" / "ledger.sqlite").read_bytes() == before
    else:
        found.put_failures([("j", "why", "when")])
        found.put_score_failures([("d", "", "p", "m", "s", "why", "when")])
        assert layout(found) == layout(today)
    found.close()


def test_the_layout_of_a_ledger_changes_by_additions_only() -> None:
    """Frozen: runs of every version have it. A new column or table is a new last entry of `ADDITIONS`; anything else is
    another SCHEMA, with the way from this one."""
    described = "\n".join([str(schema.SCHEMA), schema.FIRST, *map(repr, schema.ADDITIONS)])
    assert hashlib.sha256(described.encode()).hexdigest()[:16] == "146a758070f8b1c8"


def test_a_run_folder_of_the_first_ledgers_is_opened_by_todays(tmp_path: Path) -> None:
    """Written out by hand as the first version wrote it, with a cell, its image, a score and a session."""
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    db.executescript(FIRST)
    db.commit()
    db.close()
    for read_only in (True, False):
        found = Ledger(tmp_path, read_only=read_only)
        assert [cell.job_id for cell in found.cells()] == ["j"]
        image = found.images()["j"]
        assert (image.sampling_ms, image.select_ms, image.cost, image.facts, image.origin) == (8.0, 0.0, "{}", "{}", "")
        costs = columns.image_costs(found)
        shown = [costs[name] for name in ("calls_sampling", "select_ms", "backwards", "rewards")]
        assert shown == [(4,), (0,), (0,), (0,)]
        assert [score.value for score in found.scores()] == [0.5]
        assert found.sessions() == [Session("2026-11-22", {"commit": "c0ffee"}, None)]
        found.close()
