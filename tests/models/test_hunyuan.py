"""Hunyuan-DiT's adapter, on a folder of random weights: it is the plain pipeline, in steps that methods may take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import torch
from conftest import Plug, call, make_run

from bench import registry
from bench.errors import UserError
from bench.models.base import Embeddings, Family
from bench.models.shapes_of import check_entry
from bench.prompts.base import Prompt
from bench.sampling import noise
from bench.sampling.records import Item, Sampling
from bench.sampling.schedule import move
from bench.sampling.session import Memory, Session

# diffusers calls numpy in ways that numpy 2 deprecates.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]

PROMPTS = ("a red circle", "two blue stars above a ring")
STEPS = 6
SUITE = """\
name: tiny_dit
models: [hunyuan-dit]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 4
guidance: 5.0
baseline: standard
methods:
  - standard
  - inversion
  - inversion_as_released
  - {use: best_of_n, name: best_of_2, n: 2, selection_metric: shapes-geneval}
  - reseed
metrics: [shapes-clipscore]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit.save(tmp_path_factory.mktemp("dit") / "hunyuan-dit")


@pytest.fixture(scope="module")
def model(folder: Path) -> Family:
    return loaded(folder)


@pytest.fixture(scope="module", params=["1.2", "1.1"])
def version(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of both kinds: the newer models do not read style and image sizes."""
    return folder if request.param == "1.2" else tiny_dit.save(tmp_path_factory.mktemp("older"), sizes=True)


def latents(prompts: Sequence[str] = PROMPTS) -> torch.Tensor:
    return noise.draw_batch(list(prompts), list(range(len(prompts))), (4, 8, 8))


def embedded(model: Family, prompts: Sequence[str] = PROMPTS, negative: str = "") -> tuple[Embeddings, Embeddings]:
    cond = model.encode(prompts)
    return cond, {k: v.expand_as(cond[k]) for k, v in model.encode_negative(negative).items()}


def session_of(
    model: Family,
    prompts: Sequence[str] = PROMPTS,
    *,
    guidance: float = 5.0,
    sampler: str = "ddim",
    negative: str = "",
    steps: int = STEPS,
    **more: Any,
) -> Session:
    cond, uncond = embedded(model, prompts, negative)
    items = [Item(Prompt(0, p), 0) for p in prompts]
    p = Sampling(sampler, steps, guidance, model.entry.size, model.dtype)
    return Session(model, items, p, **{"cond": cond, "uncond": uncond, **more})


def sampled(model: Family, prompts: Sequence[str] = PROMPTS, **given: Any) -> torch.Tensor:
    with torch.no_grad():
        return session_of(model, prompts, **given).sample(latents(prompts))


def stepped(session: Session, x: torch.Tensor) -> torch.Tensor:
    """DDIM by hand from the session's noise predictions; the last step ends at timestep 0."""
    schedule = session.schedule
    for t, to in pairwise([*session.timesteps, 0]):
        of_x, of_e = move(schedule.alpha(t), schedule.sigma(t), schedule.alpha(to), schedule.sigma(to))
        x = of_x * x + of_e * session.predict(x, t).eps
    return x


@cache
def loaded(folder: Path) -> Family:
    return tiny_dit.entry(folder).load("cpu")


@cache
def pipeline(folder: Path) -> Any:
    """diffusers' own, nothing of ours around it."""
    from diffusers import DDIMScheduler, HunyuanDiTPipeline

    pipe = HunyuanDiTPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    return pipe


def plain(folder: Path, *, guidance: float, negative: str | None) -> torch.Tensor:
    """Images (B, 3, H, W) of diffusers' own pipeline."""
    found: torch.Tensor = pipeline(folder)(
        list(PROMPTS),
        negative_prompt=None if negative is None else [negative] * len(PROMPTS),
        latents=latents(),
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=64,
        width=64,
        use_resolution_binning=False,
        output_type="pt",
    ).images
    return found


# The same images as the plain pipeline ------------------------------------------------------------------------------


@pytest.mark.parametrize(("guidance", "negative"), [(5.0, None), (5.0, "blurred"), (1.0, None)])
def test_steps_by_the_denoiser_end_at_the_plain_pipelines_images(
    version: Path, guidance: float, negative: str | None
) -> None:
    expected, model = plain(version, guidance=guidance, negative=negative), loaded(version)
    session = session_of(model, guidance=guidance, negative=negative or "")
    with torch.no_grad():
        by_hand = model.pixels(stepped(session, latents()))
        assert session.cost.nfe(0).forwards == STEPS
        by_loop = model.pixels(session.sample(latents()))
    torch.testing.assert_close(by_loop, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_hand, expected, rtol=0, atol=2e-5)
    assert session.cost.nfe(0).forwards == 2 * STEPS
    assert expected.std() > 0.05, "images of one colour would all be equal"


def test_guidance_and_the_negative_prompt_decide_the_image(folder: Path) -> None:
    images = [plain(folder, guidance=g, negative=n) for g, n in ((5.0, None), (5.0, "blurred"), (1.0, None))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (images[a] - images[b]).abs().max() > 1e-2


def test_the_networks_first_inputs_are_the_pipelines_to_the_last_bit(version: Path) -> None:
    """So a collection computes the step that its two arms share once."""
    model, memory = loaded(version), Memory()
    with torch.no_grad():
        one = session_of(model, memory=memory)
        one.predict(latents(), one.timesteps[0])
        sampled(model, memory=memory)
    assert (memory.calls, memory.reused) == (STEPS, 1)


def test_a_prediction_is_of_the_noise_though_the_network_says_velocity(model: Family) -> None:
    """v = alpha e - sigma x_0, so e = alpha v + sigma x (2202.00512, appendix D); half of the channels are variance."""
    x, t = latents(), 501
    said: list[torch.Tensor] = []
    hook = model.modules()["denoiser"].register_forward_hook(lambda module, given, output: said.append(output[0]))
    try:
        with torch.no_grad():
            e = session_of(model).predict(x, t, 1.0).eps
    finally:
        hook.remove()
    assert said[0].shape == (2, 8, 8, 8)
    betas = torch.linspace(0.00085**0.5, 0.018**0.5, 1000, dtype=torch.float64) ** 2
    kept = float(torch.cumprod(1 - betas, 0)[t])
    torch.testing.assert_close(e, kept**0.5 * said[0][:, :4] + (1 - kept) ** 0.5 * x, rtol=0, atol=1e-5)


def test_neither_the_batch_nor_its_order_changes_an_image(model: Family) -> None:
    prompts = (*PROMPTS, "a ring")
    together = sampled(model, prompts)
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            alone = session_of(model, [prompt]).sample(latents(prompts)[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_a_prompt_is_two_embeddings_with_their_masks(model: Family) -> None:
    cond = model.encode(PROMPTS)
    shapes = {name: tuple(value.shape) for name, value in cond.items()}
    assert shapes == {
        "prompt_embeds": (2, 77, tiny_dit.WIDTH),
        "prompt_attention_mask": (2, 77),
        "prompt_embeds_2": (2, 256, tiny_dit.WIDTH_2),
        "prompt_attention_mask_2": (2, 256),
    }
    lengths = [len("".join(p.split())) for p in PROMPTS]
    assert cond["prompt_attention_mask"].sum(1).tolist() == [n + 2 for n in lengths], "letters, a beginning and an end"
    alone = model.encode(PROMPTS[1:])
    for name, value in alone.items():
        torch.testing.assert_close(value[0], cond[name][1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["prompt_embeds", "prompt_attention_mask", "prompt_embeds_2", "prompt_attention_mask_2"]
)
def test_every_part_of_a_prompt_plays_its_part(model: Family, name: str) -> None:
    cond, uncond = embedded(model)
    other = {**cond, name: cond[name].flip(1)}
    with torch.no_grad():
        a, b = (
            session_of(model, cond=given, uncond=uncond).predict(latents(), 501, 1.0).eps for given in (cond, other)
        )
    assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_every_sampler_runs_with_as_many_calls_as_it_says(model: Family, name: str) -> None:
    calls: list[int] = []
    hook = model.modules()["denoiser"].register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    try:
        made = sampled(model, sampler=name)
    finally:
        hook.remove()
    assert calls == [4] * registry.get("samplers", name).calls(STEPS)
    assert torch.isfinite(made).all()


def test_a_latent_of_another_shape_is_refused(model: Family) -> None:
    with pytest.raises(ValueError, match=r"latents of shape \(2, 4, 16, 16\); hunyuan-dit expects \(2, 4, 8, 8\)"):
        session_of(model, steps=2).sample(torch.zeros(2, 4, 16, 16))


def test_an_image_need_not_be_square(version: Path) -> None:
    """Positions are stretched over the longer side, as the pipeline has it."""
    wide = replace(tiny_dit.entry(version), size=(64, 96), latent=(4, 8, 12)).load("cpu")
    x = noise.draw_batch([PROMPTS[0]], [0], (4, 8, 12))
    with torch.no_grad():
        session = session_of(wide, PROMPTS[:1], steps=2)
        looped, by_hand = session.sample(x), stepped(session, x)
    torch.testing.assert_close(by_hand, looped, rtol=0, atol=1e-4)
    assert wide.decode(looped).shape == (1, 64, 96, 3)


# From latents to pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", ["by a factor", "and shifted", "by statistics"])
def test_latents_are_unscaled_as_the_autoencoders_config_says(folder: Path, tmp_path: Path, scaled: str) -> None:
    """z / s, z / s + shift, or z std / s + mean by channel: what diffusers' pipelines of such autoencoders do."""
    copied = shutil.copytree(folder, tmp_path / "dit")
    path = copied / "vae" / "config.json"
    config = json.loads(path.read_text())
    mean, std = [0.5, -1.0, 0.25, 2.0], [1.5, 0.5, 2.0, 1.0]
    changes: dict[str, dict[str, Any]] = {
        "by a factor": {"scaling_factor": 0.5},
        "and shifted": {"scaling_factor": 0.5, "shift_factor": 0.75},
        "by statistics": {"scaling_factor": 0.5, "latents_mean": mean, "latents_std": std},
    }
    path.write_text(json.dumps({**config, **changes[scaled]}))
    model = tiny_dit.entry(copied).load("cpu")
    vae: Any = model.modules()["vae"]
    z = latents()
    unscaled = 2 * z
    if scaled == "and shifted":
        unscaled = unscaled + 0.75
    if scaled == "by statistics":
        unscaled = torch.stack([unscaled[:, c] * std[c] + mean[c] for c in range(4)], 1)
    with torch.no_grad():
        expected = (vae.decode(unscaled).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(model.pixels(z), expected, rtol=0, atol=1e-6)
        if scaled != "by a factor":
            plainly = (vae.decode(2 * z).sample / 2 + 0.5).clamp(0, 1)
            assert (model.pixels(z) - plainly).abs().max() > 1e-3
        grey = model.decode(z)
    assert (grey.shape, grey.dtype.name) == ((2, 64, 64, 3), "uint8")
    assert abs(torch.from_numpy(grey).permute(0, 3, 1, 2) / 255 - expected).max() <= 0.5 / 255 + 1e-6


# What its network predicts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction_type": "sample"}, "its network predicts 'sample'; expected epsilon or v_prediction"),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "its network predicts a flow; expected epsilon or v_prediction",
        ),
    ],
)
def test_what_predicts_neither_noise_nor_velocity_is_refused_when_planned_and_when_loaded(
    folder: Path, tmp_path: Path, plug: Plug, change: dict[str, Any], said: str
) -> None:
    copied = shutil.copytree(folder, tmp_path / "dit")
    path = copied / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    entry = tiny_dit.entry(copied)
    if "_class_name" in change:
        index = copied / "model_index.json"
        parts = json.loads(index.read_text())
        index.write_text(json.dumps({**parts, "scheduler": ["diffusers", change["_class_name"]]}))
    for refusing in (lambda: check_entry(entry), lambda: entry.load("cpu")):
        with pytest.raises(UserError, match=said) as caught:
            refusing()
        assert "\n" not in str(caught.value)
    put(plug, copied)
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    done = call("run", file, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert said in done.error


# The catalogue and a whole run --------------------------------------------------------------------------------------


def test_the_catalogue_has_the_papers_model() -> None:
    """The released code's hub id; A.4 of the first version: guidance 5, 50 steps."""
    row = registry.get("models", "hunyuan-dit")
    assert row.source == "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers"
    assert (row.steps, row.guidance, row.size, row.latent) == (50, 5.0, (1024, 1024), (4, 128, 128))
    assert registry.twin("models", "hunyuan-dit") == "shapes-sdxl"


def put(plug: Plug, folder: Path) -> None:
    """Let the catalogue's row be a folder of the test."""
    plug("models", **{"hunyuan-dit": tiny_dit.entry(folder)})


def test_a_suite_runs_on_it_with_every_method(folder: Path, tmp_path: Path, plug: Plug) -> None:
    put(plug, folder)
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    run, done = make_run(file, tmp_path, "--limit", 2)
    assert done.code == 0, done.err
    counted = run.rows("SELECT DISTINCT method, calls_noise, calls_sampling FROM cells JOIN images USING (job_id)")
    calls = {method: noise + sampling - 4 for method, noise, sampling in counted}
    assert calls == {"standard": 0, "inversion": 2, "inversion_as_released": 2, "best_of_2": 4, "reseed": 0}, (
        "best of two is charged for the other candidate"
    )
    digests = run.rows("SELECT method, prompt_index, digest FROM cells JOIN images USING (job_id)")
    pictures = {(method, index): digest for method, index, digest in digests}
    for index in (0, 1):
        made = {m: pictures[m, index] for m in calls}
        assert made.pop("best_of_2") in (made["standard"], made["reseed"])
        assert len(set(made.values())) == 4, "each of the others makes an image of its own"
    assert "finished before" in call(*run.arguments("--limit", 2)).err


# Folders that are not whole -----------------------------------------------------------------------------------------


def without_weights(folder: Path) -> str:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return "no file named diffusion_pytorch_model"


def cut_short(folder: Path) -> str:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    return "does not load from"


def without_the_second_encoder(folder: Path) -> str:
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in index.items() if not k.endswith("_2")}))
    return "it has no text_encoder_2, tokenizer_2"


def of_another_pipeline(folder: Path) -> str:
    shutil.rmtree(folder)
    shutil.copytree(registry.get("models", "shapes-sdxl").source, folder)
    return "it is a StableDiffusionXLPipeline; expected a HunyuanDiTPipeline"


def index_cut_short(folder: Path) -> str:
    path = folder / "model_index.json"
    path.write_text(path.read_text()[:100])
    return "model_index.json"


@pytest.mark.parametrize(
    "harm", [without_weights, cut_short, without_the_second_encoder, of_another_pipeline, index_cut_short]
)
def test_a_folder_that_is_not_whole_is_one_line(folder: Path, tmp_path: Path, harm: Callable[[Path], str]) -> None:
    broken = shutil.copytree(folder, tmp_path / "dit")
    said = harm(broken)
    with pytest.raises(UserError, match="model 'hunyuan-dit' does not load from ") as caught:
        tiny_dit.entry(broken).load("cpu")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, plug: Plug) -> None:
    put(plug, tmp_path / "nowhere")
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    done = call("run", file, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert "nowhere: no model_index.json there" in done.error


@pytest.mark.parametrize("available", ["is_sentencepiece_available", "is_protobuf_available"])
def test_what_the_published_tokenizer_needs_is_reported_before_it_is_downloaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: str
) -> None:
    """It is a SentencePiece file, for which transformers without the packages asks for another one."""
    for name in ("is_sentencepiece_available", "is_protobuf_available"):
        monkeypatch.setattr(f"transformers.utils.{name}", lambda name=name: name != available)
    said = r"hunyuan-dit': its T5 tokenizer needs sentencepiece and protobuf; pip install sentencepiece protobuf"
    with pytest.raises(UserError, match=said):
        registry.get("models", "hunyuan-dit").load("cpu")
    as_published = shutil.copytree(folder, tmp_path / "dit")
    (as_published / "tokenizer_2" / "tokenizer.json").rename(as_published / "tokenizer_2" / "spiece.model")
    with pytest.raises(UserError, match=said):
        tiny_dit.entry(as_published).load("cpu")
    assert tiny_dit.entry(folder).load("cpu")
