"""Scores as they are published: the packages themselves, or the code of a model's card, about one image at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import registry
from bench.errors import UserError
from bench.prompts.base import Prompt

One = Callable[[np.ndarray, Prompt], Any]
"""The published way: an image (H, W, 3) uint8 with its prompt -> score, or features."""


def package(metric: str, folder: Path) -> One:
    """The original package in its environment; UserError where that is not made."""
    worker: Any = registry.get("metrics", metric).configured(str(folder), "fp32", "package").loaded("cpu")

    def one(image: np.ndarray, prompt: Prompt) -> float:
        (value,) = worker.score([image], [prompt])
        if value.reason is not None:
            raise UserError(value.reason)
        return value.value

    return one


def hpsv2(folder: Path) -> One:
    return package("hpsv2", folder)


def imagereward(folder: Path) -> One:
    return package("imagereward", folder)


def pickscore(folder: Path) -> One:
    """As the model's card has it."""
    from PIL import Image
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    net = CLIPModel.from_pretrained(folder / "PickScore_v1", dtype=torch.float32).eval()
    # By Pillow, as when the card was written; the default now asks torchvision where it is installed.
    processor = CLIPProcessor(CLIPImageProcessorPil(), CLIPTokenizerFast.from_pretrained(folder / "PickScore_v1"))
    settings: dict[str, Any] = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}

    def one(image: np.ndarray, prompt: Prompt) -> float:
        seen = net.get_image_features(**processor(images=Image.fromarray(image), **settings)).pooler_output
        read = net.get_text_features(**processor(text=prompt.text, **settings)).pooler_output
        seen, read = (x / torch.norm(x, dim=-1, keepdim=True) for x in (seen, read))
        return float((net.logit_scale.exp() * (read @ seen.T))[0, 0])

    return one


def openai(folder: Path) -> tuple[Any, Callable[[np.ndarray], torch.Tensor]]:
    """CLIP, and OpenAI's preprocessing by torchvision."""
    from open_clip.transform import image_transform
    from PIL import Image
    from transformers import CLIPModel

    net = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    prepare = image_transform(net.config.vision_config.image_size, is_train=False)
    return net, lambda image: prepare(Image.fromarray(image))[None]


def aesthetic(folder: Path) -> One:
    """Features of length 1 by NumPy, and the head."""
    net, prepare = openai(folder / "clip-vit-large-patch14")
    state = torch.load(folder / "sac+logos+ava1-l14-linearMSE.pth", weights_only=True)
    layers = [torch.nn.Linear(*reversed(state[f"layers.{i}.weight"].shape)) for i in (0, 2, 4, 6, 7)]
    for i, layer in zip((0, 2, 4, 6, 7), layers, strict=True):
        layer.load_state_dict({kind: state[f"layers.{i}.{kind}"] for kind in ("weight", "bias")})
    head = torch.nn.Sequential(*layers)

    def one(image: np.ndarray, _: Prompt) -> float:
        features = net.get_image_features(pixel_values=prepare(image)).pooler_output.numpy()
        return float(head(torch.from_numpy(features / np.linalg.norm(features, axis=-1, keepdims=True))))

    return one


def clipscore(folder: Path) -> One:
    """2.5 max(cos, 0) of OpenAI's features."""
    from open_clip import SimpleTokenizer

    net, prepare = openai(folder / "clip-vit-base-patch32")
    tokenize = SimpleTokenizer()

    def one(image: np.ndarray, prompt: Prompt) -> float:
        seen = net.get_image_features(pixel_values=prepare(image)).pooler_output
        read = net.get_text_features(input_ids=tokenize([prompt.text])).pooler_output
        return 2.5 * max(float(torch.nn.functional.cosine_similarity(seen, read)), 0.0)

    return one


def geneval(folder: Path) -> One:
    """The detector as its card has it, at mmdet's size; mmdet's own cannot be installed beside today's torch."""
    from PIL import Image
    from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

    net = Mask2FormerForUniversalSegmentation.from_pretrained(folder / "mask2former-swin-small-coco-instance").eval()
    processor = Mask2FormerImageProcessor(size={"shortest_edge": 800, "longest_edge": 1333}, ignore_index=255)

    def one(image: np.ndarray, _: Prompt) -> Any:
        out = net(**processor(images=Image.fromarray(image), return_tensors="pt"))
        return processor.post_process_instance_segmentation(out, threshold=0.3, target_sizes=[image.shape[:2]])

    return one


def fid(folder: Path) -> One:
    """clean-fid's resizing, and its network's features of one image; the file it would download is not here."""
    from cleanfid.resize import build_resizer

    from bench.metrics.features import InceptionFeatures, inception

    resize, net = build_resizer("clean"), InceptionFeatures(inception("fid").at(str(folder)), "cpu").model

    def one(image: np.ndarray, _: Prompt) -> np.ndarray:
        pixels = torch.from_numpy(resize(image).transpose(2, 0, 1))[None]
        return net((pixels - 128) / 128).numpy()

    return one


THEIRS: dict[str, Callable[[Path], One]] = {
    "hpsv2": hpsv2,
    "pickscore": pickscore,
    "aesthetic": aesthetic,
    "clipscore": clipscore,
    "imagereward": imagereward,
    "geneval": geneval,
    "fid": fid,
}
WAYS = {"hpsv2": "package", "imagereward": "package", "fid": "clean-fid's resizing", "aesthetic": "public code's steps"}
WAYS |= {"clipscore": "public code's steps", "pickscore": "model card", "geneval": "model card"}
SAME = {"hpsv2": 1e-6, "pickscore": 3e-5, "aesthetic": 1e-5, "clipscore": 1e-5, "imagereward": 1e-4}
"""Largest differences allowed at true size of what the published way and ours both say."""
