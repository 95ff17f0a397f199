"""Images do not depend on how they were batched, are those of plain diffusers, and cost what the plan says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from batch_plans import made, plan_of
from kept_models import kept
from kept_models import kept_models as kept_models
from PIL import Image as Pillow

from bench import registry
from bench.models.base import ModelEntry
from bench.runner.generate import generate
from bench.runner.plan import Job, Plan
from bench.runner.score import arms, score
from bench.sampling import noise
from bench.store import Ledger
from bench.store.images import pixel_digest

CONTINUOUS = ("shapes-clipscore", "shapes-preference", "shapes-aesthetic")

pytestmark = pytest.mark.usefixtures("kept_models")


def pixels(ledger: Ledger, job: Job) -> np.ndarray:
    with Pillow.open(ledger.folder / ledger.images()[job.id].file) as opened:
        return np.asarray(opened).astype(int)


def scores(plan: Plan, ledger: Ledger) -> dict[tuple[str, str], float]:
    """Score by (job id, metric)."""
    score(arms(plan), ledger, device="cpu")
    rows = ledger.db.execute("SELECT job_id, metric, value FROM images JOIN scores USING (digest)")
    return {(job_id, metric): value for job_id, metric, value in rows}


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> tuple[Plan, dict[int, Ledger]]:
    """The same jobs in batches of 1, 3 and 5: a deterministic and a stochastic sampler, each with two methods."""
    plan = plan_of("ddim", "euler_a", steps=3, limit=5)
    with kept():
        return plan, {n: made(plan, tmp_path_factory.mktemp("batch") / "run", batch_size=n) for n in (1, 3, 5)}


@pytest.mark.parametrize("sampler", ["ddim", "euler_a"])
def test_the_batch_size_moves_no_pixel_by_more_than_one_grey_level(
    batched: tuple[Plan, dict[int, Ledger]], sampler: str
) -> None:
    plan, ledgers = batched
    jobs = [j for j in plan.jobs.values() if j.sampler == sampler]
    assert len(jobs) == 10
    for job in jobs:
        alone = pixels(ledgers[1], job)
        assert alone.std() > 0, "an image of one colour would compare equal to any"
        for n in (3, 5):
            assert np.abs(pixels(ledgers[n], job) - alone).max() <= 1, f"{sampler} {job.prompt!r} in a batch of {n}"


def test_the_batch_size_is_written_down(batched: tuple[Plan, dict[int, Ledger]]) -> None:
    _, ledgers = batched
    assert {i.batch for i in ledgers[1].images().values()} == {1}
    assert {i.batch for i in ledgers[3].images().values()} == {3, 2}, "5 prompts make batches of 3 and 2"


def test_the_batch_size_moves_no_score(batched: tuple[Plan, dict[int, Ledger]]) -> None:
    """As far as its images are the same: matrix products round otherwise in a batch of another size, which moves single
    pixels by one grey level, and a scorer sees that: a small part of how far images differ from one another."""
    plan, ledgers = batched
    alone = scores(plan, ledgers[1])
    assert len(alone) == len(plan.jobs) * len(CONTINUOUS)
    spread = {name: np.std([v for (_, m), v in alone.items() if m == name]) for name in CONTINUOUS}
    assert min(spread.values()) > 0, "a metric tells no image from another"
    for n in (3, 5):
        found = scores(plan, ledgers[n])
        for key, value in alone.items():
            assert found[key] == pytest.approx(value, abs=0.02 * spread[key[1]]), key
        digests = [{i: image.digest for i, image in ledgers[m].images().items()} for m in (1, n)]
        same = [k for k in alone if digests[0][k[0]] == digests[1][k[0]]]
        assert {k: found[k] for k in same} == pytest.approx({k: alone[k] for k in same}, abs=1e-4)


@pytest.mark.parametrize("metric", CONTINUOUS)
def test_a_score_does_not_depend_on_the_images_beside_it(batched: tuple[Plan, dict[int, Ledger]], metric: str) -> None:
    plan, ledgers = batched
    scorer = registry.get("metrics", metric).scorer("cpu")
    cells = plan.cells[:5]
    images = [pixels(ledgers[5], plan.jobs[c.job_id]).astype(np.uint8) for c in cells]
    together = [v.value for v in scorer.score(images, [c.prompt for c in cells])]
    alone = [scorer.score([i], [c.prompt])[0].value for i, c in zip(images, cells, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_an_image_is_the_one_that_a_plain_diffusers_call_makes(tmp_path: Path, sampler: str) -> None:
    import diffusers
    import torch

    plan = plan_of(sampler, methods=["standard"], limit=2)
    ledger = made(plan, tmp_path)
    entry = registry.get("models", "shapes-sdxl")
    pipe = diffusers.DiffusionPipeline.from_pretrained(entry.source, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if sampler == "dpmpp_2m":
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    for job in plan.jobs.values():
        latents = noise.draw(job.prompt, job.seed, entry.latent)[None]
        with torch.inference_mode():
            image = pipe(
                prompt=job.prompt, latents=latents, num_inference_steps=job.steps, guidance_scale=job.guidance
            ).images[0]
        assert np.abs(np.asarray(image).astype(int) - pixels(ledger, job)).max() <= 1


def test_an_image_does_not_depend_on_the_sampler_used_before_it(tmp_path: Path) -> None:
    alone = plan_of("dpmpp_2m", methods=["standard"], limit=1)
    after = plan_of("dpmpp_2m_karras", "dpmpp_2m", methods=["standard"], limit=1)
    first, second = made(alone, tmp_path / "alone"), made(after, tmp_path / "after")
    for job in alone.jobs.values():
        assert first.images()[job.id].digest == second.images()[job.id].digest
    others = [j for j in after.jobs.values() if j.sampler == "dpmpp_2m_karras"]
    assert {second.images()[j.id].digest for j in others}.isdisjoint(i.digest for i in first.images().values())


def test_stochastic_samplers_make_the_same_image_twice_and_another_for_another_seed(tmp_path: Path) -> None:
    plan = plan_of("ddpm", methods=["standard", "reseed"], steps=2, limit=2)
    first, second = (made(plan, tmp_path / name).images() for name in ("first", "second"))
    assert {i: image.digest for i, image in first.items()} == {i: image.digest for i, image in second.items()}
    assert len({image.digest for image in first.values()}) == 4


@pytest.mark.parametrize(
    ("sampler", "methods", "steps", "calls"),
    [
        ("ddim", ["standard", "inversion"], 3, (2, 3)),
        ("heun", ["standard", "inversion"], 2, (2, 3)),
        ("pndm", ["standard"], 4, (0, 5)),
        ("euler_a", ["standard"], 2, (0, 2)),
    ],
)
def test_the_network_is_called_as_often_as_the_plan_and_the_ledger_say(
    tmp_path: Path, sampler: str, methods: list[str], steps: int, calls: tuple[int, int]
) -> None:
    """Calls are counted inside the network; one job more, each in a batch of its own, takes the warm-up out."""
    unet = registry.get("models", "shapes-sdxl").load("cpu", "fp32").pipeline.unet
    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1

    handle = unet.register_forward_hook(count)
    counted = []
    try:
        for limit in (1, 2):
            plan, before = plan_of(sampler, methods=methods, steps=steps, limit=limit), seen
            ledger = made(plan, tmp_path / str(limit), batch_size=1)
            counted.append(seen - before)
    finally:
        handle.remove()
    each = counted[1] - counted[0]
    last = list(plan.jobs.values())[-1]
    image = ledger.images()[last.id]
    assert (image.calls_noise, image.calls_sampling) == calls
    assert plan.calls(last) == sum(calls)
    per_method = {j.links: plan.calls(j) for j in plan.jobs.values()}
    assert each == sum(per_method.values())
    assert plan.costs()["calls"] == 2 * each


def test_the_baseline_samples_from_the_latent_as_it_was_drawn(batched: tuple[Plan, dict[int, Ledger]]) -> None:
    plan, ledgers = batched
    shape = registry.get("models", "shapes-sdxl").latent
    images = ledgers[3].images()
    for job in plan.jobs.values():
        drawn = noise.digest(noise.draw(job.prompt, job.seed, shape))
        assert (images[job.id].latent_digest == drawn) is (not job.links), "inversion, and nothing else, changes it"


def test_every_file_holds_the_pixels_that_its_digest_names(batched: tuple[Plan, dict[int, Ledger]]) -> None:
    plan, ledgers = batched
    for job_id, image in ledgers[5].images().items():
        assert image.file == f"images/{job_id}.png"
        shown = pixels(ledgers[5], plan.jobs[job_id]).astype(np.uint8)
        assert shown.shape == (64, 64, 3)
        assert pixel_digest(shown) == image.digest


def test_stage_times_are_there_and_noise_is_charged_to_the_method_that_makes_it(
    batched: tuple[Plan, dict[int, Ledger]],
) -> None:
    plan, ledgers = batched
    images = ledgers[5].images()
    for image in images.values():
        assert min(image.encode_ms, image.noise_ms, image.sampling_ms, image.decode_ms) > 0
    for job in plan.jobs.values():
        assert (images[job.id].calls_noise > 0) is bool(job.links)


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("ddim", methods=["standard"], steps=2, limit=3)
    ledger = made(plan, tmp_path)
    lost, *kept = plan.jobs
    (tmp_path / f"images/{lost}.png").unlink()
    before = {job_id: (tmp_path / f"images/{job_id}.png").stat().st_mtime_ns for job_id in kept}
    found = generate(plan, ledger, None, device="cpu")
    assert (found["made"], found["found"]) == (1, 2)
    assert {job_id: (tmp_path / f"images/{job_id}.png").stat().st_mtime_ns for job_id in kept} == before

    def loaded(*_: object) -> None:
        pytest.fail("a model was loaded with nothing to make")

    monkeypatch.setattr(ModelEntry, "load", loaded)
    assert generate(plan, ledger, None, device="cpu") == {"made": 0, "found": 3}
