"""ControlNet in suites: what enters the job id, the paper's suites, and a whole run of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from analytic import session
from PIL import Image

from bench import registry, suite
from bench.methods.base import Chain
from bench.methods.controlnet import ControlNet
from bench.models.base import to_uint8
from bench.prompts import own
from bench.runner.faults import fault_of
from bench.runner.generate import generate
from bench.runner.plan import Job, Plan, make_plan
from bench.sampling.records import CONTROLNET
from bench.store import Ledger
from bench.store.images import pixel_digest

from . import controlled
from .controlled import KINDS, arm, control, loaded, ours, planned, refused

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
SUITES = Path(__file__).parents[2] / "suites"


def controlled_jobs(plan: Plan) -> dict[str, Job]:
    return {i: job for i, job in plan.jobs.items() if job.links}


# What enters the job id ----------------------------------------------------------------------------------------------


def test_what_image_and_weights_are_enters_the_job_id_and_not_where_they_lie(home: Path, tmp_path: Path) -> None:
    here = controlled.written(tmp_path / "here")
    moved = shutil.copytree(tmp_path / "here", tmp_path / "there") / "set.jsonl"
    for kind in ("sdxl", "sdxl-canny"):
        shutil.copytree(home / kind, tmp_path / kind)
    first = planned(home, here, "standard", arm(home))
    assert set(first.jobs) == set(planned(tmp_path, moved, "standard", arm(tmp_path)).jobs)
    assert str(tmp_path) not in json.dumps([job.links for job in first.jobs.values()])
    assert set(controlled_jobs(first)) == set(controlled_jobs(planned(home, here, arm(home), baseline="controlnet")))
    # Its own image decides, and not the one of another kind, nor one of another prompt.
    controlled.picture(tmp_path / "there" / "depth" / "0.png", 77)
    assert set(first.jobs) == set(planned(home, moved, "standard", arm(home)).jobs)
    controlled.picture(tmp_path / "there" / "canny" / "0.png", 77)
    changed = set(planned(home, moved, "standard", arm(home)).jobs)
    assert len(changed & set(first.jobs)) == len(first.jobs) - 1
    (file,) = (tmp_path / "sdxl-canny").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert not set(controlled_jobs(planned(tmp_path, here, "standard", arm(tmp_path)))) & set(first.jobs)


@pytest.mark.parametrize("more", [{"scale": 0.5}, {"end": 0.5}])
def test_scale_and_window_enter_the_job_id(home: Path, tmp_path: Path, more: dict[str, float]) -> None:
    prompts = controlled.written(tmp_path)
    plain, other = (controlled_jobs(planned(home, prompts, "standard", arm(home, **m))) for m in ({}, more))
    assert not set(plain) & set(other)


def test_an_arm_that_reads_no_control_image_does_not_look_at_it(home: Path, tmp_path: Path) -> None:
    """Its images are those of the same prompts without one, and the files need not even be there."""
    prompts = controlled.written(tmp_path)
    (bare := tmp_path / "bare.jsonl").write_text("".join(f'{{"prompt": "{t}"}}\n' for t in controlled.TEXTS))
    shutil.rmtree(tmp_path / "canny")
    assert set(planned(home, prompts, "standard").jobs) == set(planned(home, bare, "standard").jobs)


def test_published_weights_are_there_for_the_papers_kinds() -> None:
    for model in ("sdxl", "sd15"):
        entry = registry.get("models", model)
        found = {kind: ControlNet(kind=kind).for_model(entry) for kind in ("canny", "depth", "openpose")}
        identities = {kind: method.identity() for kind, method in found.items()}
        assert all(one["weights"]["kind"] == CONTROLNET for one in identities.values())
        assert len({one["weights"]["digest"] for one in identities.values()}) == 3
        canny = identities["canny"]["weights"]["digest"]
        assert "controlnet" in canny or "control_" in canny


# The suites of the paper ---------------------------------------------------------------------------------------------


def _suite(kind: str) -> Path:
    return SUITES / ("controlnet.yaml" if kind == "canny" else f"controlnet_{kind}.yaml")


@pytest.mark.parametrize("kind", ["canny", "depth", "openpose"])
def test_the_papers_suites_plan_with_a_set_of_ones_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    monkeypatch.setenv("NPNET_WEIGHTS", str(tmp_path))
    place = tmp_path / "controlnet"
    place.mkdir()
    Image.new("RGB", (1024, 1024)).save(place / "1.png")
    (place / "prompts.jsonl").write_text(json.dumps({"prompt": "a dancer", "control": {kind: "1.png"}}) + "\n")
    found = suite.load(_suite(kind), methods=["controlnet+inversion"])
    plan = make_plan(found)
    jobs = list(plan.jobs.values())
    assert [[name for name, _ in job.links] for job in jobs] == [["controlnet"], ["controlnet", "inversion"]]
    assert [plan.nfe(job).networks for job in jobs] == [50, 52]
    others = {link.use for method in suite.load(_suite(kind)).methods for link in method.chain}
    assert others == {"controlnet", "inversion", "npnet"}


@pytest.mark.parametrize("kind", ["depth", "openpose"])
def test_other_kinds_become_the_one_that_the_embedded_world_has(kind: str) -> None:
    """It is said, and the model itself still refuses the kind."""
    found = suite.load(_suite(kind), twin=True)
    assert {link.params["kind"] for method in found.methods for link in method.chain if link.use == "controlnet"} == {
        "canny"
    }
    assert any("kind" in note and kind in note and "canny" in note for note in found.notes)
    said = f"no {kind} weights are known for model 'shapes-sdxl'"
    refused(lambda: ControlNet(kind=kind).for_model(registry.get("models", "shapes-sdxl")), said)


def test_the_embedded_world_has_a_controlnet_of_edges() -> None:
    """Every prompt of the twin's set has its edges, and every arm is controlled in all of its calls."""
    found = suite.load(_suite("canny"), twin=True, limit=3)
    assert (found.models, found.prompts, found.steps) == (("shapes-sdxl",), ("shapes-controlnet",), None)
    plan = make_plan(found)
    costs = {cell.arm.method: plan.nfe(plan.jobs[cell.job_id]) for cell in plan.cells}
    # A call of the ControlNet with each of the denoiser's; NPNet is a network of its own.
    assert {name: nfe.networks - nfe.forwards for name, nfe in costs.items()} == {
        "controlnet": 0,
        "controlnet+npnet": 1,
        "controlnet+inversion": 0,
    }
    assert all(json.loads(job.links[0][1])["weights"]["kind"] == CONTROLNET for job in plan.jobs.values())


