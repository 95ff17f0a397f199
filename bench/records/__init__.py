"""Everything that results.json holds, as typed records; its JSON schema is generated from them.

`read(path)` gives the `Results` of a file of any version, `Results.text()` is what a file holds. A record is frozen and
refuses a name that it does not have, so what is read here is what is written. All intervals are 95 %, paired and
clustered by prompt; None stands for what was not measured or could not be said.
"""

from bench.records.arm_rows import ArmRow, Cost, Mean, Ratio, Ratios, Shared, Sibling
from bench.records.base import Labels, Record, Setting
from bench.records.comparison_rows import (
    CategoryRow,
    ComparisonRow,
    EqualComputeRow,
    EqualDelta,
    PartRow,
    Reference,
    SeedRow,
    TaskMean,
    TaskRow,
)
from bench.records.document import (
    ControlRow,
    FailedImage,
    FailedRow,
    MetricRow,
    PairRow,
    Results,
    SuiteRecord,
)
from bench.records.load import read
from bench.records.run_records import Generated, KeptImages, Provenance, RunRecord, RunSummary, Stages
from bench.records.upgrades import SCHEMA

__all__ = [
    "SCHEMA", "ArmRow", "CategoryRow", "ComparisonRow", "ControlRow", "Cost", "EqualComputeRow", "EqualDelta",
    "FailedImage", "FailedRow", "Generated", "KeptImages", "Labels", "Mean", "MetricRow", "PairRow", "PartRow",
    "Provenance", "Ratio", "Ratios", "Record", "Reference", "Results", "RunRecord", "RunSummary", "SeedRow", "Setting",
    "Shared", "Sibling", "Stages", "SuiteRecord", "TaskMean", "TaskRow", "read",
]  # fmt: skip
