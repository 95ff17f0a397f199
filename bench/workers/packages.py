"""Scores by the original packages `hpsv2` and `image-reward`, for a harness at the other end of a pipe.

Run by the interpreter of an environment of its own, with that environment's packages and the standard library alone:

    python packages.py {hpsv2,image-reward} --checkpoint FOLDER [--device DEVICE]

The protocol, version 1: a JSON object a line, UTF-8. First the worker says on its standard output

    {"protocol": 1, "ready": "hpsv2 1.2.0"}

or {"protocol": 1, "error": "..."} and ends. Then it answers each line of its standard input, in their order:

    {"protocol": 1, "id": 7, "images": ["<base64>", ...], "prompts": ["a cat", ...]}
    {"protocol": 1, "id": 7, "scores": [0.27, ...]}

An image is a file's bytes, PNG from the harness. A request of a metric of pairs has also "baseline", as many images
again; a score is then the probability by which the image is preferred to the baseline's. A score is a number, or null
where there is none. `{"protocol": 1, "id": 7, "error": "one line"}` answers a request that failed. The worker ends when
its standard input does. What packages print goes to the standard error. An HTTP judge is asked by POST with the same
object as its body, and answers with the same object.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

Score = Callable[[Any, str], float]
"""(opened image, prompt) -> score."""
PROTOCOL = 1
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
HEAD_WIDTH = 64


def hpsv2(folder: Path, device: str) -> Score:
    """The package's `score` on the one checkpoint of a folder, v2.1 or v2.0."""
    import torch

    # Its wheel lacks the vocabulary, which is open_clip's.
    theirs = Path(str(distribution("hpsv2").locate_file("hpsv2")))
    ours = Path(str(distribution("open_clip_torch").locate_file("open_clip")))
    if not (theirs / "src/open_clip" / VOCABULARY).is_file():
        shutil.copy(ours / VOCABULARY, theirs / "src/open_clip")
    img_score: Any = import_module("hpsv2.img_score")
    model: Any = import_module("hpsv2.src.open_clip.model")
    transform: Any = import_module("hpsv2.src.open_clip.transform")
    file = next(f for f in (folder / "HPS_v2.1_compressed.pt", folder / "HPS_v2_compressed.pt") if f.is_file())
    own = folder / "open_clip_config.json"
    config = json.loads((own if own.is_file() else ours / "model_configs/ViT-H-14.json").read_text())
    config = config.get("model_cfg", config)
    net = model.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], output_dict=True)
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["state_dict"])
    side = config["vision_cfg"]["image_size"]
    preprocess = transform.image_transform(side, is_train=False, resize_longest_max=True)
    img_score.model_dict.update(model=net.to(device).eval(), preprocess_val=preprocess)
    img_score.device = device
    # It reads its checkpoint again for every image; here it has been read.
    torch.load, net.load_state_dict = (lambda *_, **__: {"state_dict": None}), (lambda _: None)  # type: ignore
    return lambda image, prompt: img_score.score(image, prompt, cp=str(file))[0]


def image_reward(folder: Path, device: str) -> Score:
    """The package's `score`; networks of its own classes in the sizes that the folder's files have."""
    import torch
    from transformers import BertTokenizer

    package: Any = import_module("ImageReward.ImageReward")  # the package has a class of its module's name
    blip_pretrain: Any = import_module("ImageReward.models.BLIP.blip_pretrain")
    vit: Any = import_module("ImageReward.models.BLIP.vit")
    state = torch.load(folder / "ImageReward.pt", map_location="cpu", weights_only=True)
    # It would ask the hub for this tokenizer, and add the same two words.
    tokenizer = BertTokenizer.from_pretrained(folder / "bert-base-uncased", local_files_only=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    blip_pretrain.init_tokenizer = lambda: tokenizer
    width, _, patch, _ = state["blip.visual_encoder.patch_embed.proj.weight"].shape
    side = patch * round((state["blip.visual_encoder.pos_embed"].shape[1] - 1) ** 0.5)
    depth = len({name.split(".")[3] for name in state if name.startswith("blip.visual_encoder.blocks.")})
    eyes = vit.VisionTransformer(side, patch, embed_dim=width, depth=depth, num_heads=width // HEAD_WIDTH)
    blip_pretrain.create_vit = lambda *_: (eyes, width)
    layers, reads = package.MLP, state["mlp.layers.0.weight"].shape[1]
    package.MLP = lambda _: layers(reads)
    net = package.ImageReward(str(folder / "med_config.json"), device=device).to(device)
    left = net.load_state_dict(state, strict=False)
    lacking = [name for name in left.missing_keys if not name.endswith("position_ids")]
    if lacking or left.unexpected_keys:
        raise ValueError(f"ImageReward.pt is of another architecture: {(lacking + left.unexpected_keys)[0]}")
    net.eval()
    return lambda image, prompt: net.score(prompt, image)


PACKAGES = {"hpsv2": hpsv2, "image-reward": image_reward}


def answered(request: dict[str, Any], score: Score) -> dict[str, Any]:
    """The answer to a request: scores, or one line that says why there are none."""
    from PIL import Image

    scores = []
    for data, prompt in zip(request["images"], request["prompts"], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            scores.append(float(score(image, prompt)))
    return {"scores": scores}


def line(error: Exception) -> str:
    """An error as one line."""
    said = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {said}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Scores by an original package, over a pipe.")
    parser.add_argument("package", choices=PACKAGES)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    # Packages print as they please: the pipe's answers get a way of their own, and prints go to the standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps({"protocol": PROTOCOL, **answer}), file=out, flush=True)

    try:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads()))
        score = PACKAGES[given.package](given.checkpoint, given.device)
    except Exception as error:
        say({"error": line(error)})
        return 1
    say({"ready": f"{given.package} {version(given.package)}"})
    with torch.no_grad():
        for text in sys.stdin.buffer:
            request = json.loads(text)
            try:
                answer = answered(request, score)
            except Exception as error:
                answer = {"error": line(error)}
            say({"id": request["id"], **answer})
    return 0


if __name__ == "__main__":
    sys.exit(main())