# A run ---------------------------------------------------------------------------------------------------------------


def test_a_run_makes_what_a_session_does_and_counts_it(home: Path, tmp_path: Path) -> None:
    prompts = controlled.written(tmp_path)
    inverted = {"chain": [arm(home), "inversion"], "name": "inverted"}
    plan = planned(home, prompts, arm(home), inverted, {"use": "standard", "name": "free"}, baseline="controlnet")
    ledger = Ledger(tmp_path / "run", create=True)
    counts = generate(plan, ledger, None, device="cpu", batch_size=2)
    assert (counts["made"], counts["failed"]) == (6, 0)
    images = ledger.images()
    for cell in plan.cells:
        calls = {"controlnet": 4, "inverted": 6, "free": 0}[cell.arm.method]
        cost = json.loads(images[cell.job_id].cost)
        counted = {stage: row.get("network:ControlNetModel", 0) for stage, row in cost.items()}
        assert sum(counted.values()) == calls == plan.nfe(plan.jobs[cell.job_id]).networks
        assert counted.get("noise", 0) == (2 if cell.arm.method == "inverted" else 0)
    assert len({image.digest for image in images.values()}) == 6
    # The same pixels by a session, of the prompts as they were read.
    s, final = ours(loaded(home / "sdxl"), control(home, "sdxl"), own.read(prompts), seeds=[0, 0], guidance=5.0)
    made = [pixel_digest(one) for one in to_uint8(s.family.pixels(final))]
    assert made == [images[c.job_id].digest for c in plan.cells if c.arm.method == "controlnet"]


@pytest.mark.parametrize("fault", ["image", "weights"])
def test_a_fault_stays_in_its_arm(home: Path, tmp_path: Path, fault: str) -> None:
    """What breaks between the plan and the run fails the arm's images with a reason, and no other's."""
    prompts = controlled.written(tmp_path)
    for kind in KINDS:
        shutil.copytree(home / f"sdxl-{kind}", tmp_path / f"sdxl-{kind}")
    depth = arm(tmp_path, kind="depth") | {"name": "depth"}
    plan = planned(home, prompts, "standard", arm(tmp_path), depth)
    if fault == "image":
        controlled.picture(tmp_path / "canny" / "1.png", 99)
    else:
        (file,) = (tmp_path / "sdxl-canny").glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-100])
    ledger = Ledger(tmp_path / "run", create=True)
    counts = generate(plan, ledger, None, device="cpu", batch_size=2)
    assert (counts["made"], counts["failed"]) == (4, 2)
    (reason,) = set(ledger.failures().values())
    assert ("has changed since the run was planned" if fault == "image" else "these weights do not load on") in reason
    failed = {c.arm.method for c in plan.cells if c.job_id in ledger.failures()}
    assert failed == {"controlnet"}


class Narrow(ControlNet):
    """Hands on residuals that no layer has the width of: the denoiser breaks, and no line of the method does."""

    def residuals(self, *given: Any) -> Any:
        found = super().residuals(*given)
        assert found is not None
        return found._replace(mid=found.mid[:, :3])


def test_what_residuals_break_in_the_denoiser_is_their_methods_fault(home: Path, tmp_path: Path) -> None:
    family, found = loaded(home / "sd"), controlled.prompts(tmp_path)
    s = session(Narrow(weights=str(home / "sd-canny")), prompts=found, family=family)
    with torch.no_grad(), pytest.raises(RuntimeError) as caught:
        s.sample(s.draw())
    s.meter.close()
    assert "RuntimeError: The size of tensor" in str(fault_of(s.method, caught.value))
    assert fault_of(Chain(links=()), caught.value) is None
