"""Faults that the sampling loop had once: each of these tests failed on the loop before it."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Bench, Plug, make_run
from facts import missing
from kept_models import kept_models as kept_models
from suite_texts import TWO_ARMS, suite_text, write_suite

from bench import registry
from bench.errors import UserError
from bench.job import stages
from bench.methods.base import Chain, Method
from bench.methods.inversion import first_two
from bench.models.base import Family, ModelEntry, default_dtype
from bench.prompts.base import Prompt
from bench.runner.generate import generate
from bench.runner.plan import Job, Plan, make_plan
from bench.sampling.records import Item, Sampling
from bench.sampling.schedule import Schedule
from bench.sampling.session import Session
from bench.store import Ledger
from bench.suite import parse

pytestmark = pytest.mark.usefixtures("one_thread")


def text_of(sampler: str, methods: Sequence[Any], **changes: Any) -> str:
    plain = {"samplers": [sampler], "methods": [*methods], "metrics": ["shapes-clipscore"]}
    return suite_text(TWO_ARMS, **{**plain, **changes})


def planned(sampler: str = "ddim", methods: Sequence[Any] = ("standard",), *, limit: int = 2, **changes: Any) -> Plan:
    """`changes` are of the suite."""
    return make_plan(parse(text_of(sampler, methods, **changes), file="faults.yaml", limit=limit))


def schedule(sampler: str, steps: int) -> Schedule:
    config = json.loads((Path(entry().source) / "scheduler" / "scheduler_config.json").read_text())
    return Schedule(registry.get("samplers", sampler), config, Sampling(sampler, steps, 5.0, (64, 64)))


def entry() -> ModelEntry:
    found: ModelEntry = registry.get("models", "shapes-sdxl")
    return found


class OnlyStep(Method):
    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        return following(x * 1.1)


class OnlyGuide(Method):
    def guide(self, s: Any, i: int, pred: Any) -> Any:
        return pred.cond


class OnlySampling(Method):
    def sampling(self, p: Sampling) -> Sampling:
        return p.with_settings(timestep_spacing="trailing")


@pytest.mark.parametrize("method", [OnlyStep, OnlyGuide, OnlySampling])
def test_a_method_with_any_hook_has_images_of_its_own(method: type[Method], plug: Plug) -> None:
    """What changes pixels is not listed hook by hook: a method says it where it changes none."""
    assert method.changes_pixels
    plug("methods", odd=method)
    plan = planned(methods=("standard", "odd"))
    assert len(plan.jobs) == 4


def test_precision_is_in_the_id_of_an_image() -> None:
    suite = parse(text_of("ddim", ["standard"]), file="p", limit=2)
    single, half = make_plan(suite), make_plan(suite, dtype="bf16")
    assert set(single.jobs).isdisjoint(half.jobs)
    asked = planned(dtype="bf16")
    assert set(asked.jobs) == set(half.jobs)
    assert (default_dtype("cpu"), default_dtype("cuda:1")) == ("fp32", "fp16")
    assert stages.likely_device() in ("cpu", "cuda")


@pytest.mark.usefixtures("kept_models")
def test_a_suite_may_ask_for_bf16(tiny: Path, tmp_path: Path) -> None:
    made, done = make_run(tiny, tmp_path, "--set", "dtype=bf16", "--method", "standard", "--limit", 1)
    assert done.code == 0, done.err
    assert len(made.rows("SELECT * FROM images")) == 1


@pytest.mark.usefixtures("kept_models")
def test_guidance_below_one_is_none_wherever_it_is_applied(tmp_path: Path) -> None:
    below, one = (planned(methods=("standard", "inversion"), guidance=g) for g in (0.5, 1.0))
    assert set(below.jobs) == set(one.jobs), "the same images, made once"
    p = Sampling("ddim", 4, 0.5, (64, 64))
    assert (p.scale, p.guided) == (1.0, False)
    family = entry().load("cpu")
    cond = family.encode(["a red circle"])
    s = Session(family, [Item(Prompt(0, "a red circle"), 0)], p, cond=cond, uncond=family.encode_negative(""))
    with torch.no_grad():
        x, t = s.draw(), s.timesteps[0]
        assert torch.equal(s.predict(x, t).eps, s.predict(x, t, 1.0).eps)
    s.meter.close()


@pytest.mark.parametrize("sampler", ["kdpm2", "kdpm2_a", "pndm_prk", "pndm", "heun"])
@pytest.mark.parametrize("steps", [4, 20])
def test_inversion_moves_a_whole_step(sampler: str, steps: int) -> None:
    assert first_two(schedule(sampler, steps)) == first_two(schedule("ddim", steps))


@pytest.mark.usefixtures("kept_models")
def test_pndm_with_runge_kutta_may_come_first(tmp_path: Path) -> None:
    """Its throwaway batch has as many steps as it needs at least."""
    ledger = Ledger(tmp_path / "run", create=True)
    found = generate(planned("pndm_prk", limit=1), ledger, None, device="cpu")
    assert (found["made"], found["failed"]) == (1, 0)


def test_only_one_model_is_alive_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Family]] = []
    most = []
    load = ModelEntry.load

    def loading(self: ModelEntry, device: str, dtype: str | None = None) -> Family:
        gc.collect()
        most.append(sum(one() is not None for one in alive))
        family = load(self, device, dtype)
        alive.append(weakref.ref(family))
        return family

    monkeypatch.setattr(ModelEntry, "load", loading)
    plan = planned(models=["shapes-sdxl", "shapes-turbo"], limit=1, steps=1)
    generate(plan, Ledger(tmp_path / "run", create=True), None, device="cpu")
    assert most == [0, 0], "the first model was still there when the second was loaded"
    gc.collect()
    assert not any(one() is not None for one in alive)


@pytest.mark.usefixtures("kept_models")
@pytest.mark.parametrize(("owner", "where"), [(ModelEntry, "load"), (Session, "decode")], ids=["load", "warm-up"])
def test_running_out_of_memory_before_the_first_batch_makes_batches_smaller(
    owner: Any, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner: Callable[..., Any] = getattr(owner, where)
    calls = []

    def full(self: Any, *given: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, *given)

    monkeypatch.setattr(owner, where, full)
    ledger = Ledger(tmp_path / "run", create=True)
    plan = planned(limit=4, steps=2)
    found = generate(plan, ledger, None, device="cpu", batch_size=4)
    assert (found["made"], {image.batch for image in ledger.images().values()}) == (4, {2})
    monkeypatch.setattr(owner, where, lambda self, *given: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(UserError, match="one image does not fit this GPU's memory"):
        generate(plan, Ledger(tmp_path / "other", create=True), None, device="cpu", batch_size=4)


def test_the_second_gpu_is_measured_on_the_second_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import provenance
    from bench.sampling import measure

    seen = []
    for name in ("synchronize", "reset_peak_memory_stats", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: seen.append((name, device)) or "GPU")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: seen.append(("peak", device)) or 5)
    measure.drain("cuda:1")
    measure.reset_peak("cuda:1")
    assert measure.peak("cuda:1") == (5, "CUDA allocator")
    assert provenance.hardware("cuda:1") == "GPU"
    assert {device for _, device in seen} == {"cuda:1"}
    assert len(seen) == 4


def test_a_models_latents_are_checked_against_its_networks_when_it_is_planned(
    tmp_path: Path, plug: Plug, bench: Bench
) -> None:
    from dataclasses import replace

    wrong = replace(entry(), name="wide", size=(256, 256), latent=(4, 8, 8))
    plug("models", wide=wrong)
    done = bench("plan", write_suite(tmp_path / "wide.yaml", models=["wide"]))
    assert done.code == 2
    assert missing(done.error, "images of 256x256", "latents (4, 32, 32)", "entry says (4, 8, 8)") == []


# Images that fail ---------------------------------------------------------------------------------------------------


class Broken(Method):
    """Gives not-a-number for the first image of a batch."""

    def noise(self, s: Any, x: Any) -> Any:
        x = x.clone()
        x[0] = float("nan")
        return x


class Raising(Method):
    def step(self, s: Any, x: Any, i: int, following: Any) -> Any:
        return {}["lost"]


# Its hook stands in a class of another file than its own.
Inheriting: Any = type("Inheriting", (Raising,), {"__module__": "conftest"})


class Misshapen(Method):
    def noise(self, s: Any, x: Any) -> Any:
        return x[:, :2]


ODD: dict[str, tuple[Any, int, str]] = {
    "broken": (Broken, 1, "its initial noise is not finite"),
    "raising": (Raising, 2, "KeyError: 'lost' (test_faults.py:"),
    "inheriting": (Inheriting, 2, "KeyError: 'lost' (test_faults.py:"),
    "misshapen": (Misshapen, 2, "the method made noise of shape torch.Size([2, 2, 8, 8]); expected (2, 4, 8, 8)"),
}
"""By name a method, how many of its two images it costs, and the reason."""


@pytest.mark.usefixtures("kept_models")
def test_one_arms_fault_costs_no_other_arm(tmp_path: Path, plug: Plug, bench: Bench) -> None:
    """The images fail with their reason, all others are made, the exit code says so, and the run is not finished."""
    plug("methods", **{name: method for name, (method, _, _) in ODD.items()})
    suite = tmp_path / "odd.yaml"
    suite.write_text(text_of("ddim", ["standard", *ODD, "inversion"], steps=2))
    arguments = ("run", suite, "--limit", 2, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    done = bench(*arguments)
    assert done.code == 3
    for name, (_, lost, reason) in ODD.items():
        (line,) = [
            one for one in done.err.splitlines() if one.startswith(f"failed: {lost} images of {name}; the first: ")
        ]
        assert reason in line
    (folder,) = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
    results = json.loads((folder / "results.json").read_text())
    complete = {a["method"]: (a["complete"], a["n"]) for a in results["arms"] if a["prompts"] == "*"}
    odd = {name: (False, 2 - lost) for name, (_, lost, _) in ODD.items()}
    assert complete == {"standard": (True, 2), "inversion": (True, 2), **odd}
    ledger = Ledger(folder)
    assert len(ledger.failures()) == sum(lost for _, lost, _ in ODD.values())
    ledger.close()
    again = bench(*arguments)
    assert again.code == 3
    assert "finished before" not in again.err
    plug("methods", **{name: type(f"Sound{name}", (Method,), {}) for name in ODD})
    assert bench(*arguments).code == 0, "a plugin that is repaired makes what was lost"


@pytest.mark.usefixtures("kept_models")
def test_what_a_network_of_the_methods_own_does_is_counted_without_its_saying_so(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.Conv2d(4, 4, 1))

    class Own(Method):
        def noise(self, s: Any, x: Any) -> Any:
            return network(network(x))

    family = entry().load("cpu")
    items = [Item(Prompt(0, "a red circle"), k) for k in range(3)]
    cond = family.encode([i.prompt.text for i in items])
    uncond = {k: v.expand_as(cond[k]) for k, v in family.encode_negative("").items()}
    s = Session(
        family, items, Sampling("ddim", 2, 5.0, (64, 64)), cond=cond, uncond=uncond, method=Chain(links=(Own(),))
    )
    with torch.no_grad(), s.meter.stage("noise"), s.meter.foreign():
        Own().noise(s, s.draw())
    with torch.no_grad():
        s.take([1]).predict(s.draw()[1:2], s.timesteps[0])
    s.meter.close()
    assert [s.cost.nfe(i).networks for i in range(3)] == [2, 2, 2], "two calls, whatever is inside"
    assert [s.cost.nfe(i).forwards for i in range(3)] == [0, 1, 0], "a part of the batch counts for itself"
    assert [s.cost.nfe(i).rows for i in range(3)] == [0, 2, 0]


def test_jobs_of_another_control_or_metadata_are_other_images() -> None:
    job: Job = next(iter(planned(limit=1).jobs.values()))
    from dataclasses import replace

    assert replace(job, carried='{"tag": "colors"}').id != job.id
