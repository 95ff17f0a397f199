"""The `npnet` method at work: it runs the network, costs no denoiser call, and its loading is in no timed stage."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import call, make_run
from kept_models import kept_models as kept_models
from PIL import Image
from saved_npnets import ENTRY, SAMPLING, network, saved, session_and_noise
from saved_npnets import weights as weights

from bench.sampling.records import Nfe
from npnet import NPNet
from npnet.method import NPNetMethod

pytestmark = pytest.mark.usefixtures("kept_models")

FEW = ("--limit", 2)
SLOW = 2.0
"""Seconds that reading a network takes where it is timed."""


@pytest.mark.parametrize("scale", [1.0, 0.0, 0.5, -1.0])
def test_noise_is_the_networks_answer_at_any_scale(weights: Path, scale: float) -> None:
    path = saved(weights / "mine.safetensors")
    session, x = session_and_noise()
    made = NPNetMethod(checkpoint=str(path), scale=scale).for_model(ENTRY)
    golden = network()(x, session.cond["prompt_embeds"])
    assert not torch.equal(golden, x)
    torch.testing.assert_close(made.noise(session, x), x + scale * (golden - x))
    assert session.cost.nfe(0).calls == made.noise_nfe(SAMPLING).calls == 0
    assert made.noise_nfe(SAMPLING) == Nfe(networks=1)


def test_the_prompt_plays_its_part(weights: Path) -> None:
    made = NPNetMethod(checkpoint=str(saved(weights / "mine.safetensors"))).for_model(ENTRY)
    session, x = session_and_noise()
    first = made.noise(session, x)
    session.cond = {"prompt_embeds": -session.cond["prompt_embeds"]}
    assert not torch.allclose(first, made.noise(session, x), atol=1e-3)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Networks that were read."""
    found: list[Any] = []
    real = NPNet.from_pretrained

    def counted(path: Path) -> NPNet:
        found.append(path)
        return real(path)

    monkeypatch.setattr(NPNet, "from_pretrained", counted)
    return found


def test_a_network_is_loaded_once(weights: Path, loads: list[Any]) -> None:
    made = NPNetMethod(checkpoint=str(saved(weights / "mine.safetensors", seed=7))).for_model(ENTRY)
    for _ in range(3):
        made.noise(*session_and_noise())
    assert len(loads) == 1


def test_what_was_prepared_is_what_noise_uses_however_the_device_is_written(weights: Path, loads: list[Any]) -> None:
    """A tensor's device may have a number where the session's has none, or the other way round."""
    made = NPNetMethod(checkpoint=str(saved(weights / "mine.safetensors", seed=71))).for_model(ENTRY)
    session, x = session_and_noise("cpu:0")
    assert str(x.device) != session.family.device
    made.prepare(session)
    assert len(loads) == 1
    made.noise(session, x)
    assert len(loads) == 1


def test_its_loading_is_in_no_timed_stage_and_its_network_is_counted(
    weights: Path, loads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run's ledger: the `noise` stage ran one network and no denoiser call, and was over before one is read."""
    read = NPNet.from_pretrained
    monkeypatch.setattr(NPNet, "from_pretrained", lambda path: (time.sleep(SLOW), read(path))[1])
    path = saved(weights / "mine.safetensors", seed=72)
    file = weights / "slow.yaml"
    file.write_text(
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\nsteps: 2\n"
        f"methods: [standard, {{use: npnet, checkpoint: {path}}}]\nmetrics: [shapes-clipscore]\n"
    )
    run, done = make_run(file, weights, *FEW)
    assert done.code == 0, done.err
    assert len(loads) == 1
    query = "SELECT method, cost, noise_ms, batch FROM cells JOIN images USING (job_id) WHERE method = ?"
    for _, cost, ms, batch in run.rows(query, "npnet"):
        stages = json.loads(cost)
        counts = {k: v for k, v in stages["noise"].items() if k not in ("ms", "peak_bytes")}
        assert counts == {"networks": 1, "network:NPNet": 1}
        assert stages["sampling"]["forwards"] == 2
        assert ms * batch < 1000 * SLOW
        assert stages["prepare"]["ms"] * batch >= 1000 * SLOW, "the one batch that loaded it"
    for _, cost, _, _ in run.rows(query, "standard"):
        assert "networks" not in json.loads(cost).get("noise", {})


@pytest.mark.slow
def test_a_suite_runs_it_and_its_report_marks_the_metric(weights: Path) -> None:
    saved(weights / "shipped" / "shapes-sdxl.safetensors", seed=8, selected_by=("shapes-clipscore",))
    file = weights / "with_npnet.yaml"
    file.write_text(
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\nsteps: 2\n"
        "methods: [standard, npnet, {use: npnet, name: still, scale: 0}, {name: both, chain: [npnet, inversion]}]\n"
        "metrics: [shapes-clipscore, shapes-aesthetic]\n"
    )
    run, done = make_run(file, weights, *FEW)
    assert done.code == 0, done.err
    files = dict(run.rows("SELECT method || prompt_index, file FROM cells JOIN images USING (job_id)"))
    pictures = {k: np.asarray(Image.open(run.folder / v)).astype(int) for k, v in files.items()}
    assert np.abs(pictures["npnet0"] - pictures["standard0"]).max() > 1
    assert np.abs(pictures["still0"] - pictures["standard0"]).max() <= 1
    calls = dict(run.rows("SELECT DISTINCT method, calls_noise FROM cells JOIN images USING (job_id)"))
    assert calls == {"standard": 0, "npnet": 0, "still": 0, "both": 2}
    arms = {a["method"]: a["optimises"] for a in run.results()["arms"]}
    assert arms == {m: [] if m == "standard" else ["shapes-clipscore"] for m in calls}
    again = call(*run.arguments(*FEW))
    assert "finished before" in again.err
    assert json.dumps(str(weights)) not in json.dumps(run.results())
