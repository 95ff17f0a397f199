"""The `npnet` method: it runs the network, costs no call, is known by its checkpoint's content, and says what chose."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import call, make_run
from PIL import Image

from bench import registry, suite
from bench.analysis import results
from bench.errors import UserError
from bench.job.recording import record_suite
from bench.methods.base import Chain
from bench.models.base import Embeddings, Family
from bench.prompts.base import Prompt
from bench.runner.plan import Plan, make_plan
from bench.sampling import noise
from bench.sampling.records import Item, Nfe, Sampling
from bench.sampling.session import Session
from bench.store import Ledger
from bench.suite import Link
from npnet import NPNet, NPNetConfig, method
from npnet.method import NPNetMethod
from npnet.network import checkpoint
from npnet.teachers import base as teachers

pytestmark = pytest.mark.usefixtures("one_thread")

ENTRY = registry.get("models", "shapes-sdxl")
SAMPLING = Sampling("ddim", 50, 5.0, ENTRY.size)
SLOW = 2.0
"""Seconds that reading a network takes in tests of what is timed."""


def network(seed: int = 0, **config: Any) -> NPNet:
    """A network that moves its input: untrained ones do not, for alpha and beta start at zero."""
    torch.manual_seed(seed)
    made = NPNet(NPNetConfig.small(**config)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.requires_grad_(False)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of checkpoints with nothing in them, in the places of the shipped ones and the user's."""
    monkeypatch.setattr(method, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("NPNET_WEIGHTS", str(tmp_path / "own"))
    (tmp_path / "shipped").mkdir()
    (tmp_path / "own").mkdir()
    return tmp_path


def saved(path: Path, seed: int = 0, selected_by: tuple[str, ...] = ("shapes-aesthetic",), **more: Any) -> Path:
    return checkpoint.save(network(seed), path, provenance={"selected_by": list(selected_by), **more})


class Silent(Family):
    """A family without networks: its predictions must not be asked for."""

    scheduler_config: ClassVar[dict[str, Any]] = {"beta_schedule": "scaled_linear"}  # type: ignore[misc]

    def __init__(self, device: str = "cpu"):
        super().__init__(ENTRY, device, "fp32")

    @property
    def latent_dtype(self) -> torch.dtype:
        return torch.float32

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        raise AssertionError("nothing is encoded")

    def encode_negative(self, prompt: str) -> Embeddings:
        raise AssertionError("nothing is encoded")

    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        raise AssertionError("the method adds no denoiser calls")

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing is decoded")

    def modules(self) -> dict[str, Any]:
        return {}


def session_and_noise(device: str = "cpu") -> tuple[Session, torch.Tensor]:
    """Two latents, and a session whose predictions must not be asked for."""
    cond = {"prompt_embeds": torch.randn((2, 24, 128), generator=torch.Generator().manual_seed(1))}
    latents = torch.stack([noise.draw("a ring", s, (4, 8, 8)) for s in (0, 1)])
    items = [Item(Prompt(0, "a ring"), seed) for seed in (0, 1)]
    return Session(Silent(device), items, SAMPLING, cond=cond, uncond=cond), latents


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
    """Networks that were read, each slowly."""
    found: list[Any] = []
    real = NPNet.from_pretrained

    def counted(path: Path) -> NPNet:
        found.append(path)
        time.sleep(SLOW)
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


def test_its_loading_is_in_no_timed_stage_and_its_network_is_counted(weights: Path, loads: list[Any]) -> None:
    """By a run's ledger: the `noise` stage ran one network and no denoiser call, and was over before one is read."""
    path = saved(weights / "mine.safetensors", seed=72)
    file = weights / "slow.yaml"
    file.write_text(
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\nsteps: 2\n"
        f"methods: [standard, {{use: npnet, checkpoint: {path}}}]\nmetrics: [shapes-clipscore]\n"
    )
    run, done = make_run(file, weights)
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


# Identity ----------------------------------------------------------------------------------------------------------


def planned(what: str) -> Plan:
    text = (
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\nsteps: 2\n"
        f"methods: [standard, {what}]\nmetrics: [shapes-aesthetic]\n"
    )
    return make_plan(suite.parse(text, file="p"), read=lambda name: [Prompt(0, "a ring")])


def test_a_jobs_id_is_of_the_checkpoints_content_not_of_its_place(weights: Path) -> None:
    one = saved(weights / "one.safetensors", seed=1)
    same = Path(shutil.copy(one, weights / "elsewhere.safetensors"))
    other = saved(weights / "other.safetensors", seed=2)
    ids = [set(planned(f"{{use: npnet, name: n, checkpoint: {p}}}").jobs) for p in (one, same, other)]
    assert ids[0] == ids[1] != ids[2]
    identity = NPNetMethod(checkpoint=str(one)).for_model(ENTRY).identity()
    assert identity == {"digest": checkpoint.read_provenance(one)["digest"], "scale": 1.0, "version": "1"}
    assert ids[0] != set(planned(f"{{use: npnet, name: n, checkpoint: {one}, scale: 0.5}}").jobs)


def test_a_jobs_chain_finds_its_network_again(weights: Path) -> None:
    path = saved(weights / "mine.safetensors", seed=3)
    (job,) = [j for j in planned(f"{{use: npnet, name: n, checkpoint: {path}}}").jobs.values() if j.links]
    session, x = session_and_noise()
    torch.testing.assert_close(job.chain.noise(session, x), network(3)(x, session.cond["prompt_embeds"]))


def test_auto_takes_the_checkpoint_of_the_model(weights: Path) -> None:
    """Shipped ones before the user's own; an unchanged plan when another model's arrives."""
    own = saved(weights / "own" / "shapes-sdxl.safetensors", seed=4)
    assert NPNetMethod().for_model(ENTRY).digest == checkpoint.read_provenance(own)["digest"]
    shipped = saved(weights / "shipped" / "shapes-sdxl.safetensors", seed=5)
    before = set(planned("npnet").jobs)
    assert NPNetMethod().for_model(ENTRY).digest == checkpoint.read_provenance(shipped)["digest"]
    saved(weights / "shipped" / "sdxl.safetensors", seed=6)
    assert set(planned("npnet").jobs) == before
    by_name = NPNetMethod(checkpoint="sdxl").for_model(ENTRY)
    assert by_name.digest == checkpoint.read_provenance(weights / "shipped" / "sdxl.safetensors")["digest"]


def test_a_pinned_digest_refuses_another_file(weights: Path) -> None:
    path = saved(weights / "mine.safetensors")
    digest = checkpoint.read_provenance(path)["digest"]
    assert NPNetMethod(checkpoint=str(path), digest=digest[:12]).for_model(ENTRY).digest == digest
    with pytest.raises(UserError, match=f"has digest {digest[:12]}, and 000000000000 was asked for"):
        NPNetMethod(checkpoint=str(path), digest="0" * 12).for_model(ENTRY)


# What its report says ----------------------------------------------------------------------------------------------


def test_it_optimises_what_selected_its_pairs_and_what_its_teacher_chose_by(weights: Path) -> None:
    plain = saved(weights / "plain.safetensors", selected_by=("shapes-preference",), teacher=[{"use": "inversion"}])
    chosen = saved(
        weights / "chosen.safetensors",
        selected_by=(),
        teacher=[{"use": "best_nearby", "chooser": "shapes-clipscore", "n": 4}],
    )
    assert NPNetMethod(checkpoint=str(plain)).optimises() == ("shapes-preference",)
    assert NPNetMethod(checkpoint=str(chosen)).optimises() == ("shapes-clipscore",)
    assert Chain(links=(NPNetMethod(checkpoint=str(plain)),)).optimises() == ("shapes-preference",)
    assert NPNetMethod().optimises() == ()
    saved(weights / "shipped" / "shapes-sdxl.safetensors", selected_by=("shapes-preference",))
    assert NPNetMethod().optimises() == (), "which one auto takes, only the model says"
    assert NPNetMethod().for_model(ENTRY).optimises() == ("shapes-preference",)


def test_the_report_marks_what_the_plan_found_whatever_became_of_the_file(weights: Path) -> None:
    path = saved(weights / "shipped" / "shapes-sdxl.safetensors", selected_by=("shapes-aesthetic",))
    plan = planned("npnet")
    assert plan.optimises == {"standard": {"shapes-sdxl": []}, "npnet": {"shapes-sdxl": ["shapes-aesthetic"]}}
    ledger = Ledger(weights / "run", create=True)
    record_suite(ledger, plan)
    path.unlink()
    (weights / "own" / "other.safetensors").write_bytes(b"broken")

    def marks() -> set[tuple[str, str]]:
        return {(a["method"], m) for a in results.compute(ledger).document()["arms"] for m in a["optimises"]}

    assert marks() == {("npnet", "shapes-aesthetic")}
    assert all(c["marked"] for c in results.compute(ledger).document()["comparisons"])
    ledger.db.execute("DELETE FROM meta WHERE key = 'optimises'")
    assert marks() == set(), "an older ledger: what the method says by itself"


def test_a_network_that_taught_another_says_what_selected_its_own_pairs(weights: Path) -> None:
    first = saved(weights / "first.safetensors", selected_by=("shapes-preference",))
    _, identity = teachers.build([Link(use="npnet", params={"checkpoint": str(first)})], ENTRY)
    assert identity[0]["optimises"] == ["shapes-preference"]
    second = saved(weights / "second.safetensors", seed=1, selected_by=("shapes-clipscore",), teacher=list(identity))
    assert NPNetMethod(checkpoint=str(second)).optimises() == ("shapes-clipscore", "shapes-preference")


@pytest.mark.slow
def test_a_suite_runs_it_and_its_report_marks_the_metric(weights: Path) -> None:
    saved(weights / "shipped" / "shapes-sdxl.safetensors", seed=8, selected_by=("shapes-clipscore",))
    file = weights / "with_npnet.yaml"
    file.write_text(
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\nsteps: 4\n"
        "methods: [standard, npnet, {use: npnet, name: still, scale: 0}, {name: both, chain: [npnet, inversion]}]\n"
        "metrics: [shapes-clipscore, shapes-aesthetic]\n"
    )
    run, done = make_run(file, weights)
    assert done.code == 0, done.err
    files = dict(run.rows("SELECT method || prompt_index, file FROM cells JOIN images USING (job_id)"))
    pictures = {k: np.asarray(Image.open(run.folder / v)).astype(int) for k, v in files.items()}
    assert np.abs(pictures["npnet0"] - pictures["standard0"]).max() > 1
    assert np.abs(pictures["still0"] - pictures["standard0"]).max() <= 1
    calls = dict(run.rows("SELECT DISTINCT method, calls_noise FROM cells JOIN images USING (job_id)"))
    assert calls == {"standard": 0, "npnet": 0, "still": 0, "both": 2}
    arms = {a["method"]: a["optimises"] for a in run.results()["arms"]}
    assert arms == {m: [] if m == "standard" else ["shapes-clipscore"] for m in calls}
    again = call(*run.arguments())
    assert "finished before" in again.err
    assert json.dumps(str(weights)) not in json.dumps(run.results())


# What is wrong -----------------------------------------------------------------------------------------------------


def test_no_checkpoint_for_a_model_is_one_line_that_says_what_to_do(weights: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint for model 'shapes-sdxl': put shapes-sdxl\.safetensors or"):
        planned("npnet")


def test_a_name_that_is_nearly_known(weights: Path) -> None:
    saved(weights / "shipped" / "shapes-sdxl.safetensors")
    with pytest.raises(UserError, match="shapes-sdxk: neither a file nor a known checkpoint; did you mean 'shapes-sd"):
        planned("{use: npnet, checkpoint: shapes-sdxk}")


def test_a_checkpoint_for_other_latents_is_refused_before_anything_is_made(weights: Path) -> None:
    path = checkpoint.save(network(latent=(4, 16, 16)), weights / "big.safetensors")
    with pytest.raises(UserError, match=r"takes latents \(4, 16, 16\), and model 'shapes-sdxl' has \(4, 8, 8\)"):
        planned(f"{{use: npnet, checkpoint: {path}}}")


def test_a_checkpoint_that_vanished_or_changed_is_reported(weights: Path) -> None:
    path = saved(weights / "mine.safetensors", seed=9)
    made = NPNetMethod(checkpoint=str(path)).for_model(ENTRY)
    saved(path, seed=10)
    with pytest.raises(UserError, match="has changed since the run was planned"):
        made.noise(*session_and_noise())
    path.unlink()
    with pytest.raises(UserError, match=r"no checkpoint of digest [0-9a-f]{12} is known here"):
        made.noise(*session_and_noise())


def test_a_broken_checkpoint_is_reported(weights: Path) -> None:
    path = saved(weights / "mine.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"mine\.safetensors: truncated"):
        planned(f"{{use: npnet, checkpoint: {path}}}")


def test_planning_it_imports_no_torch(weights: Path) -> None:
    saved(weights / "own" / "shapes-sdxl.safetensors")
    code = (
        "import sys; from bench import suite; from bench.runner.plan import make_plan; "
        "s = suite.parse('models: [shapes-sdxl]\\nprompts: [shapes-pickapic]\\nsamplers: [ddim]\\n"
        "baseline: standard\\nmethods: [standard, npnet]\\nmetrics: [shapes-aesthetic]\\n', file='p'); "
        "print(len(make_plan(s).jobs), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["200", "False"], done.stderr
