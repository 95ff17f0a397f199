"""OpenAI's CLIP as scorers use it, from a transformers folder or from OpenAI's own file.

Images and texts are prepared as by OpenAI's package: torchvision's cropping, and text that ftfy has fixed and whose
HTML entities are read, which matters for curly quotes and `&amp;`. A folder with another vocabulary than OpenAI's
brings its own tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.metrics.checkpoint import Checkpoint, tensors
from bench.metrics.pixels import cropped
from bench.metrics.real import Loaded, bpe_tokens, clip_of, open_clip_config, open_clip_of, tokenizer_of, tokens

if TYPE_CHECKING:
    import numpy as np
    import torch

_WORDS = 49408
"""OpenAI's vocabulary, whose tokenizer needs no file of the checkpoint."""


class Towers:
    """The image tower and the text tower, on a scorer's device and in its precision; scorers of one CLIP share it."""

    def __init__(self, owner: Loaded, checkpoint: Checkpoint, *, folder: str, file: str, architecture: str):
        """`folder` and `file` are the names of the two layouts; a checkpoint has one of them, which `owner` shares."""
        # Not the owner itself, which holds this: a circle would outlive the scorer, with its network.
        self.device, self.dtype = owner.device, owner.dtype
        if any(part.name == file for part in checkpoint.parts):
            path = checkpoint.path(file)
            config = open_clip_config(checkpoint.folder, architecture)
            self.backbone = owner.shared(
                checkpoint, file, "open_clip", lambda: open_clip_of(tensors(path), config, of=path, quick=True)
            )
            self.model = self.backbone.module
            self.side: int = config["vision_cfg"]["image_size"]
            self.length: int = config["text_cfg"].get("context_length", 77)
            self.tokenizer: Any = None
            return
        place = checkpoint.path(folder)
        self.backbone = owner.shared(checkpoint, folder, "clip", lambda: clip_of(place))
        self.model = self.backbone.module
        settings = self.model.config
        self.side, self.length = settings.vision_config.image_size, settings.text_config.max_position_embeddings
        self.tokenizer = None if settings.text_config.vocab_size == _WORDS else tokenizer_of(place)

    def images(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, D) features of images (H, W, 3) uint8, which other scorers may ask about too."""
        return self.backbone.once(images, "cropped, torchvision", self.parts)

    def parts(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, D) features of images (H, W, 3) uint8 that only this scorer has, such as what it cuts out of others."""
        pixels = cropped(images, self.side, "torchvision").to(device=self.device, dtype=self.dtype)
        if hasattr(self.model, "encode_image"):
            return self.model.encode_image(pixels)
        return self.model.get_image_features(pixel_values=pixels).pooler_output

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """(B, D) features of texts, cut at CLIP's length."""
        ids = tokens(self.tokenizer, texts, self.length) if self.tokenizer else bpe_tokens(texts, self.length)
        ids = ids.to(self.device)
        if hasattr(self.model, "encode_text"):
            return self.model.encode_text(ids)
        return self.model.get_text_features(input_ids=ids).pooler_output
