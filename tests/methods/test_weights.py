"""Other weights on the denoiser: equal to a pipeline that was loaded with them, pinned by content, refused by name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_unet
import torch
from analytic import session

from bench import registry, suite
from bench.errors import UserError
from bench.job import preflight
from bench.methods.base import Method, check_chain
from bench.methods.dpo import DPO
from bench.models.base import Family
from bench.prompts.base import Prompt
from bench.runner.plan import Plan, make_plan
from bench.sampling.records import LORA, NETWORK, Sampling
from bench.weights.files import COMMIT, pin

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
PROMPTS = ("a red cat", "a photo of a dog and a frog")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`own` and `other`, equal but for the denoiser; `sd`, of another architecture; `lora`, for the first."""
    found = tmp_path_factory.mktemp("weights")
    own = tiny_unet.save_sdxl(found / "own", sharpness=1.0)
    other = tiny_unet.save_sdxl(found / "another", sharpness=1.0, seed=1)
    shutil.copytree(own, found / "other")
    shutil.rmtree(found / "other" / "unet")
    shutil.copytree(other / "unet", found / "other" / "unet")
    tiny_unet.save_sd(found / "sd", sharpness=1.0)
    save_lora(own, found / "lora")
    return found


def save_lora(pipeline: Path, folder: Path, **more: Any) -> Path:
    """A LoRA for a pipeline's UNet whose updates are not zero."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    peft = pytest.importorskip("peft")
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet")
    torch.manual_seed(3)
    config = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_v"], **more}
    unet.add_adapter(peft.LoraConfig(init_lora_weights=False, **config))
    layers = peft.utils.get_peft_model_state_dict(unet)
    StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


def loaded(folder: Path) -> Family:
    return tiny_unet.entry(folder).load("cpu")


@pytest.fixture(scope="module")
def family(home: Path) -> Family:
    return loaded(home / "own")


def latents(family: Family, methods: Any = (), **more: Any) -> torch.Tensor:
    """Final latents with the methods' weights on, as a run makes them."""
    s = session(methods, prompts=PROMPTS, family=family, **{"steps": 4, **more})
    try:
        family.wear(s.method.adapters())
        s.meter.rebind(family.modules())
        with torch.no_grad():
            found = s.sample(s.draw())
        assert s.cost.nfe(0).forwards == len(s.schedule.entries)
        return found
    finally:
        s.meter.close()


def parameters(network: Any) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


# What is made --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["other", "other/unet", "other/unet/diffusion_pytorch_model.safetensors"])
def test_a_network_in_its_place_is_the_pipeline_with_that_network(home: Path, family: Family, place: str) -> None:
    swapped = latents(family, DPO(weights=str(home / place)))
    assert torch.equal(swapped, latents(loaded(home / "other")))
    assert not torch.equal(swapped, latents(family))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_lora_is_the_pipelines_own(home: Path, family: Family, scale: float) -> None:
    """Updates added into the weights against updates computed beside them, to 1e-5 of latents of unit size."""
    ours = latents(family, DPO(weights=str(home / "lora"), scale=scale))
    theirs = loaded(home / "own")
    pipeline: Any = theirs.pipeline  # type: ignore[attr-defined]
    pipeline.load_lora_weights(home / "lora", adapter_name="x")
    pipeline.set_adapters(["x"], [scale])
    expected = latents(theirs)
    assert float((expected - latents(family)).abs().max()) > 1e-2
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_arms_may_take_turns_and_leave_the_models_own_weights(home: Path, family: Family) -> None:
    family.wear(())
    own = family.modules()["denoiser"]
    before, plain = parameters(own), latents(family)
    swap, lora = DPO(weights=str(home / "other")), DPO(weights=str(home / "lora"))
    first = {m: latents(family, m) for m in (swap, lora)}
    for m in (lora, swap, swap, lora):
        assert torch.equal(latents(family, m), first[m])
        assert torch.equal(latents(family), plain)
    family.wear(())
    assert family.modules()["denoiser"] is own
    after = parameters(own)
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


