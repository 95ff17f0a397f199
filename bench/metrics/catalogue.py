"""Metrics of the paper whose scorers are not built yet: known by name, unit and scale, so that suites can plan."""

from __future__ import annotations

from bench.metrics.base import MetricEntry
from bench.registry import add_plugin

add_plugin(
    "metrics",
    "geneval",
    MetricEntry(
        "geneval",
        title="GenEval",
        unit="share of right images",
        load=None,
        identify=lambda: "geneval-unbuilt",
        scale="0 to 1",
        needs_metadata=True,
        about="Mask2Former boxes under the public rules (scorer not built yet)",
    ),
    "bench",
)
