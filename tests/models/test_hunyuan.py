"""Hunyuan-DiT's adapter, on a folder of random weights: it is the plain pipeline, in steps that methods may take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import torch
from conftest import call, make_run

from bench import noise, registry
from bench.errors import UserError
from bench.methods.inversion import move
from bench.models.base import Denoiser, Embeddings, Model

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
  - {use: best_of_n, name: best_of_2, n: 2, chooser: shapes-geneval}
  - reseed
metrics: [shapes-clipscore]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit.save(tmp_path_factory.mktemp("dit") / "hunyuan-dit")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return tiny_dit.entry(folder).load("cpu")


@pytest.fixture(scope="module", params=["1.2", "1.1"])
def version(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of both kinds: the newer models do not read style and image sizes."""
    return folder if request.param == "1.2" else tiny_dit.save(tmp_path_factory.mktemp("older"), sizes=True)


def latents(prompts: Sequence[str] = PROMPTS) -> torch.Tensor:
    return noise.draw_batch(list(prompts), list(range(len(prompts))), (4, 8, 8))


def embedded(model: Model, prompts: Sequence[str] = PROMPTS, negative: str = "") -> tuple[Embeddings, Embeddings]:
    cond = model.encode(prompts)
    return cond, {k: v.expand_as(cond[k]) for k, v in model.encode_negative(negative).items()}


def scheduler(model: Model, name: str = "ddim") -> Any:
    # As saved: sampling replaces the pipeline's scheduler.
    config = json.loads((Path(model.entry.source) / "scheduler" / "scheduler_config.json").read_text())
    return registry.get("samplers", name).build(config)


def sampled(model: Model, prompts: Sequence[str] = PROMPTS, *, guidance: float = 5.0, sampler: str = "ddim") -> Any:
    cond, uncond = embedded(model, prompts)
    made = model.sample(
        latents(prompts),
        scheduler(model, sampler),
        steps=STEPS,
        guidance=guidance,
        cond=cond,
        uncond=uncond,
        generators=[noise.generator(p, 0, "sampler") for p in prompts],
    )
    return made


def stepped(denoiser: Denoiser, x: torch.Tensor) -> torch.Tensor:
    """DDIM by hand from the denoiser's noise predictions; the last step ends at timestep 0."""
    places = [*denoiser.timesteps, 0]
    for t, to in pairwise(places):
        of_x, of_e = move(denoiser.alpha(t), denoiser.sigma(t), denoiser.alpha(to), denoiser.sigma(to))
        x = of_x * x + of_e * denoiser.predict(x, t, denoiser.guidance)
    return x


