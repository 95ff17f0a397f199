"""What a method that chooses among images asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """One image that a choosing method wants made: the job's own with another seed and step count.

    `steps` is a step count, else the job's own divided by `divide` and rounded down, at least one.
    """

    seed: int
    steps: int | None = None
    divide: int = 1

    def steps_of(self, steps: int) -> int:
        """The candidate's step count where the job has `steps`."""
        return self.steps or max(1, steps // self.divide)
