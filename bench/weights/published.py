"""The published weights of the methods that swap or extend a denoiser, each pinned to a commit: data, not code."""

from __future__ import annotations

from bench.kinship import PICK_A_PIC
from bench.registry import add_plugin
from bench.sampling.records import CONTROLNET, LORA
from bench.weights.base import NamedWeights

_PCM = "def27ed2e4061a5ae047fcba65e719431ad409e5"
_LIGHTNING = "c9a24f48e1c025556787b0c58dd67a091ece2e44"
_EIGHT = tuple(range(1, 9))
_LCM_FILE = "pytorch_lora_weights.safetensors"
_SDXL_UNET = 2_567_463_684
"""Parameters of SDXL's denoiser."""

_CONTROLNETS = (
    # model, kind, hub id, commit, licence
    (
        "sdxl",
        "canny",
        "diffusers/controlnet-canny-sdxl-1.0",
        "eb115a19a10d14909256db740ed109532ab1483c",
        "openrail++",
    ),
    (
        "sdxl",
        "depth",
        "diffusers/controlnet-depth-sdxl-1.0",
        "17bb97973f29801224cd66f192c5ffacf82648b4",
        "openrail++",
    ),
    (
        "sdxl",
        "openpose",
        "xinsir/controlnet-openpose-sdxl-1.0",
        "23f966cd5cfdd3f7729c903e243d87152162d2b7",
        "apache-2.0",
    ),
    ("sd15", "canny", "lllyasviel/control_v11p_sd15_canny", "115a470d547982438f70198e353a921996e2e819", "openrail"),
    ("sd15", "depth", "lllyasviel/control_v11f1p_sd15_depth", "539f99181d33db39cf1af2e517cd8056785f0a87", "openrail"),
    (
        "sd15",
        "openpose",
        "lllyasviel/control_v11p_sd15_openpose",
        "9ae9f970358db89e211b87c915f9535c6686d5ba",
        "openrail",
    ),
)

_ROWS = (
    # Diffusion-DPO (2311.12908), on the votes of Pick-a-Pic v2; PROTOCOL 1.7.
    NamedWeights(
        "dpo",
        "sdxl",
        "mhdang/dpo-sdxl-text2image-v1",
        "7dfa0df6c53ee22f3ac2b01e409c61aaf6bb36e7",
        "unet",
        license="openrail++",
        learnt_from=(PICK_A_PIC,),
    ),
    NamedWeights(
        "dpo",
        "sd15",
        "mhdang/dpo-sd1.5-text2image-v1",
        "e41d91e4614877090d054f58ce39307ac878cf24",
        "unet",
        license="openrail++",
        learnt_from=(PICK_A_PIC,),
    ),
    # LCM-LoRA (2311.05556).
    NamedWeights(
        "lcm",
        "sdxl",
        "latent-consistency/lcm-lora-sdxl",
        "a18548dd4956b174ec5b0d78d340c8dae0a129cd",
        file=_LCM_FILE,
        about_bytes=394_000_000,
        kind=LORA,
        steps=_EIGHT,
        license="openrail++",
    ),
    NamedWeights(
        "lcm",
        "sd15",
        "latent-consistency/lcm-lora-sdv1-5",
        "cf2fced511dbe7e26c8d1d397e728fbab875db4b",
        file=_LCM_FILE,
        about_bytes=135_000_000,
        kind=LORA,
        steps=_EIGHT,
        license="openrail++",
    ),
    # Phased consistency (2405.18407): one LoRA for eight phases, which also runs in fewer steps (the paper's four).
    NamedWeights(
        "pcm",
        "sdxl",
        "wangfuyun/PCM_Weights",
        _PCM,
        "sdxl",
        "pcm_sdxl_normalcfg_8step_converted.safetensors",
        kind=LORA,
        steps=_EIGHT,
    ),
    NamedWeights(
        "pcm",
        "sd15",
        "wangfuyun/PCM_Weights",
        _PCM,
        "sd15",
        "pcm_sd15_normalcfg_8step_converted.safetensors",
        kind=LORA,
        steps=_EIGHT,
    ),
    # SDXL-Lightning (2402.13929): a network for each step count; that of one step predicts the image, not noise.
    *(
        NamedWeights(
            "lightning",
            "sdxl",
            "ByteDance/SDXL-Lightning",
            _LIGHTNING,
            file=f"sdxl_lightning_{n}step_unet.safetensors",
            variant=f"{n} steps",
            about_bytes=2 * _SDXL_UNET,  # in half precision
            steps=(n,),
            license="openrail++",
        )
        for n in (2, 4, 8)
    ),
    # Adversarial diffusion distillation (2311.17042); its scheduler config asks for Euler ancestral.
    NamedWeights(
        "turbo",
        "sdxl",
        "stabilityai/sdxl-turbo",
        "71153311d3dbb46851df1931d3ca6e939de83304",
        "unet",
        steps=(1, 2, 3, 4),
        about_bytes=4 * _SDXL_UNET,
        license="sai-nc-community",
    ),
    # ControlNet (2302.05543), version 1.1 for SD 1.5.
    *(
        NamedWeights("controlnet", model, source, commit, kind=CONTROLNET, variant=kind, license=license)
        for model, kind, source, commit, license in _CONTROLNETS
    ),
)
for _row in _ROWS:
    _name = "-".join(part for part in (_row.method, _row.model, _row.variant.replace(" ", "-")) if part)
    add_plugin("weights", _name, _row, "bench")