# What enters the job id ----------------------------------------------------------------------------------------------


def planned(model: Path | str, *methods: str) -> Plan:
    text = f"""\
name: weights
models: ['{model}']
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 10
baseline: standard
methods: [standard, {", ".join(methods)}]
metrics: [shapes-clipscore]
"""
    return make_plan(suite.parse(text, file="suites/weights.yaml"), read=lambda name: [Prompt(0, "a cat and a dog")])


def ids(plan: Plan) -> list[str]:
    return [job.id for job in plan.jobs.values() if job.links]


@pytest.mark.parametrize("kind", ["other", "lora"])
def test_what_weights_are_enters_the_job_id_and_not_where_they_lie(home: Path, tmp_path: Path, kind: str) -> None:
    moved = shutil.copytree(home / kind, tmp_path / "moved")
    place = ids(planned(home / "own", f"{{use: dpo, weights: '{home / kind}'}}"))
    assert place == ids(planned(home / "own", f"{{use: dpo, weights: '{moved}'}}"))
    (job,) = (j for j in planned(home / "own", f"{{use: dpo, weights: '{moved}'}}").jobs.values() if j.links)
    assert str(tmp_path) not in json.dumps(job.links)
    inside = moved / "unet" if kind == "other" else moved
    (file,) = inside.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert place != ids(planned(home / "own", f"{{use: dpo, weights: '{moved}'}}"))


