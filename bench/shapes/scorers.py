"""The embedded preference model and aesthetic head: their networks and the scorers that load them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.errors import UserError
from bench.metrics.base import Value
from bench.models.base import check_folder, quiet_hub_libraries
from bench.shapes.tokenizer import MAX_LENGTH, build_tokenizer

if TYPE_CHECKING:
    import numpy as np

    from bench.prompts.base import Prompt


class PreferenceModel(nn.Module):
    """Utility of an image for a caption: every word looks at the image's patches, and what they saw is summed up.

    Two towers and one cross-attention between them, so that all captions of a batch can be scored against all
    images. Trained with the Bradley-Terry loss: differences of utility are log odds of a vote.
    """

    def __init__(self, vocabulary: int, *, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.config = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads}
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 4, stride=2, padding=1),
            nn.GELU(),
            nn.GroupNorm(1, 24),
            nn.Conv2d(24, 48, 4, stride=2, padding=1),
            nn.GELU(),
            nn.GroupNorm(1, 48),
            nn.Conv2d(48, width, 4, stride=2, padding=1),
            nn.Flatten(2),
        )
        # Three convolutions leave a faint signal; without this the places drown it.
        self.patch_norm = nn.LayerNorm(width)
        self.patch_places = nn.Parameter(torch.randn(64, width) * 0.3)
        self.words = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.words.weight, std=0.5)
        self.word_places = nn.Parameter(torch.randn(MAX_LENGTH, width) * 0.3)
        self.image_blocks, self.text_blocks = (self._blocks(width, layers, heads) for _ in range(2))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.word_match, self.patch_match = (nn.Linear(width, width) for _ in range(2))
        self.heads = heads
        self.join = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.look = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    @staticmethod
    def _blocks(width: int, layers: int, heads: int) -> nn.TransformerEncoder:
        layer = nn.TransformerEncoderLayer(
            width, heads, 3 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def encode(self, images: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Patches (N, 64, w), words (M, 24, w) and which of the words are there (M, 24)."""
        patches = self.image_blocks(self.patch_norm(self.stem(images).transpose(1, 2)) + self.patch_places)
        there = torch.cumsum(ids == ids[:, -1:], 1) <= 1  # the last token is the padding, which is the end token too
        words = self.text_blocks(self.words(ids) + self.word_places)
        return patches, words, there.float()

    def utility(self, patches: torch.Tensor, words: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Utilities over the broadcast leading dimensions of patches (..., 64, w) and words (..., 24, w)."""

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

        q, k, v = split(self.query(words)), split(self.key(patches)), split(self.value(patches))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        seen = (weights @ v).transpose(-2, -3).flatten(-2)
        joined = self.join(torch.cat([words.expand(seen.shape), seen], -1))
        summed = (joined * there[..., None]).sum(-2) / there.sum(-1, keepdim=True)
        # The product of a word and what it saw learns soon what goes together; the heads alone take far longer.
        match = ((self.word_match(words) * self.patch_match(seen)).sum(-1) * there).sum(-1) / there.sum(-1)
        found: torch.Tensor = match + self.head(summed)[..., 0] + self.look(patches.mean(-2))[..., 0]
        return found

    def forward(self, images: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, 64, 64) in [-1, 1] and token ids (B, 24) to utilities (B,)."""
        return self.utility(*self.encode(images, ids))

    def against_all(self, images: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Utilities (M, N) of N images for each of M captions."""
        patches, words, there = self.encode(images, ids)
        return self.utility(patches[None], words[:, None], there[:, None])


class AestheticHead(nn.Module):
    """The published predictor's layout in small: linear layers on L2-normalised CLIP image features."""

    def __init__(self, features: int = 64):
        super().__init__()
        self.config = {"features": features}
        self.layers = nn.Sequential(
            nn.Linear(features, 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 1)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, features) to ratings (B,)."""
        rating: torch.Tensor = self.layers(nn.functional.normalize(features, dim=-1))[:, 0]
        return rating


def pixels_to_input(images: Sequence[np.ndarray]) -> torch.Tensor:
    """(H, W, 3) uint8 images to (B, 3, 64, 64) in [-1, 1]; another size is resized, antialiased."""
    import numpy as np

    x = torch.from_numpy(np.stack([np.ascontiguousarray(i) for i in images])).permute(0, 3, 1, 2).float() / 127.5 - 1
    if x.shape[-2:] != (64, 64):
        x = nn.functional.interpolate(x, size=(64, 64), mode="bicubic", antialias=True)
    return x


def save_module(module: Any, folder: Path) -> None:
    """Weights as fp16 safetensors and the constructor's arguments as `config.json`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in module.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(module.config) + "\n")


def load_module(kind: Any, folder: Path) -> Any:
    """The module that `save_module` wrote, in fp32 and eval mode."""
    from safetensors.torch import load_file

    check_folder(folder)
    try:
        module = kind(**json.loads((folder / "config.json").read_text()))
        module.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    except Exception as error:
        raise UserError(
            f"{folder}: does not load ({str(error).splitlines()[0]}); reinstall or train it again"
        ) from error
    return module.eval()


class PreferenceScorer:
    """The preference model as a metric."""

    def __init__(self, folder: Path, device: str):
        self.model = load_module(PreferenceModel, folder).to(device)
        self.tokenizer, self.device = build_tokenizer(), device

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        ids = self.tokenizer(
            [p.text for p in prompts],
            padding="max_length",
            max_length=MAX_LENGTH,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        with torch.inference_mode():
            utility = self.model(pixels_to_input(images).to(self.device), ids.to(self.device))
        return [Value(float(u)) for u in utility]


class AestheticScorer:
    """The aesthetic head on the embedded CLIP's image features; the prompt plays no part."""

    def __init__(self, folder: Path, clip: Path, device: str):
        from transformers import CLIPModel

        quiet_hub_libraries()
        check_folder(clip)
        self.clip = CLIPModel.from_pretrained(clip, local_files_only=True, dtype=torch.float32).to(device).eval()
        self.head = load_module(AestheticHead, folder).to(device)
        self.device = device

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        with torch.inference_mode():
            features = self.clip.get_image_features(pixel_values=pixels_to_input(images).to(self.device)).pooler_output
            ratings = self.head(features)
        return [Value(float(r)) for r in ratings]
