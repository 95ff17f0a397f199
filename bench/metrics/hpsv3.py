"""HPSv3 (Ma et al. 2025, 2508.03789): the reward that a Qwen2-VL-7B with a head of three layers gives an image.

As the package hpsv3 1.0.0 computes it: the image at about 256 patches of 28 x 28 pixels, one turn of a user that shows
it and gives the published instruction with the prompt in it, and the head at the token `<|Reward|>`, whose first output
is the mean of the reward and whose second is the logarithm of its deviation.

The package was written for transformers 4.45, where its class numbers all tokens in a row, those of the image too;
transformers 5 places patches by row and column unless it is given positions, which other ports leave out. The package
runs the network in bf16 and the head in fp32; the head is in fp32 here too, whatever the setting. The instruction is
read from the package's own file, as text: none of its code is run.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.backoff import Backoff
from bench.errors import UserError
from bench.kinship import HPD_V2, Trait
from bench.metrics.backbones import QWEN2_VL_7B
from bench.metrics.base import MetricEntry, Value
from bench.metrics.checkpoint import Checkpoint, Part, fill, tensors
from bench.metrics.real import Loaded, entry
from bench.models.base import check_folder, quiet_hub_libraries
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
_FILE, _QWEN, _TEXTS = "HPSv3.safetensors", "Qwen2-VL-7B-Instruct", "data_collator_qwen.py"
BATCH = 4
"""Images at once, at first: the network has seven billion parameters."""
PIXELS, FACTOR, LONGEST = 256 * 28 * 28, 28, 200
"""Pixels to which an image's size is brought, what its sides are multiples of, and its longest side by the shorter."""
REWARD = "<|Reward|>"
BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
SEEN, AFTER = "<|vision_end|>", "<|im_end|>\n<|im_start|>assistant\n"
_HEAD = (0, 3, 5)
"""Where the head's linear layers stand in the published file; ReLU and dropout stand between them."""


class HPSv3(Loaded):
    """The mean of the reward; the detail has the logarithm of its deviation."""

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        quiet_hub_libraries()
        self.backoff = Backoff(BATCH)
        path, folder, texts = (checkpoint.path(name) for name in (_FILE, _QWEN, _TEXTS))
        check_folder(folder)
        self.asked, self.rated = instruction(texts)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.tokenizer.add_special_tokens({"additional_special_tokens": [REWARD]})
        self.token: int = self.tokenizer.convert_tokens_to_ids(REWARD)
        self.prepare = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True, do_resize=False)
        network, head = networks(tensors(path), folder, of=path)
        words = network.language_model.embed_tokens.num_embeddings
        if self.token != words - 1:
            raise UserError(
                f"{path}: has {words} tokens, of which {REWARD} is the last; it is number {self.token} of {folder.name}"
            )
        self.network = self.ready(network)
        self.head = head.to(self.device).float().eval().requires_grad_(False)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        """One value an image, in parts that fit the memory; none of an image that is far longer than wide."""
        found: dict[int, Value] = {}
        fit = []
        for i, image in enumerate(images):
            if max(image.shape[:2]) > LONGEST * min(image.shape[:2]):
                found[i] = Value.failed(f"its longer side is more than {LONGEST} times the shorter")
            else:
                fit.append(i)

        def judge(part: Sequence[int]) -> None:
            some = [fit[k] for k in part]
            rewards = self.rewards([images[i] for i in some], [prompts[i].text for i in some]).double().cpu()
            found.update({i: Value(mean, {"log_sigma": spread})
                          for i, (mean, spread) in zip(some, rewards.tolist(), strict=True)})  # fmt: skip

        self.in_parts(len(fit), judge)
        return [found[i] for i in range(len(images))]

    def rewards(self, images: Sequence[np.ndarray], texts: Sequence[str]) -> torch.Tensor:
        """(B, 2) fp32: mean, and logarithm of the deviation. Rows are padded behind, which no token before sees."""
        import torch

        seen = self.prepare(images=[sized(image) for image in images], return_tensors="pt")
        patches = seen.image_grid_thw.prod(-1) // self.prepare.merge_size**2
        rows = [self.row(text, int(n)) for text, n in zip(texts, patches, strict=True)]
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for k, row in enumerate(rows):
            ids[k, : len(row)], mask[k, : len(row)] = torch.tensor(row), 1
        hidden = self.network(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            position_ids=torch.arange(longest, device=self.device).expand(3, len(rows), -1),
            pixel_values=self.placed(seen.pixel_values),
            image_grid_thw=seen.image_grid_thw.to(self.device),
            use_cache=False,
        ).last_hidden_state
        at = (ids == self.token) & (mask == 1)
        found: torch.Tensor = self.head(hidden[at.to(self.device)].float())
        return found

    def row(self, text: str, patches: int) -> list[int]:
        """The turn's tokens; what stands in the prompt's text is text, control tokens too."""
        image: int = self.network.config.image_token_id
        before = [*self._ids(BEFORE), *[image] * patches, *self._ids(SEEN)]
        left, right = self.rated.split(REWARD)
        asked = self.tokenizer(
            self.asked.format(text_prompt=text) + left, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return [*before, *asked, self.token, *self._ids(right + AFTER)]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found


def instruction(path: Path) -> tuple[str, str]:
    """The text with a place for the prompt and the text around `<|Reward|>`, of the package's file.

    The file is parsed, and only the values of two constants are read. UserError where they are not there.
    """
    names = ("INSTRUCTION", "prompt_with_special_token")
    found: dict[str, str] = {}
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name, value = node.targets[0].id, node.value
                if name in names and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found[name] = value.value
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a file of Python ({error}); expected the package's {_TEXTS}") from error
    lacking = [name for name in names if name not in found]
    if lacking or "{text_prompt}" not in found[names[0]] or found[names[1]].count(REWARD) != 1:
        raise UserError(f"{path}: holds no instruction of HPSv3 ({', '.join(names)}); expected the package's {_TEXTS}")
    return found[names[0]], found[names[1]]


def networks(state: dict[str, torch.Tensor], folder: Path, *, of: Path) -> tuple[Any, Any]:
    """(Qwen2-VL without its word head, reward head) with the weights of the published file's names in them.

    The configuration is the folder's, but for the number of tokens. UserError where they do not fit one another.
    """
    from accelerate import init_empty_weights
    from torch import nn
    from transformers import Qwen2VLConfig, Qwen2VLModel

    words = state.get("model.embed_tokens.weight")
    layers = [state.get(f"rm_head.{i}.weight") for i in _HEAD]
    if words is None or any(layer is None or layer.ndim != 2 for layer in layers):
        raise UserError(f"{of}: another version or architecture: it lacks model.embed_tokens.weight or rm_head")
    config = Qwen2VLConfig.from_pretrained(folder, local_files_only=True)
    config.text_config.vocab_size = words.shape[0]
    with init_empty_weights():
        network = Qwen2VLModel(config)
        first, second, last = (nn.Linear(w.shape[1], w.shape[0]) for w in layers if w is not None)
        head = nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), last)
    rest = {name: value for name, value in state.items() if not name.startswith("rm_head.")}
    renamed = {_renamed(name): value for name, value in rest.items()}
    fill(network, renamed, of=of, ignored=("lm_head.weight",), assign=True)
    rated = {name.removeprefix("rm_head."): v for name, v in state.items() if name.startswith("rm_head.")}
    fill(head, rated, of=of, assign=True)
    return network, head