def test_a_loras_scale_enters_the_job_id(home: Path) -> None:
    half, whole = (
        ids(planned(home / "own", f"{{use: dpo, weights: '{home / 'lora'}', scale: {scale}}}")) for scale in (0.5, 1.0)
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


def test_references_name_a_place_or_a_commit(home: Path) -> None:
    commit = "0123456789" * 4
    found = pin(f"someone/net@{commit}", of="dpo")
    assert (found.kind, found.subfolder, found.file, found.revision) == (NETWORK, None, None, commit)
    found = pin(f"someone/net@{commit}:deep/my_LoRA.safetensors", of="dpo")
    assert (found.kind, found.subfolder, found.file) == (LORA, "deep", "my_LoRA.safetensors")
    assert found.digest == f"someone/net@{commit}:deep/my_LoRA.safetensors"
    assert pin(f"someone/net@{commit}:unet", of="dpo").subfolder == "unet"
    assert pin(str(home / "lora"), of="dpo").kind == LORA
    assert pin(str(home / "other"), of="dpo").digest == pin(str(home / "other" / "unet"), of="dpo").digest


# Chains --------------------------------------------------------------------------------------------------------------


def test_swapped_weights_stand_in_chains_with_noise_and_timesteps(home: Path) -> None:
    dpo = f"{{use: dpo, weights: '{home / 'other'}'}}"
    plan = planned(home / "own", f"{{chain: [{dpo}, inversion], name: a}}", f"{{chain: [{dpo}, reseed], name: b}}")
    assert {tuple(name for name, _ in j.links) for j in plan.jobs.values()} == {(), ("dpo", "inversion"), ("dpo",)}


def test_two_networks_or_two_loras_are_refused(home: Path) -> None:
    entry, p = tiny_unet.entry(home / "own"), Sampling("ddim", 10, 5.0, (32, 32))
    for place, reason in (("other", "both replace the denoiser's weights"), ("lora", "both add a LoRA")):
        links: list[Method] = [DPO(weights=str(home / place)).for_model(entry) for _ in range(2)]
        with pytest.raises(ValueError, match=f"'dpo' and 'dpo' cannot stand in one chain: {reason}"):
            check_chain(links, ["dpo", "dpo"], p)
    one = [DPO(weights=str(home / place)).for_model(entry) for place in ("other", "lora")]
    check_chain(one, ["dpo", "dpo"], p)


def test_a_network_is_put_on_before_its_lora_in_either_order(home: Path, family: Family) -> None:
    swap, lora = DPO(weights=str(home / "other")), DPO(weights=str(home / "lora"))
    theirs = loaded(home / "other")
    expected = latents(theirs, lora)
    for chain in ([swap, lora], [lora, swap]):
        torch.testing.assert_close(latents(family, chain), expected, rtol=1e-5, atol=1e-5)


# Refusals ------------------------------------------------------------------------------------------------------------


def refused(act: Callable[[], object], match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        act()
    assert "\n" not in str(error.value)


def test_places_that_hold_no_weights_are_refused(home: Path, tmp_path: Path) -> None:
    entry = tiny_unet.entry(home / "own")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"no header at all")
    wrong = {
        str(tmp_path / "nowhere"): "no such folder or file",
        "nowhere": "no such place",
        "someone/net": "no such place",
        "someone/net@main": "'main' is no commit of 40 hex digits",
        str(tmp_path / "empty"): "no weights there",
        str(tmp_path / "broken.safetensors"): "not a readable .safetensors file",
    }
    for reference, match in wrong.items():
        refused(lambda given=reference: DPO(weights=given).for_model(entry), match)  # type: ignore[misc]
    refused(lambda: DPO().for_model(entry), "no weights are known for model 'own'; give weights")
    refused(lambda: DPO(weights=str(home / "other"), scale=0.5).for_model(entry), "scale 0.5 is for a LoRA")


def test_weights_of_another_architecture_are_refused(home: Path, family: Family) -> None:
    for place in ("sd", "sd/unet/diffusion_pytorch_model.safetensors"):
        refused(
            lambda given=place: latents(family, DPO(weights=str(home / given))),  # type: ignore[misc]
            "another architecture than model 'own' has .* here",
        )
    save_lora(home / "sd", home / "sd-lora")
    refused(lambda: latents(family, DPO(weights=str(home / "sd-lora"))), "another architecture than model 'own' has")


def test_a_lora_that_fits_nothing_is_refused(home: Path, family: Family, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(home / "lora" / "pytorch_lora_weights.safetensors")
    elsewhere = {f"unet.elsewhere.lora_{k}.weight": torch.ones(2, 2) for k in "AB"}
    renamed = {
        "nothing": {k.replace("down_blocks", "elsewhere").replace("up_blocks", "elsewhere").replace("mid_block", "e"): v
                    for k, v in state.items()},
        "text": {k.replace("unet.", "text_encoder."): v for k, v in state.items()},
        "both": {**state, **{k.replace("unet.", "text_encoder."): v for k, v in state.items()}},
        "partly": {**state, **elsewhere},
    }  # fmt: skip
    matches = {
        "nothing": "none of its updates is for a layer of model 'own'",
        "text": "none of its updates is for the unet",
        "both": "it changes text_encoder too",
        "partly": "not all of its updates are for a layer",
    }
    for name, tensors in renamed.items():
        save_file({k: v.clone() for k, v in tensors.items()}, tmp_path / f"{name}.safetensors")
        method = DPO(weights=str(tmp_path / f"{name}.safetensors"))
        refused(lambda m=method: latents(family, m), matches[name])  # type: ignore[misc]
    latents(family)


def test_a_lora_without_peft_is_reported_before_anything_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # how Python marks a module that cannot be imported
    needed = {name: preflight.missing(preflight.needs(planned(home / "own", f"{{use: dpo, weights: '{home / name}'}}")))
              for name in ("lora", "other")}  # fmt: skip
    (need,) = needed["lora"]
    assert (need.of, need.source.command) == ("method dpo", "pip install peft")
    assert needed["other"] == []
    with pytest.raises(UserError, match=r"method dpo needs peft \(pip install peft\)"):
        preflight.check([need], suite="mine.yaml")


def test_a_method_that_met_no_model_says_so() -> None:
    refused(lambda: DPO().adapters(), "no weights were chosen")
    entry = registry.get("models", "sdxl")
    (weights,) = DPO().for_model(entry).adapters()
    assert weights.source == "mhdang/dpo-sdxl-text2image-v1"
    assert replace(weights, source="elsewhere").identity() == weights.identity()
