"""What decides an image's id, and what does not."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.prompts.control import ControlImage
from bench.runner.plan import Choice, Job, content_hash

ROOT = Path(__file__).parents[1]

JOB = Job(
    model="shapes-sdxl",
    model_digest="0123456789abcdef",
    sampler="ddim",
    sampler_identity='{"scheduler": "DDIMScheduler"}',
    steps=20,
    guidance=5.0,
    size=(64, 64),
    links=(("inversion", '{"version": "1"}'),),
    prompt="a photo of a red circle",
    negative_prompt="",
    seed=0,
)
OTHER: dict[str, Any] = {
    "model_digest": "0123456789abcdee",
    "sampler_identity": '{"scheduler": "DDIMScheduler", "settings": {}}',
    "steps": 21,
    "guidance": 5.5,
    "size": (64, 72),
    "links": (("inversion", '{"version": "2"}'),),
    "prompt": "a photo of a red circle ",
    "negative_prompt": "blurry",
    "seed": 1,
    "dtype": "bf16",
    "timesteps": (999, 500),
    "settings": '{"timestep_spacing": "trailing"}',
    "adapter": '{"adapter": "bench.models.sdxl:SDXL"}',
    "code": "0123",
    "carried": '{"tag": "colors"}',
    "control": (("canny", ControlImage(Path("edges/1.png"), "0123")),),
}


def test_the_same_inputs_have_the_same_id() -> None:
    assert replace(JOB).id == JOB.id
    assert replace(JOB, links=()).id == replace(JOB, links=()).id


@pytest.mark.parametrize("field", OTHER)
def test_whatever_decides_the_pixels_decides_the_id(field: str) -> None:
    assert replace(JOB, **{field: OTHER[field]}).id != JOB.id


@pytest.mark.parametrize("field", ["model", "sampler"])
def test_a_name_decides_no_pixel(field: str) -> None:
    """Digest and identity do, so a model that is registered under a second name shares its images."""
    assert replace(JOB, **{field: "another name"}).id == JOB.id


def test_jobs_without_a_control_image_keep_their_ids() -> None:
    """Frozen when code entered the ids: images of runs and caches since are found by these."""
    assert JOB.id == "a6f124b91991262fe20f1b09c80e31e2"


def test_a_control_image_decides_by_its_content_and_not_by_its_place() -> None:
    at = {
        (place, digest): replace(JOB, control=(("canny", ControlImage(Path(place), digest)),)).id
        for place in ("a.png", "b.png")
        for digest in ("01", "02")
    }
    assert at["a.png", "01"] == at["b.png", "01"] != at["a.png", "02"] == at["b.png", "02"]
    assert replace(JOB, control=(("depth", ControlImage(Path("a.png"), "01")),)).id != at["a.png", "01"]


def test_every_field_of_a_job_is_accounted_for() -> None:
    assert {f.name for f in fields(Job)} == {*OTHER, "model", "sampler", "chain"}


@given(st.permutations(range(3)), st.lists(st.text(max_size=5), min_size=3, max_size=3, unique=True))
def test_the_order_of_a_chain_and_where_its_names_end_decide_the_id(order: list[int], names: list[str]) -> None:
    links = tuple((name, "{}") for name in names)
    turned = tuple(links[i] for i in order)
    assert (replace(JOB, links=turned).id == replace(JOB, links=links).id) == (turned == links)
    assert replace(JOB, prompt=names[0], negative_prompt=names[1]).id != (
        replace(JOB, prompt=names[1], negative_prompt=names[0]).id
    )


def test_a_choice_has_the_hash_of_its_record_as_its_id() -> None:
    choice = Choice(("0a" * 16, "1b" * 16), "shapes-geneval", "digest", "a red circle")
    assert choice.id == content_hash({"candidates": choice.candidates, "metric": "digest"})
