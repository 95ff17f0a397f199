"""Which way a metric is better: the one place where a sign is turned."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast

Number = TypeVar("Number", bound=Any)


class Directed(Protocol):
    """A metric's entry, its row in results, or a frozen one."""

    @property
    def higher_is_better(self) -> bool: ...


def sign(of: Directed | bool) -> int:
    """1 where higher values are better, -1 where lower ones are; of a metric, or of its `higher_is_better`."""
    return 1 if (of if isinstance(of, bool) else of.higher_is_better) else -1


def gain(change: Number, of: Directed | bool) -> Number:
    """A change of a metric's value, a number or an array, turned so that more is better."""
    return cast(Number, sign(of) * change)
