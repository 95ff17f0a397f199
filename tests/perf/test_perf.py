"""How long the parts take: `pytest tests/perf --benchmark-enable`. No time is asserted; each runs once elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import registry, stats, suite
from bench.runner.plan import make_plan

SUITES = Path(__file__).parents[2] / "suites"


def test_plan_of_the_papers_suite(benchmark: Any) -> None:
    plan = benchmark(lambda: make_plan(suite.load(SUITES / "sdxl_main.yaml", twin=True)))
    assert len(plan.cells) == len(plan.suite.methods) * 400


def test_statistics_of_400_pairs(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    baseline = rng.normal(size=400)
    treated = baseline + rng.normal(0.2, 1, size=400)
    prompts = [f"prompt {i}" for i in range(400)]

    def everything() -> tuple[stats.Interval, stats.Interval, float, float]:
        return (
            stats.paired_delta(treated, baseline, prompts),
            stats.win_rate(treated, baseline, prompts),
            stats.sign_flip_p(treated - baseline, prompts),
            stats.smallest_detectable(treated - baseline, prompts),
        )

    delta, *_ = benchmark(everything)
    assert delta.estimate == pytest.approx(float(np.mean(treated - baseline)))


def test_detector_on_a_batch_of_images(benchmark: Any) -> None:
    from bench.prompts.base import Prompt
    from bench.shapes import captions, scenes

    rng = np.random.default_rng(0)
    drawn = [captions.sample(rng, "train") for _ in range(32)]
    images = [scenes.render(captions.scene(caption, rng)) for caption in drawn]
    prompts = [Prompt(i, c.prompt, c.tag, c.metadata()) for i, c in enumerate(drawn)]
    scorer = registry.get("metrics", "shapes-geneval").scorer("cpu")
    values = benchmark(scorer.score, images, prompts)
    assert [v.value for v in values] == [1.0] * 32, "a scene drawn from its caption is right"


def test_generation_of_a_batch_of_eight(benchmark: Any, one_thread: None) -> None:
    from bench.runner.generator import Generator

    plan = make_plan(suite.load(SUITES / "shapes_quick.yaml", limit=8, methods=["standard"]))
    jobs = list(plan.jobs.values())
    generator = Generator("cpu")
    generator.model(jobs[0], len(jobs))  # loads the model and warms it up
    assert len(benchmark(generator.make, jobs).pngs) == 8
    generator.close()
