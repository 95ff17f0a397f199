"""Vectors of the published scorers: what their own packages say of small random checkpoints.

It runs in an environment of its own, with the versions that the packages need (README.md), without this project:

    python tests/reference/published_scores.py [--aesthetic CHECKOUT] [--mps CHECKOUT] [--only NAME] [--seed N]
        [--out DIR]

`aesthetic` and `mps` are made where their checkouts are given: work trees of github
christophschuhmann/improved-aesthetic-predictor and Kwai-Kolors/MPS. The networks are `small_clips`, so each file holds
scores only.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import small_blip
import small_clips as small
import torch
from PIL import Image
from public_code import VECTORS, write

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
LICENCES = {"hpsv2": "Apache-2.0", "clip-anytorch": "MIT", "transformers": "Apache-2.0", "image-reward": "Apache-2.0"}


def pictures(case: str) -> list[Image.Image]:
    return [Image.fromarray(image) for image in small.images(case)]


def hpsv2(case: str, folder: Path, _given: Any) -> tuple[list[float], dict[str, Any]]:
    """The package's own `score`, with its model exchanged for a small one of its own class."""
    # Its wheel lacks the vocabulary, which is open_clip's.
    theirs, ours = (Path(find_spec(name).submodule_search_locations[0]) for name in ("hpsv2", "open_clip"))
    if not (theirs / "src/open_clip" / VOCABULARY).is_file():
        shutil.copy(ours / VOCABULARY, theirs / "src/open_clip")
    from hpsv2 import img_score
    from hpsv2.src.open_clip import model, transform

    small.hps_folder(folder, case)
    config = small.OPEN_CLIP
    img_score.model_dict["model"] = model.CLIP(
        config["embed_dim"], config["vision_cfg"], config["text_cfg"], output_dict=True
    )
    img_score.model_dict["preprocess_val"] = transform.image_transform(
        small.SIDE, is_train=False, resize_longest_max=True
    )
    file = str(folder / "HPS_v2.1_compressed.pt")
    scores = [img_score.score(p, t, cp=file)[0] for p, t in zip(pictures(case), small.PROMPTS, strict=True)]
    return scores, package("hpsv2", "hpsv2.img_score.score", "hpsv2/img_score.py")


def pickscore(case: str, folder: Path, _given: Any) -> tuple[list[float], dict[str, Any]]:
    """The code of the model's card: processor, features, normalised, times the logit scale."""
    from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    small.in_folder("PickScore_v1", folder, case, act="gelu")
    net = CLIPModel.from_pretrained(folder / "PickScore_v1").eval()
    processor = CLIPProcessor(CLIPImageProcessor(), CLIPTokenizerFast.from_pretrained(folder / "PickScore_v1"))
    settings: dict[str, Any] = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}
    scores = []
    for picture, prompt in zip(pictures(case), small.PROMPTS, strict=True):
        image = net.get_image_features(**processor(images=picture, **settings))
        text = net.get_text_features(**processor(text=prompt, **settings))
        image, text = (x / torch.norm(x, dim=-1, keepdim=True) for x in (image, text))
        scores.append(float((net.logit_scale.exp() * (text @ image.T))[0, 0]))
    return scores, package("transformers", "CLIPModel as the card of PickScore_v1 has it", "models/clip/")


def aesthetic(case: str, _folder: Path, given: Any) -> tuple[list[float], dict[str, Any]]:
    """The public class of the head on features of OpenAI's code."""
    file = given.aesthetic / "simple_inference.py"
    tree = ast.parse(file.read_text())
    wanted = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name in ("MLP", "normalized")]
    names: dict[str, Any] = {"nn": torch.nn, "np": np, "torch": torch, "pl": Modules}
    body = [*wanted, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "normalized")]
    exec(compile(ast.Module(body, []), file.name, "exec"), names)
    head = names["MLP"](small.EMBED)
    head.load_state_dict(small.head_state(case))
    head.eval()
    net, preprocess = openai(case)
    scores = []
    for picture in pictures(case):
        features = net.encode_image(preprocess(picture)[None]).cpu().detach().numpy()
        scores.append(float(head(torch.from_numpy(names["normalized"](features)).float())[0, 0]))
    return scores, checkout(given.aesthetic, "simple_inference.py", "MLP, normalized", "Apache-2.0")


def mps(case: str, folder: Path, given: Any) -> tuple[list[float], dict[str, Any]]:
    """The released class with a small cross-attention network, on pairs of images, and the readme's logistic.

    It halves pixels and mask whatever its own precision; here both stay in fp32, as the weights are.
    """
    sys.path.insert(0, str(given.mps))
    from trainer.models import clip_model
    from transformers import CLIPImageProcessor, CLIPTokenizerFast

    small.mps_folder(folder, case)
    theirs = clip_model.Cross_model
    clip_model.Cross_model = lambda **_: theirs(**small.CROSS)
    torch.Tensor.half = torch.Tensor.float  # type: ignore[method-assign]
    clip = folder / "CLIP-ViT-H-14-laion2B-s32B-b79K"
    net = clip_model.CLIPModel(clip).eval()
    net.load_state_dict(small.mps_state(case))
    for tower in (net.model.text_model, net.model.vision_model):
        # The class hands on an argument that these no longer take, and asks for what is the only answer now.
        tower.forward = partial(asked, tower.forward)
    tokenizer, processor = CLIPTokenizerFast.from_pretrained(clip), CLIPImageProcessor()

    def tokens(text: str) -> Any:
        settings: dict[str, Any] = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return tokenizer(text, max_length=tokenizer.model_max_length, **settings).input_ids

    condition = tokens(ast.literal_eval(condition_of(given.mps / "README.md")))
    scores = []
    for pair, prompt in zip(zip(small.images(case), small.near(case), strict=True), small.PROMPTS, strict=True):
        pixels = torch.cat([processor(Image.fromarray(p), return_tensors="pt")["pixel_values"] for p in pair])
        text, *both = (x / x.norm(dim=-1, keepdim=True) for x in net(tokens(prompt), pixels, condition))
        logits = torch.stack([net.logit_scale.exp() * torch.diag(text @ one.T) for one in both], -1)
        scores.append(float(torch.softmax(logits, -1)[0, 1]))
    return scores, checkout(given.mps, "trainer/models/clip_model.py", "CLIPModel.forward", "MIT")


