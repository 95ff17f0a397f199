"""Which code of this project decides pixels or scores: said here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

DECIDES = (
    "bench.store.images",
    "bench.methods",
    "bench.metrics",
    "bench.models",
    "bench.sampling.noise",
    "bench.prompts.control",
    "bench.samplers",
    "bench.sampling",
    "bench.shapes.captions",
    "bench.shapes.detector",
    "bench.shapes.judge_twins",
    "bench.shapes.scenes",
    "bench.shapes.scorers",
    "bench.shapes.sets",
    "bench.shapes.stylist",
    "bench.shapes.tokenizer",
    "bench.shapes.votes",
    "npnet.method",
    "npnet.network",
)
"""Packages and modules of this project that decide pixels or scores, when something that does imports them."""
ASIDE = (
    "bench",
    "bench.methods.base",  # what of it decides is in LOOP
    "bench.methods.chaining",  # refusals
    "bench.methods.nested",  # costs
    "bench.metrics.backbones",  # what scorers cost
    "bench.metrics.base",  # records
    "bench.metrics.protocols",  # as metrics.base
    "bench.metrics.worker",  # counts for the scorers that it runs
    "bench.models.base",  # as methods.base
    "bench.models.parking",  # where networks wait
    "bench.models.references",  # names to rows
    "bench.models.shapes_of",  # refusals
    "bench.sampling.meter",  # counts and clocks
    "bench.shapes",  # training, packaging, and the catalogue
    "npnet",
    "npnet.network.convert",
)
"""What does not: errors, the command line, plans, stores, reports, training. The longer name of both lists wins."""
LOOP = (
    "bench.sampling.noise",
    "bench.sampling.session",
    "bench.runner.generator:Generator._sample",
    "bench.runner.engine:Engine._ahead",
    "bench.runner.engine:Engine._embed",
    "bench.runner.engine:Engine._encode",
    "bench.runner.engine:Engine._remember",
    "bench.runner.generator:_decoded",
    "bench.runner.generator:_png",
    "bench.runner.faults:checked",
    "bench.runner.score:_choose",
    "bench.models.base:Family",
    "bench.models.base:to_uint8",
    "bench.methods.base:Chain",
    "bench.methods.base:Method.wraps_step",
    "bench.methods.base:Method.sets_guidance",
    "bench.methods.base:Method.adds_residuals",
    "bench.methods.base:Method.reads_unconditional",
    "bench.methods.base:_within",
)
"""What every image goes through, whatever its method, model and sampler; a test holds that no part is left out."""
CATALOGUES = ("bench.samplers.diffusers_schedulers", "bench.shapes.metrics", "bench.shapes.plugin")
"""Modules of many rows: of these only the function or class that is asked for counts."""

ALONE = ("bench.metrics.worker", "bench.prompts", *CATALOGUES)
"""Count for what is defined in them, and not for what imports them."""


def counts(module: str) -> bool:
    """Whether a module of this project decides pixels or scores."""

    def longest(names: Iterable[str]) -> int:
        return max((len(n) for n in names if module == n or module.startswith(f"{n}.")), default=0)

    return longest(DECIDES) > longest(ASIDE)
