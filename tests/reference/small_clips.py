"""Small random CLIPs as checkpoint folders under the published names, and the images and prompts that they judge.

Weights follow from their names (`drawn`), so nothing of them is stored; both the reference environment and the tests
build the same folders. Networks have the real vocabulary, 77 tokens and 224 pixels: what goes before a network is
where scorers go wrong. Their size is a parameter, so that `tests/perf` has the published ones.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

WORDS, LENGTH, HEAD_WIDTH = 49408, 77, 64
"""The vocabulary, tokens of a text, and features of a head; OpenAI's code has the last written into it."""


@dataclass(frozen=True)
class Size:
    """What a CLIP's architecture is, beside its vocabulary."""

    embed: int = 32
    patch: int = 32
    side: int = 224
    layers: int = 2
    """Of the image tower."""
    text_layers: int = 2
    vision: int = 128
    text: int = 64
    """Widths of the towers."""
    head: int = HEAD_WIDTH
    """Features of a head of the image tower; those of the text tower have 64."""
    half: bool = False
    """Weights in fp16, as some are published, for files half as large."""

    def open_clip(self) -> dict[str, Any]:
        """The configuration by open_clip's names."""
        vision = {"layers": self.layers, "width": self.vision, "head_width": self.head, "patch_size": self.patch}
        heads = self.text // HEAD_WIDTH
        text = {"context_length": LENGTH, "vocab_size": WORDS, "width": self.text, "heads": heads}
        text["layers"] = self.text_layers
        return {"embed_dim": self.embed, "vision_cfg": {"image_size": self.side, **vision}, "text_cfg": text}


SMALL = Size()
EMBED, PATCH, SIDE, LAYERS = SMALL.embed, SMALL.patch, SMALL.side, SMALL.layers
VISION, TEXT, OPEN_CLIP = SMALL.vision, SMALL.text, SMALL.open_clip()
SIZES = ((512, 512), (257, 333), (333, 258), (97, 151), (224, 224), (224, 227), (640, 223), (96, 400))
"""Heights and widths: even and odd margins, enlarged and reduced, at CLIP's own size, long and flat."""
PROMPTS = (
    "a red circle above a blue square",
    "“An Old Man’s Café” &amp; a dog, 8K",
    "",
    "鳥居と桜、静かな朝の庭",
    "a photo of a cat, " * 60,
    "  spaces \t and\nlines   between ",
    "Ein grüner Würfel auf einem Tisch, weiß & groß",
    "hyperrealistic 🐉 dragon!!! (masterpiece:1.3)",
)
CROSS = {"dim": EMBED, "layer_num": 2, "heads": 2, "dim_head": 16}
"""MPS's cross-attention network."""
CONDITION = (267, 269, 884, 1395, 1710, 1739, 1844, 2225, 2653, 2842, 3140, 3500, 4372, 4657, 5285, 6448, 8408)
CONDITION += (11844, 16505, 21323, 26920, 34572, 34886, 38570, 40763, 49406, 49407)
"""The tokens of MPS's condition."""
HEAD = ((1024, EMBED), (128, 1024), (64, 128), (16, 64), (1, 16))
"""Shapes of the aesthetic predictor's layers; the first reads as many features as its CLIP has."""


