"""The images of runs as columns: their digests and files, what they cost, and in which run each lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.store import CALLS, TIMES, Ledger, Memory, columns
from bench.store.rows import EVALUATIONS, Setting

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_NUMBERS = (*TIMES, *CALLS, "peak_bytes", "from_cache", *EVALUATIONS)
_KINDS = ("hardware", "peak_kind")
_WORDS = ("job_id", "digest", "file", *_KINDS)


class Images:
    """Every image of the runs as columns: `numbers[name]` (n,), `words[name]` and the `run` that each lies in."""

    def __init__(self) -> None:
        self.words: dict[str, list[Any]] = {name: [] for name in _WORDS}
        self.run: list[int] = []
        self.memory: dict[tuple[Setting, str], Memory] = {}
        """By setting and method, what was measured of it apart; of several runs the first one's."""
        self.numbers: dict[str, Floats] = {name: np.empty(0) for name in _NUMBERS}
        self.kinds: dict[str, Ints] = {name: np.empty(0, np.int64) for name in _KINDS}
        """Hardware and kind of memory as numbers (n,), equal where the words are."""
        self._known: dict[str, dict[Any, int]] = {name: {} for name in _KINDS}

    def read(self, ledger: Ledger, run: int) -> dict[str, int]:
        """Add a ledger's images; returns the row of each by its job id."""
        before, found = len(self.run), columns.image_costs(ledger)
        for name, words in self.words.items():
            words += found[name]
        for name, numbers in self.numbers.items():
            self.numbers[name] = np.concatenate([numbers, np.array(found[name], dtype=np.float64)])
        for name, known in self._known.items():
            known |= {word: i for i, word in enumerate(dict.fromkeys([*known, *found[name]]))}
            kinds = np.fromiter(map(known.__getitem__, found[name]), np.int64, len(found[name]))
            self.kinds[name] = np.concatenate([self.kinds[name], kinds])
        self.run += [run] * len(found["job_id"])
        for one in ledger.memory():
            self.memory.setdefault((one.setting, one.method), one)
        return {job: before + i for i, job in enumerate(found["job_id"])}

    def different(self, kind: str, rows: Ints) -> set[Any]:
        """The hardware, or the kinds of memory, of some images, each once."""
        _, first = np.unique(self.kinds[kind][rows], return_index=True)
        return {self.words[kind][row] for row in rows[first]}
