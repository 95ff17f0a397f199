"""What is read from a ledger: every question that another stage asks of it, answered in typed rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bench.store.rows import (
    ArmCells,
    ArmKey,
    Cell,
    CellImage,
    Failed,
    Feature,
    Image,
    Memory,
    PairScore,
    Score,
    Scorer,
    Session,
    Setting,
    Shown,
    Unscored,
)

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = tuple(f.name for f in fields(Image))
SCORE_TABLES = ("scores", "pair_scores", "features")
_ARM = "method, model, prompts, sampler, steps, guidance"
_OF_ARM = "method = ? AND model = ? AND prompts = ? AND sampler = ? AND steps = ? AND guidance = ?"
_PLACE = "model, sampler, steps, guidance, prompts, prompt_index, seed"
_LOOKED = 50_000
"""Scores that are read at once."""


class Reader:
    """The questions; `db` is an open ledger that has all its tables."""

    db: sqlite3.Connection

    def get(self, key: str) -> Any:
        """The JSON value under a name; None where there is none."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        try:
            return None if row is None else json.loads(row[0])
        except (TypeError, ValueError) as error:
            raise sqlite3.DatabaseError(f"its value {key!r} is no JSON") from error

    def table(self, name: str) -> pd.DataFrame:
        """A whole table of `schema.TABLES`."""
        import pandas as pd

        return pd.read_sql_query(f"SELECT * FROM {name}", self.db)

    # Cells -----------------------------------------------------------------------------------------------------------

    def cells(self, *, by_arm: bool = False) -> Iterator[Cell]:
        """Every cell in the suite's order, or one arm's after the other, by prompt and seed."""
        order = "model, sampler, steps, guidance, method, prompts, prompt_index, seed" if by_arm else "rowid"
        return map(Cell._make, self.db.execute(f"SELECT {', '.join(Cell._fields)} FROM cells ORDER BY {order}"))

    def made_cells(self) -> Iterator[tuple[Cell, str, str]]:
        """(cell, file, digest) of every cell whose image is there."""
        query = f"SELECT {', '.join(Cell._fields)}, file, digest FROM cells JOIN images USING (job_id)"
        return ((Cell._make(row), file, digest) for *row, file, digest in self.db.execute(query))

    def arms(self) -> list[ArmCells]:
        """Every arm with its number of cells, in the suite's order."""
        query = f"SELECT {_ARM}, COUNT(*) FROM cells GROUP BY {_ARM} ORDER BY MIN(rowid)"
        return [*map(ArmCells._make, self.db.execute(query))]

    def arm(self, of: ArmKey) -> list[CellImage]:
        """The cells of one arm with what their images cost, by prompt and seed."""
        columns = ", ".join(CellImage._fields)
        query = f"SELECT {columns} FROM cells LEFT JOIN images USING (job_id) WHERE {_OF_ARM} "
        return [*map(CellImage._make, self.db.execute(query + "ORDER BY prompt_index, seed", of))]

    def digests(self, of: ArmKey) -> dict[tuple[int, int], str]:
        """By (prompt index, seed), the digest of each image of an arm."""
        query = f"SELECT prompt_index, seed, digest FROM cells JOIN images USING (job_id) WHERE {_OF_ARM}"
        return {(index, seed): digest for index, seed, digest in self.db.execute(query, of)}

    def page(
        self, method: str, *, prompts: str = "", setting: Setting | None = None, text: str = "", start: int, most: int
    ) -> list[Cell]:
        """At most `most` cells of a method from number `start` on, by setting, set, prompt and seed.

        Of one prompt set or setting, or whose prompt has a text in it, upper and lower case the same.
        """
        where, values = _wanted(method, prompts, setting, text)
        query = f"SELECT {', '.join(Cell._fields)} FROM cells WHERE {where} ORDER BY {_PLACE} LIMIT ? OFFSET ?"
        return [*map(Cell._make, self.db.execute(query, [*values, most, start]))]

    def count(self, method: str, *, prompts: str = "", setting: Setting | None = None, text: str = "") -> int:
        """How many cells `page` has to show."""
        where, values = _wanted(method, prompts, setting, text)
        return int(self.db.execute(f"SELECT COUNT(*) FROM cells WHERE {where}", values).fetchone()[0])

    def shown(self, cell: Cell, methods: Sequence[str]) -> list[Shown]:
        """The images of some methods at the place of a cell."""
        some = ", ".join("?" * len(methods))
        where = " AND ".join(f"{name} = ?" for name in _PLACE.split(", "))
        query = f"SELECT {', '.join(Shown._fields)} FROM cells LEFT JOIN images USING (job_id) WHERE method IN ({some})"
        place = [getattr(cell, name) for name in _PLACE.split(", ")]
        return [*map(Shown._make, self.db.execute(f"{query} AND {where}", [*methods, *place]))]

    # Images ----------------------------------------------------------------------------------------------------------

    def images(self) -> dict[str, Image]:
        """Every finished image by job id."""
        query = self.db.execute(f"SELECT {','.join(IMAGE_COLUMNS)} FROM images")
        return {row[0]: Image(*row) for row in query}

    def memory(self) -> list[Memory]:
        """The memory of every arm that was measured, or of which it was tried, by itself."""
        return [*map(Memory._make, self.db.execute(f"SELECT {', '.join(Memory._fields)} FROM memory"))]

    def file(self, job_id: str) -> str | None:
        """Where an image is, relative to the run folder; None where it is not made."""
        row = self.db.execute("SELECT file FROM images WHERE job_id = ?", (job_id,)).fetchone()
        return None if row is None else str(row[0])

    def files(self) -> list[str]:
        """The file of every cell whose image was made."""
        return [file for (file,) in self.db.execute("SELECT file FROM cells JOIN images USING (job_id)")]

    def n_images(self) -> int:
        """How many cells have their image."""
        return int(self.db.execute("SELECT COUNT(*) FROM cells JOIN images USING (job_id)").fetchone()[0])

    def failures(self) -> dict[str, str]:
        """Why images could not be made, by job id."""
        return dict(self.db.execute("SELECT job_id, reason FROM failures"))

    def failed(self) -> Iterator[Failed]:
        """Every cell whose image could not be made, in the suite's order."""
        columns = ", ".join(Failed._fields)
        query = f"SELECT {columns} FROM cells JOIN failures USING (job_id) ORDER BY cells.rowid"
        return map(Failed._make, self.db.execute(query))

    def sessions(self) -> list[Session]:
        """Every session of work, the first one first."""
        query = "SELECT started, provenance, stages FROM sessions ORDER BY id"
        return [
            Session(started, json.loads(provenance), json.loads(stages) if stages else None)
            for started, provenance, stages in self.db.execute(query)
        ]

    # Scores ----------------------------------------------------------------------------------------------------------

    def scores(self) -> Iterator[Score]:
        """Every value of an image."""
        return map(Score._make, self.db.execute(f"SELECT {', '.join(Score._fields)} FROM scores"))

    def pair_scores(self) -> Iterator[PairScore]:
        """Every value of a pair."""
        return map(PairScore._make, self.db.execute(f"SELECT {', '.join(PairScore._fields)} FROM pair_scores"))

    def features(self) -> Iterator[Feature]:
        """Features of every image that a set metric has seen."""
        return map(Feature._make, self.db.execute(f"SELECT {', '.join(Feature._fields)} FROM features"))

    def scored(self, metric: str, scorer: str) -> AbstractSet[tuple[str, str]]:
        """(image digest, prompt key) pairs that a scorer has judged."""
        return self._judged("digest, prompt", "scores", metric, scorer)

    def paired(self, metric: str, scorer: str) -> AbstractSet[tuple[str, str, str]]:
        """(image digest, baseline's digest, prompt key) of what a scorer of pairs has judged."""
        return self._judged("digest, baseline, prompt", "pair_scores", metric, scorer)

    def featured(self, metric: str, scorer: str) -> AbstractSet[tuple[str, str]]:
        """(image digest, prompt key) pairs that a scorer of sets has taken features of."""
        return self._judged("digest, prompt", "features", metric, scorer)

    def _judged(self, columns: str, table: str, metric: str, scorer: str) -> AbstractSet[Any]:
        query = f"SELECT {columns} FROM {table} WHERE metric = ? AND scorer = ?"
        return set(self.db.execute(query, (metric, scorer)))

    def score_of(self, digest: str, prompt: str, metric: str, scorer: str) -> tuple[float, float | None] | None:
        """(value, milliseconds) of an image by a scorer; None where there is no score."""
        query = "SELECT value, ms FROM scores WHERE digest = ? AND prompt = ? AND metric = ? AND scorer = ?"
        found: tuple[float, float | None] | None = self.db.execute(query, (digest, prompt, metric, scorer)).fetchone()
        return found

    def why_unscored(self, digest: str, metric: str, scorer: str) -> str | None:
        """Why an image has no score by a scorer; None where none failed."""
        query = "SELECT reason FROM score_failures WHERE digest = ? AND metric = ? AND scorer = ?"
        row = self.db.execute(query, (digest, metric, scorer)).fetchone()
        return None if row is None else str(row[0])

    def unscored(self) -> Iterator[Unscored]:
        """Every score that failed, once for each cell that lacks it, in the suite's order."""
        query = """
            SELECT f.metric, f.scorer, c.prompts, c.prompt_index, c.seed, c.method, f.reason
            FROM score_failures f JOIN images i USING (digest) JOIN cells c USING (job_id) ORDER BY c.rowid"""
        return map(Unscored._make, self.db.execute(query))

    def scores_of_image(self, digest: str | None, prompt: str, baseline: str | None) -> list[tuple[str, str, float]]:
        """(metric, scorer, value) of one image, by metric; of a pair 2p - 1, against that baseline's image."""
        query = (
            "SELECT metric, scorer, value FROM scores WHERE digest = ? AND prompt = ? UNION ALL SELECT metric, scorer, "
            "2 * value - 1 FROM pair_scores WHERE digest = ? AND baseline = ? AND prompt = ? ORDER BY metric, scorer"
        )
        return self.db.execute(query, (digest, prompt, digest, baseline, prompt)).fetchall()

    def scores_of(self, scorers: Mapping[str, str]) -> int:
        """How many scores and features of the cells' images there are by these scorers (digests by metric)."""
        ours = "SELECT digest FROM cells JOIN images USING (job_id)"
        query = " UNION ALL ".join(
            f"SELECT count(*) AS n FROM {table} WHERE metric = ?1 AND scorer = ?2 AND digest IN ({ours})"
            for table in SCORE_TABLES
        )
        total = f"SELECT sum(n) FROM ({query})"
        return sum(int(self.db.execute(total, one).fetchone()[0]) for one in scorers.items())

    def scorers(self, metric: str) -> AbstractSet[str]:
        """Digests of the scorers by which a metric has scores or features."""
        query = " UNION ".join(f"SELECT DISTINCT scorer FROM {table} WHERE metric = ?1" for table in SCORE_TABLES)
        return {row[0] for row in self.db.execute(query, (metric,))}

    def judged_by(self, metric: str, scorer: str) -> bool:
        """Whether a scorer judged anything here; quick, where `all_scorers` reads all scores."""
        queries = (f"SELECT 1 FROM {table} WHERE metric = ? AND scorer = ? LIMIT 1" for table in SCORE_TABLES)
        return any(self.db.execute(query, (metric, scorer)).fetchone() for query in queries)

    def all_scorers(self) -> list[Scorer]:
        """Every scorer by table and metric; reads all scores."""
        counted = "metric, scorer, COUNT(*), SUM(ms), COUNT(ms)"
        parts = (f"SELECT {counted} FROM {table} GROUP BY metric, scorer" for table in SCORE_TABLES)
        return [*map(Scorer._make, self.db.execute(" UNION ALL ".join(parts)))]

    # Looking some images up ------------------------------------------------------------------------------------------

    def look_up(self, wanted: Iterable[tuple[str | None, str, str | None]]) -> None:
        """Say which (image digest, prompt key, baseline's digest) `found` and `found_features` are of, by number.

        A place without an image (None) is left out.
        """
        self.db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS wanted (row INTEGER PRIMARY KEY, digest TEXT, prompt TEXT, baseline TEXT)"
        )
        self.db.execute("DELETE FROM wanted")
        numbered = ((row, *one) for row, one in enumerate(wanted) if one[0] is not None)
        self.db.executemany("INSERT INTO wanted VALUES (?, ?, ?, ?)", numbered)

    def found(self, kind: str) -> Iterator[list[tuple[int, str, str, float]]]:
        """(number, metric, scorer, value) of what is looked up, many at once, of metrics of an `image` or a `pair`.

        Of a pair 2p - 1.
        """
        # CROSS JOIN holds SQLite to this order: from the wanted few into the scores, not through all of them.
        source = {
            "image": "value FROM wanted CROSS JOIN scores USING (digest, prompt)",
            "pair": "2 * value - 1 FROM wanted CROSS JOIN pair_scores USING (digest, baseline, prompt)",
        }[kind]
        read = self.db.execute(f"SELECT row, metric, scorer, {source}")
        while some := read.fetchmany(_LOOKED):
            yield some

    def found_features(self, metric: str, scorer: str) -> Iterator[tuple[int, bytes]]:
        """(number, features) of what is looked up."""
        source = "wanted CROSS JOIN features USING (digest, prompt)"
        query = f"SELECT row, features FROM {source} WHERE metric = ? AND scorer = ?"
        return iter(self.db.execute(query, (metric, scorer)))


def _wanted(method: str, prompts: str, setting: Setting | None, text: str) -> tuple[str, list[Any]]:
    terms: list[str] = ["method = ?"]
    given: list[Any] = [method]
    if prompts:
        terms.append("prompts = ?")
        given.append(prompts)
    if setting is not None:
        terms += [f"{name} = ?" for name in ("model", "sampler", "steps", "guidance")]
        given += setting
    if text:
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        terms.append("prompt LIKE ? ESCAPE '\\'")
        given.append(f"%{escaped}%")
    return " AND ".join(terms), given
