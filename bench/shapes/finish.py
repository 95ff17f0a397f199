"""Finished twins: their folders, their figures and their cards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.shapes import control, evaluate, networks, package, stylist, teacher

CAPTIONS = 300
"""Validation captions of each task from which the figures of the newer cards are taken: a share of 0.8 has a
standard error of 0.023, with 100 captions 0.04."""

GUIDANCE = 5.0
FEW_STEPS = 4
MANY_STEPS = f"geneval_g5_{CAPTIONS}_captions"
Say = Callable[[str], Any]


def started_from(folder: Path) -> dict[str, str]:
    """The command and the denoiser's sha256 of the pipeline that a twin was trained from."""
    weights = (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    command = package.read_card(folder).get("command", "")
    return {"name": "shapes-sdxl", "command": command, "unet_sha256": hashlib.sha256(weights).hexdigest()}


def places(
    folder: Path, before: Path, unet: Any, first: Any, totals: dict[str, Any], *, say: Say, **facts: Any
) -> None:
    """`shapes-sdxl` with the cured denoiser and first text encoder, and what it draws before and after."""
    start = package.load_pipeline(before)
    package.save_pipeline(folder, vae=start.vae, unet=unet, first=first, second=start.text_encoder_2)
    facts |= {
        "started_from": started_from(before),
        "training": package.read_card(before).get("training", {}) | {"places": totals},
        "parameters": {"unet": networks.parameters(unet), "vae": networks.parameters(start.vae)},
    }
    # The twins can start from it before all figures are known.
    package.write_card(folder, **facts, figures={})
    say(f"places: {folder} written, evaluating")
    figures: dict[str, Any] = {}
    for name, one in (("after", folder), ("before", before)):
        found = evaluate.geneval(package.load_pipeline(one), guidance=GUIDANCE, per_task=CAPTIONS)
        figures[f"{MANY_STEPS}_{name}"] = found
        say(f"places: {name}: {found}")
    figures["vae"] = evaluate.vae_agreement(package.load_pipeline(folder).vae)
    for guidance in (1.0, 3.0, 5.0, 7.5):
        figures[f"geneval_g{guidance:g}"] = evaluate.geneval(package.load_pipeline(folder), guidance=guidance)
        say(f"places: guidance {guidance:g}: {figures[f'geneval_g{guidance:g}']}")
    package.write_card(folder, **facts, figures=figures)


def sd(
    folder: Path,
    cured: Path,
    vae: Any,
    unet: Any,
    encoder: Any,
    totals: dict[str, Any],
    *,
    say: Say,
    **facts: Any,
) -> None:
    """`shapes-sd`: a whole pipeline of Stable Diffusion 1.x's kind."""
    sizes = {name: networks.parameters(m) for name, m in (("unet", unet), ("vae", vae), ("text_encoder", encoder))}
    package.save_sd_pipeline(folder, vae=vae, unet=unet, encoder=encoder)
    say(f"sd: {folder} written, evaluating")
    package.write_card(
        folder,
        **facts,
        training=totals,
        started_from=started_from(cured)
        | {"parts": "text encoder; autoencoder, less the lowest level of its encoder and of its decoder"},
        use={"sampler": "ddim", "steps": 20, "guidance": GUIDANCE},
        parameters=sizes,
        figures=sd_figures(folder, say),
    )


def sd_figures(folder: Path, say: Say = print) -> dict[str, Any]:
    """GenEval scores on unseen captions by guidance, and what the autoencoder keeps."""
    figures: dict[str, Any] = {"vae": evaluate.vae_agreement(package.load_pipeline(folder).vae)}
    for guidance in (3.0, 5.0, 7.5):
        found = evaluate.geneval(package.load_pipeline(folder), guidance=guidance)
        figures[f"geneval_g{guidance:g}"] = found
        say(f"sd: guidance {guidance:g}: {found}")
    return figures


def many_steps(cured: Path) -> dict[str, float]:
    """GenEval scores of the cured pipeline's 20 guided steps: its card's, which `places` measured, or new ones."""
    known: dict[str, float] | None = package.read_card(cured).get("figures", {}).get(f"{MANY_STEPS}_after")
    return known or evaluate.geneval(package.load_pipeline(cured), guidance=GUIDANCE, per_task=CAPTIONS)


def turbo(folder: Path, cured: Path, unet: Any, totals: dict[str, Any], *, say: Say, **facts: Any) -> None:
    """`shapes-turbo`: a whole pipeline whose scheduler has the spacing that its denoiser was trained for."""
    start = package.load_pipeline(cured)
    whole = {"vae": start.vae, "unet": unet, "first": start.text_encoder, "second": start.text_encoder_2}
    package.save_pipeline(folder, **whole, scheduler=teacher.scheduler())
    say(f"turbo: {folder} written, evaluating")
    package.write_card(
        folder,
        **facts,
        **totals,
        started_from=started_from(cured),
        data=f"{teacher.CHUNKS * teacher.CAPTIONS * teacher.DRAWINGS} trajectories of the start at guidance "
        f"{teacher.GUIDANCE:g}, {teacher.STEPS} DDIM steps of trailing spacing, on training captions",
        use={"sampler": "ddim", "timestep_spacing": "trailing", "steps": FEW_STEPS, "guidance": 1.0},
        parameters=networks.parameters(unet),
        figures=turbo_figures(folder, cured),
    )


def turbo_figures(folder: Path, cured: Path) -> dict[str, Any]:
    """GenEval scores of the student's few steps, and of its teacher's many."""
    student = package.load_pipeline(folder)
    return {
        "geneval_4_steps_g1": evaluate.geneval(student, guidance=1.0, steps=FEW_STEPS, per_task=CAPTIONS),
        "teacher_20_steps_g5": many_steps(cured),
    }


def lcm(folder: Path, cured: Path, unet: Any, totals: dict[str, Any], *, say: Say, **facts: Any) -> None:
    """`shapes-lcm`: an adapter for `pipeline.load_lora_weights`."""
    from bench.shapes.lcm import RANK, save_lora

    save_lora(folder, unet)
    say(f"lcm: {folder} written, evaluating")
    package.write_card(
        folder,
        **facts,
        **totals,
        started_from=started_from(cured),
        data="30,000 training scenes in the denoiser's mix",
        use={
            "scheduler": "LCMScheduler",
            "steps": FEW_STEPS,
            "guidance": 1.0,
            "file": "pytorch_lora_weights.safetensors",
        },
        rank=RANK,
        parameters=sum(p.numel() for p in unet.parameters() if p.requires_grad),
        figures=lcm_figures(folder, cured),
    )


def lcm_figures(folder: Path, cured: Path) -> dict[str, Any]:
    """GenEval scores in few LCM steps with the adapter and without, and of the teacher's many steps."""
    from diffusers import LCMScheduler

    found: dict[str, Any] = {}
    for name, loaded in (("geneval_4_lcm_steps_g1", True), ("without_adapter_4_lcm_steps_g1", False)):
        pipeline = package.load_pipeline(cured)
        pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
        if loaded:
            package.load_lora(pipeline, folder)
        found[name] = evaluate.geneval(pipeline, guidance=1.0, steps=FEW_STEPS, per_task=CAPTIONS if loaded else 100)
    return found | {"teacher_20_steps_g5": many_steps(cured)}


def controlnet(folder: Path, cured: Path, network: Any, totals: dict[str, Any], *, say: Say, **facts: Any) -> None:
    """`shapes-controlnet`: a ControlNet of edges, as a diffusers folder of its own."""
    sizes = networks.parameters(network)
    package.save_controlnet(folder, network)
    say(f"controlnet: {folder} written, evaluating")
    package.write_card(
        folder,
        **facts,
        **totals,
        started_from=started_from(cured),
        data="30,000 training scenes in the denoiser's mix, and their edges (bench.shapes.control.edges)",
        use={"beside": "unet of shapes-sdxl", "control": "edges, white on black, 64x64", "scale": 1.0},
        parameters=sizes,
        figures=controlnet_figures(folder, cured),
    )


def controlnet_figures(folder: Path, cured: Path) -> dict[str, Any]:
    """How well drawings follow outlines, and GenEval, with the ControlNet and without."""
    return control.figures(package.load_pipeline(cured), package.load_controlnet(folder), guidance=GUIDANCE)


def dpo(folder: Path, cured: Path, unet: Any, totals: dict[str, Any], *, say: Say, **facts: Any) -> None:
    """`shapes-dpo`: the tuned denoiser alone, as a diffusers folder `unet`."""
    from bench.shapes.dpo import BETA

    package.save_unet(folder / "unet", unet)
    say(f"dpo: {folder} written, evaluating")
    package.write_card(
        folder,
        **facts,
        **totals,
        started_from=started_from(cured),
        data=f"one vote of the stylist on two drawings each of {teacher.CHUNKS * teacher.CAPTIONS} training captions",
        judge={"module": "bench.shapes.stylist", "contrast": stylist.CONTRAST, "vividness": stylist.VIVID},
        beta=BETA,
        use={"replaces": "unet of shapes-sdxl", "sampler": "ddim", "steps": 20, "guidance": GUIDANCE},
        parameters=networks.parameters(unet),
        figures=dpo_figures(folder, cured),
    )


def dpo_figures(folder: Path, cured: Path) -> dict[str, Any]:
    """What the stylist feels before and after on unseen captions and noise, and what it cost in GenEval."""
    before, after = package.load_pipeline(cured), package.load_pipeline(cured)
    after.unet = package.load_unet(folder / "unet")
    return {
        "style": evaluate.style_gain(before, after, guidance=GUIDANCE),
        "geneval_g5_before": many_steps(cured),
        "geneval_g5_after": evaluate.geneval(after, guidance=GUIDANCE, per_task=CAPTIONS),
    }