def _renamed(name: str) -> str:
    """A name of transformers 4.45 as one of today."""
    return f"language_model.{name.removeprefix('model.')}" if name.startswith("model.") else name


def sized(image: np.ndarray) -> Any:
    """The image (H, W, 3) uint8 at its size for the network, by Pillow's bicubic filter."""
    from PIL import Image

    height, width = size(*image.shape[:2])
    return Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)


def size(height: int, width: int) -> tuple[int, int]:
    """Sides in multiples of 28 whose product is near PIXELS: not above where the image is larger, else not below."""
    near = [max(FACTOR, round(side / FACTOR) * FACTOR) for side in (height, width)]
    # Divided by one scale or multiplied by its inverse, as the package does: a side that is nearly a multiple of 28
    # would otherwise be rounded to another one.
    if near[0] * near[1] > PIXELS:
        less = math.sqrt(height * width / PIXELS)
        near = [math.floor(side / less / FACTOR) * FACTOR for side in (height, width)]
    elif near[0] * near[1] < PIXELS:
        more = math.sqrt(PIXELS / (height * width))
        near = [math.ceil(side * more / FACTOR) * FACTOR for side in (height, width)]
    return near[0], near[1]


_CHECKPOINT = Checkpoint(
    "hpsv3",
    (
        Part(_FILE, "MizzenAI/HPSv3", "4f81e3e09edd82fe3c5f636444c721b592a735ca", about_bytes=16_590_000_000),
        # Without weights: configuration, tokenizer and the images' normalisation.
        Part(_QWEN, f"Qwen/{_QWEN}", "eed13092ef92e448dd6875b2a00151bd3f7db0ac", about_bytes=12_000_000),
        Part(
            _TEXTS,
            sha256="b0f936e89f8df652c67d470412e1d9afd27aa711dec85724c19989ac91e7a3e3",
            where=f"hpsv3/dataset/{_TEXTS} of the package hpsv3 1.0.0, which has the instruction",
            about_bytes=8_000,
        ),
    ),
)
_ROW = MetricEntry(
    "hpsv3",
    title="HPSv3",
    unit="reward",
    load=None,
    identify=str,
    scale="0 to 11 in its own table of models: SD 2 -0.2, SDXL 8.2, Kolors 10.6",
    about="HPSv3: a Qwen2-VL-7B tuned on HPDv3, the mean of its reward (2508.03789)",
    license="Apache-2.0 (weights, Qwen2-VL), MIT (code)",
    blind_to="detail below 448 pixels a side",
    unfit_for="checkpoints or adapters tuned by HPSv3 or on HPD v3",
    made_of=(Trait("labels", "annotators of HPD v3"), HPD_V2, Trait("backbone", "Qwen2-VL-7B")),
    ms=QWEN2_VL_7B.ms,
    gib=QWEN2_VL_7B.gib,
)
add_plugin("metrics", "hpsv3", entry(_ROW, HPSv3, _CHECKPOINT, version=VERSION), "bench")
