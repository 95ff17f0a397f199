"""Which way a metric is better: the one place where a sign is turned."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

Number = TypeVar("Number", bound=Any)


class Directed(Protocol):
    """A metric's entry, its row in results, or a frozen one."""

    @property
    def higher_is_better(self) -> bool: ...


def sign(of: Directed) -> int:
    """1 where higher values are better, -1 where lower ones are."""
    return 1 if of.higher_is_better else -1


def gain(change: Number, of: Directed) -> Number:
    """A change of a metric's value, a number or an array, turned so that more is better."""
    turned: Number = change if of.higher_is_better else -change
    return turned