def plain(folder: Path, *, guidance: float, negative: str | None) -> torch.Tensor:
    """Images (B, 3, H, W) of diffusers' own pipeline, nothing of ours around it."""
    from diffusers import DDIMScheduler, HunyuanDiTPipeline

    pipe = HunyuanDiTPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    found: torch.Tensor = pipe(
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
    expected = plain(version, guidance=guidance, negative=negative)
    model = tiny_dit.entry(version).load("cpu")
    cond, uncond = embedded(model, negative=negative or "")
    with torch.inference_mode():
        denoiser = model.denoiser(scheduler(model), STEPS, guidance, cond, uncond)
        by_hand = model.pixels(stepped(denoiser, latents()))
        by_loop = model.pixels(
            model.sample(
                latents(),
                scheduler(model),
                steps=STEPS,
                guidance=guidance,
                cond=cond,
                uncond=uncond,
                generators=[torch.Generator() for _ in PROMPTS],
            )
        )
    torch.testing.assert_close(by_loop, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_hand, expected, rtol=0, atol=2e-5)
    assert denoiser.calls == STEPS
    assert expected.std() > 0.05, "images of one colour would all be alike"


def test_guidance_and_the_negative_prompt_decide_the_image(folder: Path) -> None:
    images = [plain(folder, guidance=g, negative=n) for g, n in ((5.0, None), (5.0, "blurred"), (1.0, None))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (images[a] - images[b]).abs().max() > 1e-2


def test_the_networks_first_inputs_are_the_pipelines_to_the_last_bit(version: Path) -> None:
    """So a collection computes the step that its two arms share once."""
    model = tiny_dit.entry(version).load("cpu")
    with torch.inference_mode(), model.remember_first() as record:
        denoiser = model.denoiser(scheduler(model), STEPS, 5.0, *embedded(model))
        denoiser.predict(latents(), denoiser.timesteps[0], 5.0)
        sampled(model)
    assert (record.calls, record.reused) == (STEPS, 1)


def test_a_prediction_is_of_the_noise_though_the_network_says_velocity(model: Model) -> None:
    """v = alpha e - sigma x_0, so e = alpha v + sigma x (2202.00512, appendix D); half of the channels are variance."""
    cond, uncond = embedded(model)
    x, t = latents(), 501
    said: list[torch.Tensor] = []
    hook = model.modules()["denoiser"].register_forward_hook(lambda module, given, output: said.append(output[0]))
    try:
        with torch.inference_mode():
            denoiser = model.denoiser(scheduler(model), STEPS, 5.0, cond, uncond)
            e = denoiser.predict(x, t, 1.0)
    finally:
        hook.remove()
    assert said[0].shape == (2, 8, 8, 8)
    betas = torch.linspace(0.00085**0.5, 0.018**0.5, 1000, dtype=torch.float64) ** 2
    kept = float(torch.cumprod(1 - betas, 0)[t])
    torch.testing.assert_close(e, kept**0.5 * said[0][:, :4] + (1 - kept) ** 0.5 * x, rtol=0, atol=1e-5)


def test_neither_the_batch_nor_its_order_changes_an_image(model: Model) -> None:
    prompts = (*PROMPTS, "a ring")
    together = sampled(model, prompts)
    for i, prompt in enumerate(prompts):
        cond, uncond = embedded(model, [prompt])
        alone = model.sample(
            latents(prompts)[i : i + 1],
            scheduler(model),
            steps=STEPS,
            guidance=5.0,
            cond=cond,
            uncond=uncond,
            generators=[torch.Generator()],
        )
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_a_prompt_is_two_embeddings_with_their_masks(model: Model) -> None:
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
def test_every_part_of_a_prompt_plays_its_part(model: Model, name: str) -> None:
    cond, uncond = embedded(model)
    other = {**cond, name: cond[name].flip(1)}
    with torch.inference_mode():
        a, b = (
            model.denoiser(scheduler(model), STEPS, 5.0, given, uncond).predict_one(latents(), 501)
            for given in (cond, other)
        )
    assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_every_sampler_runs_with_as_many_calls_as_it_says(model: Model, name: str) -> None:
    calls: list[int] = []
    hook = model.modules()["denoiser"].register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    try:
        made = sampled(model, sampler=name)
    finally:
        hook.remove()
    assert calls == [4] * registry.get("samplers", name).calls(STEPS)
    assert torch.isfinite(made).all()


def test_a_latent_of_another_shape_is_refused(model: Model) -> None:
    cond, uncond = embedded(model)
    with pytest.raises(ValueError, match=r"latents of shape \(2, 4, 16, 16\); hunyuan-dit expects \(2, 4, 8, 8\)"):
        model.sample(
            torch.zeros(2, 4, 16, 16),
            scheduler(model),
            steps=2,
            guidance=5.0,
            cond=cond,
            uncond=uncond,
            generators=[torch.Generator()] * 2,
        )


def test_an_image_need_not_be_square(version: Path) -> None:
    """Positions are stretched over the longer side, as the pipeline has it."""
    wide = replace(tiny_dit.entry(version), size=(64, 96), latent=(4, 8, 12)).load("cpu")
    cond, uncond = embedded(wide, PROMPTS[:1])
    x = noise.draw_batch([PROMPTS[0]], [0], (4, 8, 12))
    given: dict[str, Any] = {"steps": 2, "guidance": 5.0, "cond": cond, "uncond": uncond}
    with torch.inference_mode():
        looped = wide.sample(x, scheduler(wide), **given, generators=[torch.Generator()])
        by_hand = stepped(wide.denoiser(scheduler(wide), **given), x)
    torch.testing.assert_close(by_hand, looped, rtol=0, atol=1e-4)
    assert wide.decode(looped).shape == (1, 64, 96, 3)


# The catalogue and a whole run --------------------------------------------------------------------------------------


def test_the_catalogue_has_the_papers_model() -> None:
    """The released code's hub id; A.4 of the first version: guidance 5, 50 steps."""
    row = registry.get("models", "hunyuan-dit")
    assert row.source == "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers"
    assert (row.steps, row.guidance, row.size, row.latent) == (50, 5.0, (1024, 1024), (4, 128, 128))
    assert registry.twin("models", "hunyuan-dit") == "shapes-sdxl"


def put(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the catalogue's row be a folder of the test."""
    monkeypatch.setitem(registry._plugins["models"], "hunyuan-dit", tiny_dit.entry(folder))
    monkeypatch.setattr("bench.plan._digests", {})


def test_a_suite_runs_on_it_with_every_method(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, folder)
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    run, done = make_run(file, tmp_path, "--limit", 2)
    assert done.code == 0, done.err
    calls = dict(run.rows("SELECT DISTINCT method, calls_noise FROM cells JOIN images USING (job_id)"))
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


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, tmp_path / "nowhere")
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    done = call("run", file, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert "nowhere: no model_index.json or config.json there" in done.error


@pytest.mark.parametrize("available", ["is_sentencepiece_available", "is_protobuf_available"])
def test_what_the_published_tokenizer_needs_is_told_before_it_is_downloaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: str
) -> None:
    """It is a SentencePiece file, for which transformers without the packages asks for another one."""
    for name in ("is_sentencepiece_available", "is_protobuf_available"):
        monkeypatch.setattr(f"transformers.utils.{name}", lambda name=name: name != available)
    said = r"hunyuan-dit': its T5 tokenizer needs sentencepiece and protobuf; pip install 'noisebench\[hunyuan\]'"
    with pytest.raises(UserError, match=said):
        registry.get("models", "hunyuan-dit").load("cpu")
    as_published = shutil.copytree(folder, tmp_path / "dit")
    (as_published / "tokenizer_2" / "tokenizer.json").rename(as_published / "tokenizer_2" / "spiece.model")
    with pytest.raises(UserError, match=said):
        tiny_dit.entry(as_published).load("cpu")
    assert tiny_dit.entry(folder).load("cpu")
