"""Metrics of the paper whose scorers are not built yet: known by name, unit and scale, so that suites can plan."""

from __future__ import annotations

from functools import partial

from bench.metrics.base import MetricEntry
from bench.registry import add_plugin

for _name, _title, _unit, _scale, _about in (
    ("imagereward", "ImageReward", "standard deviations", "the paper prints it times 100", "ImageReward-v1.0"),
    ("geneval", "GenEval", "share of right images", "0 to 1", "Mask2Former boxes under the public rules"),
):
    add_plugin(
        "metrics",
        _name,
        MetricEntry(
            _name,
            title=_title,
            unit=_unit,
            load=None,
            identify=partial(str.format, "{}-unbuilt", _name),
            scale=_scale,
            needs_metadata=_name == "geneval",
            about=_about + " (scorer not built yet)",
        ),
        "bench",
    )