def asked(forward: Any, *, return_dict: bool, **given: Any) -> Any:
    """A tower's output without `return_dict`."""
    return forward(**given)


def condition_of(readme: Path) -> str:
    """The condition as the readme writes it, quotes included."""
    return next(x for x in readme.read_text().splitlines() if x.startswith("condition = ")).partition(" = ")[2].strip()


def imagereward(case: str, folder: Path, _given: Any) -> tuple[list[float], dict[str, Any]]:
    """The package's own `score`, with small networks of its own classes."""
    from ImageReward.models.BLIP import blip_pretrain, vit
    from transformers import BertTokenizer

    theirs: Any = import_module("ImageReward.ImageReward")  # the package has a class of its module's name
    small_blip.reward_folder(folder, case)
    tokenizer = BertTokenizer.from_pretrained(folder / "bert-base-uncased")
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    seeing = vit.VisionTransformer(small.SIDE, small.PATCH, embed_dim=small.VISION, depth=small.LAYERS, num_heads=2)
    blip_pretrain.init_tokenizer = lambda: tokenizer
    blip_pretrain.create_vit = lambda *_: (seeing, small.VISION)
    layers = theirs.MLP
    theirs.MLP = lambda _: layers(small.TEXT)
    net = theirs.ImageReward(str(folder / "med_config.json"))
    left = net.load_state_dict(small_blip.reward_state(case), strict=False)
    # Buffers that follow from the configuration; all weights are drawn.
    assert not left.unexpected_keys, left
    assert all(name.endswith("position_ids") for name in left.missing_keys), left
    net.eval()
    scores = [net.score(prompt, one) for one, prompt in zip(pictures(case), small.PROMPTS, strict=True)]
    return scores, package("image-reward", "ImageReward.score", "ImageReward/ImageReward.py")


class Modules:
    """In the place of pytorch_lightning, of which the class uses the name alone."""

    LightningModule = torch.nn.Module


def openai(case: str) -> tuple[Any, Any]:
    """OpenAI's network and its preprocessing."""
    from clip.clip import _transform
    from clip.model import build_model

    # `build_model` halves the weights that it is given.
    net = build_model(dict(small.openai_state(case))).float()
    net.load_state_dict(small.openai_state(case))
    return net.eval(), _transform(small.SIDE)


def clipscore(case: str, _folder: Path, _given: Any) -> tuple[list[float], dict[str, Any]]:
    """2.5 max(cos, 0) of OpenAI's features."""
    import clip

    net, preprocess = openai(case)
    scores = []
    for picture, prompt in zip(pictures(case), small.PROMPTS, strict=True):
        image = net.encode_image(preprocess(picture)[None])
        text = net.encode_text(clip.tokenize([prompt], truncate=True))
        scores.append(2.5 * max(float(torch.nn.functional.cosine_similarity(image, text)), 0.0))
    return scores, package("clip-anytorch", "encode_image, encode_text, tokenize", "clip/clip.py, clip/model.py")


def package(name: str, function: str, file: str) -> dict[str, Any]:
    """The part of `origin` that names an installed package."""
    return {
        "repository": f"PyPI {name}",
        "commit": version(name),
        "file": file,
        "function": function,
        "licence": LICENCES[name],
    }


def checkout(place: Path, file: str, function: str, licence: str) -> dict[str, Any]:
    """The part of `origin` that names a file of a work tree."""
    commit = subprocess.run(["git", "-C", place, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    remote = {"simple_inference.py": "christophschuhmann/improved-aesthetic-predictor"}.get(file, "Kwai-Kolors/MPS")
    return {
        "repository": remote,
        "commit": commit.stdout.strip(),
        "file": file,
        "function": function,
        "licence": licence,
    }


SCORERS = {"hpsv2": hpsv2, "pickscore": pickscore, "aesthetic": aesthetic, "clipscore": clipscore, "mps": mps}
SCORERS["imagereward"] = imagereward


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aesthetic", type=Path, metavar="DIR")
    parser.add_argument("--mps", type=Path, metavar="DIR")
    parser.add_argument("--only", choices=SCORERS, action="append", help="these scorers alone")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other networks and images")
    parser.add_argument("--out", type=Path, default=VECTORS, metavar="DIR", help="where the .npz files go")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    lacking = [name for name in ("aesthetic", "mps") if getattr(given, name) is None]
    if given.only and set(given.only) & set(lacking):
        parser.error(f"{' and '.join(lacking)}: give their checkouts")
    for name in given.only or [name for name in SCORERS if name not in lacking]:
        case = f"{name}/{given.seed}"
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            scores, origin = SCORERS[name](case, Path(folder), given)
        origin |= {"seed": given.seed, "transformers": version("transformers"), "pillow": version("pillow")}
        origin["torchvision"] = version("torchvision").split("+")[0]
        arrays = {"scores": np.asarray(scores, np.float64), "case": np.array(case)}
        write(given.out, f"scores-{name}-seed{given.seed}", origin, arrays)
        print(name, *(f"{s:.4f}" for s in scores), file=sys.stderr)


if __name__ == "__main__":
    main()
