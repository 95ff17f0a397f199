"""Other weights on the denoiser: equal to a pipeline that was loaded with them, pinned by content, in chains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_unet
import torch

from bench import registry
from bench.methods.base import Method, check_chain
from bench.methods.dpo import DPO
from bench.models.base import Family
from bench.runner.plan import Plan
from bench.sampling.records import LORA, NETWORK, Sampling
from bench.weights.files import COMMIT, pin

from .wearing import latents, loaded, planned

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]


def parameters(network: Any) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


# What is made --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_other(worn: Path) -> torch.Tensor:
    """Latents of the pipeline that was loaded with the other network."""
    return latents(loaded(worn / "other"))


@pytest.mark.parametrize("place", ["other", "other/unet", "other/unet/diffusion_pytorch_model.safetensors"])
def test_a_network_in_its_place_is_the_pipeline_with_that_network(
    worn: Path, own: Family, of_other: torch.Tensor, place: str
) -> None:
    swapped = latents(own, DPO(weights=str(worn / place)))
    assert torch.equal(swapped, of_other)
    assert not torch.equal(swapped, latents(own))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_lora_is_the_pipelines_own(worn: Path, own: Family, scale: float) -> None:
    """Updates added into the weights against updates computed beside them, to 1e-5 of latents of unit size."""
    ours = latents(own, DPO(weights=str(worn / "lora"), scale=scale))
    theirs = loaded(worn / "own")
    pipeline: Any = theirs.pipeline  # type: ignore[attr-defined]
    pipeline.load_lora_weights(worn / "lora", adapter_name="x")
    pipeline.set_adapters(["x"], [scale])
    expected = latents(theirs)
    assert float((expected - latents(own)).abs().max()) > 1e-2
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_arms_may_take_turns_and_leave_the_models_own_weights(worn: Path, own: Family) -> None:
    own.wear(())
    network = own.modules()["denoiser"]
    before, plain = parameters(network), latents(own)
    swap, lora = DPO(weights=str(worn / "other")), DPO(weights=str(worn / "lora"))
    first = {m: latents(own, m) for m in (swap, lora)}
    for m in (lora, swap, swap, lora):
        assert torch.equal(latents(own, m), first[m])
        assert torch.equal(latents(own), plain)
    own.wear(())
    assert own.modules()["denoiser"] is network
    after = parameters(network)
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


# What enters the job id ----------------------------------------------------------------------------------------------


def ids(plan: Plan) -> list[str]:
    return [job.id for job in plan.jobs.values() if job.links]


@pytest.mark.parametrize("kind", ["other", "lora"])
def test_what_weights_are_enters_the_job_id_and_not_where_they_lie(worn: Path, tmp_path: Path, kind: str) -> None:
    moved = shutil.copytree(worn / kind, tmp_path / "moved")
    place = ids(planned(worn / "own", f"{{use: dpo, weights: '{worn / kind}'}}"))
    assert place == ids(planned(worn / "own", f"{{use: dpo, weights: '{moved}'}}"))
    (job,) = (j for j in planned(worn / "own", f"{{use: dpo, weights: '{moved}'}}").jobs.values() if j.links)
    assert str(tmp_path) not in json.dumps(job.links)
    inside = moved / "unet" if kind == "other" else moved
    (file,) = inside.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert place != ids(planned(worn / "own", f"{{use: dpo, weights: '{moved}'}}"))


def test_a_loras_scale_enters_the_job_id(worn: Path) -> None:
    half, whole = (
        ids(planned(worn / "own", f"{{use: dpo, weights: '{worn / 'lora'}', scale: {scale}}}")) for scale in (0.5, 1.0)
    )
    assert half != whole


def test_published_rows_are_pinned_commits() -> None:
    rows = [registry.get("weights", name) for name in registry.names("weights")]
    published = [r for r in rows if not Path(r.source).is_absolute()]
    assert {r.method for r in published} >= {"dpo", "lcm", "pcm", "lightning", "turbo"}
    for row in published:
        assert COMMIT.fullmatch(row.revision), row
        assert row.model in registry.names("models")
        assert row.pinned().digest.startswith(f"{row.source}@{row.revision}")
        assert row.pinned().kind == row.kind
    assert len({(r.method, r.model, r.variant) for r in rows}) == len(rows)


def test_references_name_a_place_or_a_commit(worn: Path) -> None:
    commit = "0123456789" * 4
    found = pin(f"someone/net@{commit}", of="dpo")
    assert (found.kind, found.subfolder, found.file, found.revision) == (NETWORK, None, None, commit)
    found = pin(f"someone/net@{commit}:deep/my_LoRA.safetensors", of="dpo")
    assert (found.kind, found.subfolder, found.file) == (LORA, "deep", "my_LoRA.safetensors")
    assert found.digest == f"someone/net@{commit}:deep/my_LoRA.safetensors"
    assert pin(f"someone/net@{commit}:unet", of="dpo").subfolder == "unet"
    assert pin(str(worn / "lora"), of="dpo").kind == LORA
    assert pin(str(worn / "other"), of="dpo").digest == pin(str(worn / "other" / "unet"), of="dpo").digest


# Chains --------------------------------------------------------------------------------------------------------------


def test_swapped_weights_stand_in_chains_with_noise_and_timesteps(worn: Path) -> None:
    dpo = f"{{use: dpo, weights: '{worn / 'other'}'}}"
    plan = planned(worn / "own", f"{{chain: [{dpo}, inversion], name: a}}", f"{{chain: [{dpo}, reseed], name: b}}")
    assert {tuple(name for name, _ in j.links) for j in plan.jobs.values()} == {(), ("dpo", "inversion"), ("dpo",)}


def test_two_networks_or_two_loras_are_refused(worn: Path) -> None:
    entry, p = tiny_unet.entry(worn / "own"), Sampling("ddim", 10, 5.0, (32, 32))
    for place, reason in (("other", "both replace the denoiser's weights"), ("lora", "both add a LoRA")):
        links: list[Method] = [DPO(weights=str(worn / place)).for_model(entry) for _ in range(2)]
        with pytest.raises(ValueError, match=f"'dpo' and 'dpo' cannot stand in one chain: {reason}"):
            check_chain(links, ["dpo", "dpo"], p)
    one = [DPO(weights=str(worn / place)).for_model(entry) for place in ("other", "lora")]
    check_chain(one, ["dpo", "dpo"], p)


def test_a_network_is_put_on_before_its_lora_in_either_order(worn: Path, own: Family) -> None:
    swap, lora = DPO(weights=str(worn / "other")), DPO(weights=str(worn / "lora"))
    theirs = loaded(worn / "other")
    expected = latents(theirs, lora)
    for chain in ([swap, lora], [lora, swap]):
        torch.testing.assert_close(latents(own, chain), expected, rtol=1e-5, atol=1e-5)
