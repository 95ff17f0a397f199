"""The embedded preference model and aesthetic head: their networks and the scorers that load them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from bench.errors import UserError
from bench.metrics.base import Value
from bench.metrics.clipscore import local_clip
from bench.metrics.sharing import Network, load_shared
from bench.models.base import check_folder, folder_digest
from bench.shapes.tokenizer import MAX_LENGTH, build_tokenizer

if TYPE_CHECKING:
    import numpy as np

    from bench.prompts.base import Prompt


class Seen(NamedTuple):
    """Images: patches (N, 64, w), the utility that each has without a caption (N,), and one vector each (N, 2w)."""

    patches: torch.Tensor
    look: torch.Tensor
    whole: torch.Tensor


class Read(NamedTuple):
    """Captions: words (M, 24, w), which of them are there (M, 24), and one vector each (M, 2w)."""

    words: torch.Tensor
    there: torch.Tensor
    whole: torch.Tensor


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(4, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, width, h, w) to the same."""
        return x + self.body(x)


class PreferenceModel(nn.Module):
    """Utility of an image for a caption: a glance at both, and a closer look of every word at the image's patches.

    The glance is the product of one vector each, so that all captions of a batch are scored against all images; it
    learns soon, and its towers then serve the closer look. A word takes from the patches what they hold and where it
    looked: without the latter, "left of" is hardly learnt.
    How cleanly a picture is drawn has a path of its own from features that no normalisation has touched: faint
    artefacts are a matter of amplitude. Trained with the Bradley-Terry loss: differences of utility are log odds of
    a vote.
    """

    centres: torch.Tensor

    def __init__(self, vocabulary: int, *, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.config = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads}
        self.fine = nn.Sequential(
            nn.Conv2d(3, 24, 4, stride=2, padding=1), nn.GELU(), nn.Conv2d(24, 48, 4, stride=2, padding=1)
        )
        self.coarse = nn.Sequential(
            nn.GroupNorm(1, 48),
            Residual(48),
            nn.GroupNorm(1, 48),
            nn.Conv2d(48, width, 4, stride=2, padding=1),
            Residual(width),
            nn.Flatten(2),
        )
        # The convolutions leave a faint signal; without this the places drown it.
        self.patch_norm = nn.LayerNorm(width)
        self.patch_places = nn.Parameter(torch.randn(64, width) * 0.3)
        line = (torch.arange(8) + 0.5) / 4 - 1
        self.register_buffer("centres", torch.cartesian_prod(line, line).flip(1), persistent=False)  # (64, 2): x, y
        self.words = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.words.weight, std=0.5)
        self.word_places = nn.Parameter(torch.randn(MAX_LENGTH, width) * 0.3)
        self.image_blocks, self.text_blocks = (self._blocks(width, layers, heads) for _ in range(2))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.word_match, self.patch_match = (nn.Linear(width, width) for _ in range(2))
        self.heads = heads
        self.image_whole, self.text_whole = (nn.Linear(width, 2 * width) for _ in range(2))
        self.join = nn.Linear(2 * width + 2 * heads, width)
        self.confer = self._blocks(width, 2, heads)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.look = nn.Sequential(nn.Linear(96 + width, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))

    @staticmethod
    def _blocks(width: int, layers: int, heads: int) -> nn.TransformerEncoder:
        layer = nn.TransformerEncoderLayer(
            width, heads, 3 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def see(self, images: torch.Tensor) -> Seen:
        """Images (N, 3, 64, 64) in [-1, 1], looked at without a caption."""
        fine = self.fine(images)
        patches = self.image_blocks(self.patch_norm(self.coarse(fine).transpose(1, 2)) + self.patch_places)
        texture = fine.flatten(2)
        drawn = torch.cat([texture.mean(-1), texture.abs().mean(-1), patches.mean(1)], -1)
        return Seen(patches, self.look(drawn)[:, 0], self.image_whole(patches.mean(1)))

    def read(self, ids: torch.Tensor) -> Read:
        """Captions as token ids (M, 24), read without an image."""
        there = torch.cumsum(ids == ids[:, -1:], 1) <= 1  # the last token is the padding, which is the end token too
        words = self.text_blocks(self.words(ids) + self.word_places)
        mean = (words * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        return Read(words, there, self.text_whole(mean))

    def at_a_glance(self, seen: Seen, read: Read) -> torch.Tensor:
        """A first guess at the utilities (M, N) of all N images for all M captions, from one vector of each."""
        return read.whole @ seen.whole.T / read.whole.shape[1] ** 0.5 + seen.look

    def belong(self, patches: torch.Tensor, words: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """What a closer look adds (B,): every word sees the patches; all arguments of leading dimension B."""

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

        q, k, v = split(self.query(words)), split(self.key(patches)), split(self.value(patches))
        attention = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        seen, place = ((attention @ x).transpose(-2, -3).flatten(-2) for x in (v, self.centres))
        mask = there.float()
        # The product of a word and what it saw learns soon what goes together; the head alone takes far longer.
        match = ((self.word_match(words) * self.patch_match(seen)).sum(-1) * mask).sum(-1) / mask.sum(-1)
        joined = self.confer(self.join(torch.cat([words, seen, place], -1)), src_key_padding_mask=~there)
        summed = (joined * mask[..., None]).sum(-2) / mask.sum(-1, keepdim=True)
        found: torch.Tensor = match + self.head(summed)[..., 0]
        return found

    def closely(self, seen: Seen, read: Read, pairs: torch.Tensor) -> torch.Tensor:
        """Utilities (M, K) of the K images that `pairs` (M, K) names for each of M captions."""
        k = pairs.shape[1]
        words, there = read.words.repeat_interleave(k, 0), read.there.repeat_interleave(k, 0)
        close = self.belong(seen.patches[pairs.flatten()], words, there).unflatten(0, (-1, k))
        return self.at_a_glance(seen, read).gather(1, pairs) + close

    def forward(self, images: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Utilities (B,) of images (B, 3, 64, 64) in [-1, 1] for captions as token ids (B, 24), one by one."""
        seen, read = self.see(images), self.read(ids)
        glance = (read.whole * seen.whole).sum(1) / read.whole.shape[1] ** 0.5 + seen.look
        return glance + self.belong(seen.patches, read.words, read.there)


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


def seen_by(network: Network, images: Sequence[np.ndarray]) -> torch.Tensor:
    """(B, 64) features of images (H, W, 3) uint8 by the embedded CLIP; another size than 64 is resized, antialiased."""
    clip = network.module

    def run(some: Sequence[np.ndarray]) -> torch.Tensor:
        found: torch.Tensor = clip.get_image_features(pixel_values=pixels_to_input(some).to(clip.device)).pooler_output
        return found

    with torch.inference_mode():
        return network.once(images, "scenes", run)


def pixels_to_input(images: Sequence[np.ndarray]) -> torch.Tensor:
    """(H, W, 3) uint8 images to (B, 3, 64, 64) in [-1, 1]; another size is resized, antialiased."""
    import numpy as np

    x = torch.from_numpy(np.stack([np.ascontiguousarray(i) for i in images])).permute(0, 3, 1, 2).float() / 127.5 - 1
    return _resized(x)


def _resized(x: torch.Tensor) -> torch.Tensor:
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
        self.backbone = load_shared(
            ("shapes-preference", folder_digest(folder), device),
            lambda: load_module(PreferenceModel, folder).to(device),
        )
        self.model = self.backbone.module
        self.tokenizer, self.device = build_tokenizer(), device

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        with torch.inference_mode():
            utility = self.model(pixels_to_input(images).to(self.device), self.ids(prompts))
        return [Value(float(u)) for u in utility]

    def differentiable(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Utilities (B,) of images (B, 3, H, W) in [0, 1]; gradients flow to the images."""
        utility: torch.Tensor = self.model(_resized(2 * images - 1), self.ids(prompts))
        return utility

    def ids(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Captions as token ids (B, 24)."""
        ids: torch.Tensor = self.tokenizer(
            [p.text for p in prompts],
            padding="max_length",
            max_length=MAX_LENGTH,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids.to(self.device)


class AestheticScorer:
    """The aesthetic head on the embedded CLIP's image features; the prompt plays no part."""

    def __init__(self, folder: Path, clip: Path, device: str):
        self.clip = local_clip(clip, device)
        self.head = load_module(AestheticHead, folder).to(device)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        features = seen_by(self.clip, images)
        with torch.inference_mode():
            ratings = self.head(features)
        return [Value(float(r)) for r in ratings]