def drawn(case: str, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A float32 tensor that follows from `case` and its name: as `networks.fill`, by a generator of NumPy."""
    rng = np.random.default_rng(zlib.crc32(f"{case}/{name}".encode()))
    draw = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:
        draw = draw / 10 + np.float32(name.endswith("weight"))
    else:
        draw = draw / np.float32(np.prod(shape[1:]) ** 0.5)
    return torch.from_numpy(np.ascontiguousarray(draw))


def openai_state(case: str, size: Size = SMALL) -> dict[str, torch.Tensor]:
    """A state dict by OpenAI's names, which open_clip shares."""
    vision, text, patch = size.vision, size.text, size.patch
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (vision,),
        "visual.positional_embedding": ((size.side // patch) ** 2 + 1, vision),
        "visual.proj": (vision, size.embed),
        "visual.conv1.weight": (vision, 3, patch, patch),
        "positional_embedding": (LENGTH, text),
        "text_projection": (text, size.embed),
    }
    for norm, width in (("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for tower, width, layers in (("visual.transformer", vision, size.layers), ("transformer", text, size.text_layers)):
        for i in range(layers):
            at = f"{tower}.resblocks.{i}"
            shapes |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
            matrices = {"attn.out_proj": (1, 1), "mlp.c_fc": (4, 1), "mlp.c_proj": (1, 4)}
            for name, (rows, columns) in ((n, (r * width, c * width)) for n, (r, c) in matrices.items()):
                shapes |= {f"{at}.{name}.weight": (rows, columns), f"{at}.{name}.bias": (rows,)}
            for norm in ("ln_1", "ln_2"):
                shapes |= {f"{at}.{norm}.weight": (width,), f"{at}.{norm}.bias": (width,)}
    state = {name: drawn(case, name, shape) for name, shape in shapes.items()}
    # Very similar words and a text tower that sees little of them would give every prompt one score.
    state["token_embedding.weight"] = 8 * _embeddings(case, text)
    # A direction that images and texts share: cosines are then mostly positive, as a trained network's are.
    state["text_projection"][0] = state["visual.proj"][0]
    state["ln_final.bias"][0] = state["visual.ln_post.bias"][0] = 8
    state["logit_scale"] = torch.tensor(4.5)
    return {name: value.half() for name, value in state.items()} if size.half else state


@lru_cache(maxsize=2)
def _embeddings(case: str, width: int) -> torch.Tensor:
    return drawn(case, "token_embedding.weight", (WORDS, width))


def transformers_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights by the names of transformers' `CLIPModel`."""
    found = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
    }
    norms = {"vision_model.pre_layrnorm": "visual.ln_pre", "vision_model.post_layernorm": "visual.ln_post"}
    for ours, theirs in (norms | {"text_model.final_layer_norm": "ln_final"}).items():
        found |= {f"{ours}.{kind}": state[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    parts = {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    parts |= {"layer_norm1": "ln_1", "layer_norm2": "ln_2"}
    for ours, theirs in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        for i in range(sum(name.startswith(f"{theirs}.resblocks.") for name in state) // 12):
            to, of = f"{ours}.encoder.layers.{i}", f"{theirs}.resblocks.{i}"
            for kind in ("weight", "bias"):
                split = state[f"{of}.attn.in_proj_{kind}"].chunk(3)
                found |= {f"{to}.self_attn.{n}_proj.{kind}": x.clone() for n, x in zip("qkv", split, strict=True)}
                found |= {f"{to}.{n}.{kind}": state[f"{of}.{o}.{kind}"] for n, o in parts.items()}
    return found


def clip_folder(folder: Path, case: str, *, act: str, size: Size = SMALL) -> Path:
    """A folder of transformers' `CLIPModel` with OpenAI's tokenizer; `act` is `gelu` or `quick_gelu`."""
    from safetensors.torch import save_file

    clip_settings(folder, act=act, size=size)
    save_file(transformers_state(openai_state(case, size)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def clip_settings(folder: Path, *, act: str, size: Size = SMALL) -> None:
    """What such a folder holds beside weights."""
    folder.mkdir(parents=True, exist_ok=True)
    shared: dict[str, Any] = {"hidden_act": act, "projection_dim": size.embed}
    text = {"hidden_size": size.text, "intermediate_size": 4 * size.text, "vocab_size": WORDS, **shared}
    text |= {"num_attention_heads": size.text // HEAD_WIDTH, "num_hidden_layers": size.text_layers}
    text |= {"max_position_embeddings": LENGTH, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
    vision = {"hidden_size": size.vision, "intermediate_size": 4 * size.vision, **shared}
    vision |= {"num_attention_heads": size.vision // size.head, "num_hidden_layers": size.layers}
    vision |= {"image_size": size.side, "patch_size": size.patch}
    config = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": size.embed}
    (folder / "config.json").write_text(json.dumps({**config, "text_config": text, "vision_config": vision}))
    write_tokenizer(folder)


def in_folder(name: str, folder: Path, case: str, *, act: str, size: Size = SMALL) -> Path:
    """A checkpoint folder that holds one such folder under a published name."""
    clip_folder(folder / name, case, act=act, size=size)
    return folder


def write_tokenizer(folder: Path) -> None:
    """OpenAI's vocabulary in the files of transformers, from the copy that open_clip has."""
    vocabulary, merges = _words()
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    end = "<|endoftext|>"
    special = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": end}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@cache
def _words() -> tuple[str, str]:
    from open_clip.tokenizer import SimpleTokenizer

    known = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(word, word): i for word, i in known.encoder.items()}
    merges = [" ".join(pair) for pair in sorted(known.bpe_ranks, key=known.bpe_ranks.__getitem__)]
    return json.dumps(vocabulary, ensure_ascii=False), "\n".join(["#version: 0.2", *merges, ""])


def hps_folder(folder: Path, case: str, size: Size = SMALL) -> Path:
    """HPS_v2.1_compressed.pt with the configuration of its network beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": openai_state(case, size)}, folder / "HPS_v2.1_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": size.open_clip()}))
    return folder


def write_open_clip_config(folder: Path) -> None:
    """The architecture of `openai_state`, as open_clip writes it."""
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))


def head_state(case: str, reads: int = EMBED) -> dict[str, torch.Tensor]:
    """A state dict of the aesthetic predictor's layers, the first of which reads as many features."""
    found = {}
    for place, (rows, columns) in zip((0, 2, 4, 6, 7), ((HEAD[0][0], reads), *HEAD[1:]), strict=True):
        found[f"layers.{place}.weight"] = drawn(case, f"layers.{place}.weight", (rows, columns))
        found[f"layers.{place}.bias"] = drawn(case, f"layers.{place}.bias", (rows,))
    return found


def aesthetic_folder(folder: Path, case: str, size: Size = SMALL) -> Path:
    """The head's file beside the folder of its CLIP."""
    clip_folder(folder / "clip-vit-large-patch14", case, act="quick_gelu", size=size)
    torch.save(head_state(case, size.embed), folder / "sac+logos+ava1-l14-linearMSE.pth")
    return folder


def cross_shapes(network: dict[str, int] = CROSS) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a cross-attention network of MPS."""
    found: dict[str, tuple[int, ...]] = {}
    embed, width, heads = network["dim"], network["dim_head"], network["heads"]
    inner = 4 * embed
    for i in range(network["layer_num"]):
        cross, own = (f"cross_model.layers.{i}.{k}.fn" for k in range(2))
        found |= {
            f"{cross}.to_q.weight": (heads * width, embed),
            f"{cross}.to_kv.weight": (2 * width, embed),
            f"{cross}.to_out.weight": (embed, heads * width),
            f"{cross}.ff.0.weight": (2 * inner, embed),
            f"{cross}.ff.2.weight": (embed, inner),
            f"{own}.fused_attn_ff_proj.weight": ((heads + 2) * width + 2 * inner, embed),
            f"{own}.attn_out.weight": (embed, heads * width),
            f"{own}.ff_out.1.weight": (embed, inner),
            **{f"{block}.norm.weight": (embed,) for block in (cross, own)},
        }
    return found


def mps_state(case: str, size: Size = SMALL, network: dict[str, int] = CROSS) -> dict[str, torch.Tensor]:
    """A state dict of MPS by its published names.

    Words that the condition has and all others lie on two sides of the origin, so that the others are left out.
    """
    state = openai_state(case, size)
    state["ln_final.bias"][0] = 0
    state["token_embedding.weight"][:, 0] = -24
    state["token_embedding.weight"][CONDITION, 0] = 24
    found = {f"model.{name}": value for name, value in transformers_state(state).items()}
    found |= {name: drawn(case, name, shape) for name, shape in cross_shapes(network).items()}
    width = network["dim_head"]
    for i in range(network["layer_num"]):
        for k in range(2):
            found[f"cross_model.layers.{i}.{k}.fn.norm.bias"] = torch.zeros(size.embed)
        frequencies = 1.0 / (10000 ** (torch.arange(0, width, 2).float() / width))
        found[f"cross_model.layers.{i}.1.fn.rotary_emb.inv_freq"] = frequencies
    return found


def mps_folder(folder: Path, case: str, size: Size = SMALL, network: dict[str, int] = CROSS) -> Path:
    """MPS_overall_state.pth beside the folder of its CLIP, whose own weights only the public class asks for."""
    write = clip_settings if size != SMALL else partial(clip_folder, case=case)
    write(folder / "CLIP-ViT-H-14-laion2B-s32B-b79K", act="gelu", size=size)
    torch.save(mps_state(case, size, network), folder / "MPS_overall_state.pth")
    return folder


def near(case: str) -> list[np.ndarray]:
    """The images a little changed: brighter, and with other grain."""
    found = []
    for i, image in enumerate(images(case)):
        rng = np.random.default_rng(zlib.crc32(f"{case}/near {i}".encode()))
        found.append(np.clip(image + 4.0 + 3 * rng.standard_normal(image.shape), 0, 255).astype(np.uint8))
    return found


@cache
def images(case: str) -> list[np.ndarray]:
    """One (H, W, 3) uint8 image a prompt: patches of colour with grain, from flat to sharp."""
    found = []
    for i, (height, width) in enumerate(SIZES):
        rng = np.random.default_rng(zlib.crc32(f"{case}/image {i}".encode()))
        side = 3 + 5 * i
        coarse = rng.random((side, side, 3))
        rows, columns = (np.arange(n) * side // n for n in (height, width))
        grain = rng.standard_normal((height, width, 3)) * 0.02 * i
        found.append(np.clip(255 * (coarse[rows][:, columns] + grain), 0, 255).astype(np.uint8))
    return found
