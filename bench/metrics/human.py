"""People's votes as a metric: nothing computes it, `bench score RUN --metric human --votes FILE` reads it."""

from __future__ import annotations

from bench import kinship
from bench.metrics.base import MetricEntry
from bench.registry import add_plugin

NAME = "human"

add_plugin(
    "metrics",
    NAME,
    MetricEntry(
        NAME,
        title="Human votes",
        unit="wins less losses",
        load=None,
        identify=lambda: "votes-1",
        scale="-1 to 1 a pair; the baseline is 0",
        partial=True,
        kind="pair",
        about="blind votes from the report's image browser, read by `bench score`",
        license="no weights",
        blind_to="whatever its voters did not look at; it knows only the pairs that were voted on",
        unfit_for="methods that a voter can tell by their look, so that votes are not blind",
        made_of=(kinship.Trait("labels", "the voters of this run"),),
    ),
    "bench",
)
