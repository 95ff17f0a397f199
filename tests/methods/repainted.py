"""What the tests of RePaint share: the published schedule, enumerated."""

from __future__ import annotations

from itertools import pairwise


def walk(steps: int, length: int, times: int) -> list[int]:
    """The levels that the published schedule walks along, enumerated: N - 1 down to 0, then -1, which is the image."""
    left = {t: times - 1 for t in range(0, steps - length, length)}
    t, found = steps - 1, [steps - 1]
    while t >= 0:
        if left.get(t, 0):
            left[t] -= 1
            t += length
        else:
            t -= 1
        found.append(t)
    return found


def calls(levels: list[int]) -> int:
    return sum(here > following for here, following in pairwise(levels))
