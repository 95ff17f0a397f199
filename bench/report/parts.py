"""The parts of records that words and tables read: of results, and of two runs compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar


class Sampled(Protocol):
    """A row under one setting."""

    @property
    def model(self) -> str: ...
    @property
    def sampler(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def guidance(self) -> float: ...


class Labelled(Sampled, Protocol):
    """A row of one arm."""

    @property
    def prompts(self) -> str: ...
    @property
    def method(self) -> str: ...


class Counted(Labelled, Protocol):
    """An arm with its images."""

    @property
    def n(self) -> int: ...
    @property
    def n_expected(self) -> int: ...
    @property
    def complete(self) -> bool: ...


class Marked(Protocol):
    """What may be no evidence, or no independent evidence."""

    @property
    def marked(self) -> bool: ...
    @property
    def sibling(self) -> bool: ...


class Bounded(Protocol):
    """An interval."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class Delta(Labelled, Marked, Bounded, Protocol):
    """A comparison by one metric."""

    @property
    def metric(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def n_prompts(self) -> int | None: ...
    @property
    def complete(self) -> bool: ...
    @property
    def delta(self) -> float | None: ...
    @property
    def p_holm(self) -> float | None: ...
    @property
    def win_rate(self) -> float | None: ...
    @property
    def win_low(self) -> float | None: ...
    @property
    def win_high(self) -> float | None: ...
    @property
    def detectable(self) -> float | None: ...


class Against(Delta, Protocol):
    """A comparison that says what with."""

    @property
    def baseline(self) -> str: ...


class Metric(Protocol):
    """What a metric is."""

    @property
    def title(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...


class Compared(Protocol):
    """Comparisons, and the metrics and arms that they are of."""

    @property
    def metrics(self) -> Mapping[str, Metric]: ...
    @property
    def arms(self) -> Sequence[Counted]: ...
    @property
    def comparisons(self) -> Sequence[Delta]: ...


AnyLabelled = TypeVar("AnyLabelled", bound=Labelled)
AnyDelta = TypeVar("AnyDelta", bound=Delta)
