"""What a run was made with, and what its stages took: as its ledger has it, whatever version wrote it.

Ledgers of other versions may lack any of it, and may say more; what no field is for is left out.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field

from bench.records.base import Count, Record


class KeptImages(Record):
    """Images of other code than today's that the run keeps (--keep-images)."""

    model_config = ConfigDict(extra="ignore")

    images: Count
    """How many."""
    of: Count
    """All images of the run."""
    changed: tuple[str, ...]
    """What has changed since, such as `method inversion`."""
    made_by: tuple[str, ...]
    """Commits or versions that made them."""


class PluginCode(Record):
    """What the code of one plugin is."""

    digest: str
    """Of the source, and of what it imports from its package."""
    distribution: str | None = None
    """The package that it came in."""
    version: str | None = None
    """That package's version."""
    without_source: tuple[str, ...] = ()
    """Modules without source, such as compiled ones: the version stands for them."""


class Provenance(Record):
    """What the run's last session worked with; empty for a run without a session."""

    model_config = ConfigDict(extra="ignore")

    version: str | None = None
    """Of this package."""
    commit: str | None = None
    """Of the checkout; None for an installed package."""
    dirty: bool | None = None
    """Whether tracked files differed from the commit."""
    command: str | None = None
    """The command line."""
    python: str | None = None
    """Version of Python."""
    platform: str | None = None
    """Operating system and architecture."""
    packages: dict[str, str | None] = Field(default_factory=dict)
    """Versions of what can move a result; None where a package is absent."""
    hardware: str | None = None
    """What latencies are only comparable within: the GPU, or processor and threads."""
    cpu: str | None = None
    """The processor and its cores."""
    device: str | None = None
    """As torch names it, such as `cuda` or `cpu`."""
    weights: dict[str, str] = Field(default_factory=dict)
    """Digests of models, named weights or scorers, by name."""
    code: dict[str, PluginCode] = Field(default_factory=dict)
    """What makes the images, by kind and name, such as `method inversion`."""
    kept_images: KeptImages | None = None
    """Images of other code that the run keeps; missing where there are none."""
    batch_sizes: tuple[Count, ...] = ()
    """Images a batch, of all sessions that made some: an image's low bits depend on it. Missing in older runs."""


class Generated(Record):
    """How the images were made; times only where any were."""

    model_config = ConfigDict(extra="ignore")

    made: Count = 0
    """Images made in that session."""
    found: Count = 0
    """Images that were there before."""
    failed: Count = 0
    """Images that could not be made."""
    seconds: float | None = None
    """From the first batch to the last image written."""
    load_seconds: float | None = None
    """Loading of models, not in `seconds`."""
    warmup_seconds: float | None = None
    """Throwaway batches, not in `seconds`."""
    compile_seconds: float | None = None
    """What of loading, warming up and sampling `torch.compile` took; missing where nothing is compiled."""
    executor: str | None = None
    """What ran the batches, such as `local` or `ray`; missing in older runs."""
    workers: Count | None = None
    """Its processes beside this one; 0 where this one made the images."""
    start_seconds: float | None = None
    """Waiting for workers to start, not in `seconds`."""
    stages: dict[str, float] = Field(default_factory=dict)
    """Seconds by stage, summed over workers."""
    device: str | None = None
    """As torch names it, such as `cuda` or `cpu`."""
    inside: dict[str, float] = Field(default_factory=dict)
    """Seconds inside each network."""
    efficiency: float | None = None
    """Share of `seconds` that is inside the networks."""


class Stages(Record):
    """What the stages of the run's last finished session took."""

    model_config = ConfigDict(extra="ignore")

    generate: Generated | None = None
    """Making the images; missing where they were made elsewhere."""
    judge_seconds: dict[str, float] = Field(default_factory=dict)
    """Judging among candidates, by metric."""
    score_seconds: dict[str, float] = Field(default_factory=dict)
    """Scoring of the images, by metric."""
    memory_seconds: float | None = None
    """Measuring the methods' memory; missing where it was not asked for."""
    seconds: float | None = None
    """The whole session."""


class RunPlace(Record):
    """Where a run lies, and of which suite it is."""

    folder: str
    """The folder's name."""
    path: str
    """The folder, seen from the report's."""
    suite: str
    """The suite's name."""
    id: str
    """The suite's id."""


class RunSummary(Record):
    """A run folder, and how it was made."""

    folder: str
    """The folder's name."""
    created: str
    """When its first session started: ISO 8601, UTC."""
    provenance: Provenance
    """What its last session worked with."""
    sessions: Count
    """How often it was started or resumed."""
    stages: Stages
    """What its last finished session took."""
    finished: bool
    """Whether every arm of these results is complete."""


class RunRecord(RunSummary, RunPlace):
    """One of the runs that these results are of."""

    def summary(self) -> RunSummary:
        """Without its place and suite, as results have of their first run."""
        return RunSummary(**{name: getattr(self, name) for name in RunSummary.model_fields})
