"""Text encoders are on a GPU while prompts are encoded, and wait while images are sampled.

No GPU is here: the moves are counted on a family whose encoders "leave" the CPU for the CPU, and made in earnest on
torch's `meta` device, which holds no data.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench import registry
from bench.models.base import Embeddings, ModelEntry
from bench.models.loading import Loading
from bench.models.parking import Parking, parked
from bench.models.sdxl import SDXL
from bench.runner.generator import Generator
from bench.runner.plan import Job, make_plan
from bench.suite import parse

pytestmark = pytest.mark.usefixtures("one_thread")
SUITE = """\
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 2
baseline: standard
methods: [standard, reseed]
metrics: [shapes-clipscore]
"""


class Waiting(SDXL):
    """The embedded world's own pipeline, with encoders that leave, and what happened in order."""

    happened: list[str]
    quick = 100
    """Latents in a call above which it takes a while, so that a larger batch does not pay."""
    fits = 100
    """Latents in a call above which memory runs out."""

    def __init__(self, entry: ModelEntry, device: str, dtype: str):
        super().__init__(entry, device, dtype)
        assert self._parking is None, "on a CPU nothing leaves"
        self._parking = Parking({name: getattr(self.pipeline, name) for name in self.encoders}, device)

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        assert self.parking is not None
        assert self.parking.there, "an encoder is asked where it does not wait"
        self.happened.append("encode")
        return super().encode(prompts)

    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        assert self.parking is not None
        if len(x) > self.fits:
            raise torch.OutOfMemoryError
        if len(x) > self.quick:
            time.sleep(0.3)
        self.happened.append("call beside the encoders" if self.parking.there else "call")
        return super().network(x, t, embeds)


@contextmanager
def waiting() -> Iterator[list[str]]:
    """Within, shapes-sdxl is that family; what happens is listed."""
    Waiting.happened = []
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    with registry.configured("models", {"shapes-sdxl": replace(entry, adapter=f"{__name__}:Waiting")}):
        yield Waiting.happened


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Images of 32 pixels: where encoders are is asked, and not what is seen."""
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    with registry.configured("models", {"shapes-sdxl": entry.configured(size=(32, 32))}):
        yield


def jobs_of(limit: int = 2) -> list[Job]:
    return list(make_plan(parse(SUITE, file="waiting.yaml", limit=limit)).jobs.values())


def made(jobs: Sequence[Job], *, expected: bool) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Digests by job of images made one at a time, and the moves of the encoders."""
    generator = Generator("cpu")
    if expected:
        generator.expect(jobs)
    found = {row.job_id: row.digest for job in jobs for row in generator.make([job]).rows}
    parking = generator.family.parking if generator.family else None
    moves = parking.moves if parking else []
    generator.close()
    return found, moves


def test_all_prompts_are_encoded_before_the_first_image_and_the_encoders_leave_once() -> None:
    jobs = jobs_of()
    with waiting() as happened:
        digests, moves = made(jobs, expected=True)
    first = len(happened) - happened[::-1].index("encode")
    assert set(happened[first:]) == {"call"}, "after the last prompt the encoders wait"
    assert happened[first - 2 : first] == ["encode"] * 2, "one prompt after the other"
    # Away for the warm-up's sampling, there for the prompts, away for good: two encoders, three moves each.
    assert [where for _, where in moves] == ["cpu"] * 6
    plain, none = made(jobs, expected=True)
    assert digests == plain, "where an encoder waits changes no pixel"
    assert none == []


def test_prompts_that_were_not_expected_bring_the_encoders_back() -> None:
    jobs = jobs_of()
    with waiting() as happened:
        _, moves = made(jobs, expected=False)
    assert "call beside the encoders" not in happened
    # Away after the warm-up, then there and away for each of two prompts; the second arm has their embeddings.
    assert len(moves) == 2 * (1 + 2 * 2)


@pytest.mark.parametrize("limit", ["quick", "fits"])
def test_a_batch_size_that_is_tried_leaves_the_encoders_away_and_the_embeddings_known(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    jobs = jobs_of()
    monkeypatch.setattr(Waiting, limit, 4)
    with waiting() as happened:
        generator = Generator("cpu")
        generator.expect(jobs)
        assert generator.largest(jobs[0]) <= 2
        before = happened.count("encode")
        generator.make(jobs[:2])
        assert happened.count("encode") == before
        assert "call beside the encoders" not in happened
        generator.close()


def test_leaving_moves_every_parameter() -> None:
    encoders = {"text_encoder": torch.nn.Linear(4, 4), "text_encoder_2": torch.nn.Linear(4, 4)}
    parking = Parking(encoders, "cpu", away="meta")
    parking.leave()
    parking.leave()
    assert parking.moves == [("text_encoder", "meta"), ("text_encoder_2", "meta")]
    assert {p.device.type for one in encoders.values() for p in one.parameters()} == {"meta"}


def test_they_stay_on_a_cpu_and_where_a_suite_says_so() -> None:
    one = {"text_encoder": torch.nn.Linear(1, 1)}
    assert parked(one, "cpu", leaves=True) is None
    assert parked(one, "cuda", leaves=False) is None
    assert parked(one, "cuda:1", leaves=True) is not None


def test_the_setting_decides_no_image() -> None:
    assert Loading(text_encoders="stay").identity() == Loading().identity() == ""
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    assert entry.configured(text_encoders="stay").digest() == entry.digest()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_their_memory_is_free_while_images_are_sampled() -> None:
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    family = entry.load("cuda")
    assert family.parking is not None
    encoders = [family.modules()[name] for name in ("text_encoder", "text_encoder_2")]
    size = sum(p.nbytes for one in encoders for p in one.parameters())
    before = torch.cuda.memory_allocated()
    family.parking.leave()
    assert before - torch.cuda.memory_allocated() >= size
    family.parking.bring()
    family.encode(["a red circle"])
