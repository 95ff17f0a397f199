"""What the scorers of real models share: settings, batches that fit, precision, prompts cleaned as CLIP's are.

A scorer here is loaded once for a device and a precision and reads its architecture from its checkpoint, so that a
small random checkpoint goes through the code that the published one does.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.backoff import Backoff
from bench.errors import UserError, first_line
from bench.metrics.base import MetricEntry, PairScorer, Scorer, Value
from bench.metrics.checkpoint import ARCHITECTURE, Checkpoint
from bench.metrics.sharing import Network, load_shared
from bench.metrics.worker import packaged
from bench.models.base import TORCH_DTYPES, check_folder, quiet_hub_libraries

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

BATCH = 32
"""Images at once, at first; fewer from then on where so many do not fit."""


class Loaded(ABC):
    """Networks on a device, in a precision, and batches that fit; a subclass says how they are read."""

    shares: ClassVar[tuple[str, ...]] = ()
    """Parts of the checkpoint whose networks other metrics may have too: those that `shared` loads."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: str = "fp32"):
        """Load the checkpoint's weights onto a device in a precision; UserError where they are not what they say."""
        import torch

        self.device, self.backoff, self.precision = device, Backoff(BATCH), dtype
        self.dtype: torch.dtype = getattr(torch, TORCH_DTYPES[dtype])
        try:
            self.load(checkpoint)
        except (UserError, torch.OutOfMemoryError):
            raise
        except ImportError as error:
            raise UserError(
                f"metric {checkpoint.metric!r} needs {error.name}, which noisebench installs: pip install "
                "open-clip-torch clean-fid timm torchvision"
            ) from error
        except Exception as error:
            # Libraries raise whatever their parsers raise; the user needs the place and the first line of the reason.
            reason = first_line(error)
            place = checkpoint.folder or "its published files"
            raise UserError(f"metric {checkpoint.metric!r} does not load from {place}: {reason}") from error

    @abstractmethod
    def load(self, checkpoint: Checkpoint) -> None:
        """Read the networks and whatever goes before them."""

    def ready(self, module: Any) -> Any:
        """A network on the scorer's device, in its precision, without dropout or gradients."""
        return module.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)

    def shared(self, checkpoint: Checkpoint, name: str, kind: str, read: Callable[[], Any]) -> Network:
        """The network in a part of the checkpoint that is one of `shares`, `ready`; another scorer's if one holds it.

        `kind` says how `read` reads the part.
        """
        return load_shared((kind, checkpoint.network(name, self.precision), self.device), lambda: self.ready(read()))

    def placed(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers for a network, on the scorer's device and in its precision."""
        return values.to(device=self.device, dtype=self.dtype)

    def in_parts(self, n: int, judge: Callable[[Sequence[int]], None]) -> None:
        """`judge` images 0 to n - 1, without gradients, in parts that fit; UserError where a single one does not."""
        import torch

        def without_gradients(part: Sequence[int]) -> None:
            with torch.inference_mode():
                judge(part)

        name = type(self).__name__
        too_large = f"one image does not fit the memory of {self.device} in a {name}"
        self.backoff.parts(range(n), without_gradients, of=name, too_large=too_large)


class RealScorer(Loaded):
    """A loaded scorer of single images; a subclass says how a batch is judged."""

    @abstractmethod
    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B,) values of images (H, W, 3) uint8, of any sizes, with their prompts."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        """One value an image, in parts that fit the memory; UserError where a single one does not."""
        found: list[Value] = []

        def judge(part: Sequence[int]) -> None:
            values = self.judge([images[i] for i in part], [prompts[i] for i in part])
            found.extend(map(Value, values.cpu().double().tolist()))

        self.in_parts(len(images), judge)
        return found


def cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(B,) cosines of features (B, D), in float64 on the CPU: a score times 90 shows the last bits of a cosine."""
    import torch

    a, b = (x.float().cpu().double() for x in (one, other))
    return torch.nn.functional.cosine_similarity(a, b)


Build = Callable[[Checkpoint, str, str], Scorer | PairScorer]


def entry(row: MetricEntry, build: Build, checkpoint: Checkpoint, *, version: str, dtype: str = "fp32") -> MetricEntry:
    """A catalogue row with its scorer: loaded by `build(checkpoint, device, dtype)`, and configured by the user.

    The digest has the code's version, the checkpoint's identity and any precision that is not fp32.
    """

    def configure(folder: str | None, precision: str) -> MetricEntry:
        place = checkpoint if folder is None else checkpoint.at(folder)
        return entry(row, build, place, version=version, dtype=precision)

    suffix = "" if dtype == "fp32" else f":{dtype}"
    return replace(
        row,
        load=lambda device: build(checkpoint, device, dtype),
        identify=lambda: f"{row.name}-{version}:{checkpoint.identity()}{suffix}",
        configure=configure,
        packaged=packaged(row, checkpoint),
        fetch=checkpoint.fetch,
        needs=checkpoint.needs,
        networks=lambda: checkpoint.networks(getattr(build, "shares", ()), dtype),
    )


# CLIP ---------------------------------------------------------------------------------------------------------------


def clip_of(folder: Path) -> Any:
    """The `CLIPModel` of a transformers folder, in fp32 on the CPU; no code of the folder is run."""
    import torch
    from transformers import CLIPModel

    quiet_hub_libraries()
    check_folder(folder)
    return CLIPModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def tokenizer_of(folder: Path) -> Any:
    """The CLIP tokenizer of a transformers folder."""
    from transformers import AutoTokenizer

    check_folder(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokens(tokenizer: Any, texts: Sequence[str], length: int | None = None) -> torch.Tensor:
    """(B, L) token ids, each text cut or padded to `length`, or to the tokenizer's own."""
    given: dict[str, Any] = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    found: torch.Tensor = tokenizer(list(texts), max_length=length or tokenizer.model_max_length, **given).input_ids
    return found


def bpe_tokens(texts: Sequence[str], length: int) -> torch.Tensor:
    """(B, length) token ids by OpenAI's vocabulary, as open_clip's tokenizer makes them: cleaned, lower case, cut."""
    from open_clip.tokenizer import SimpleTokenizer

    if not _BPE:
        _BPE.append(SimpleTokenizer())
    found: torch.Tensor = _BPE[0](list(texts), context_length=length)
    return found


_BPE: list[Any] = []
"""The tokenizer, once it was needed: its vocabulary takes a second to read."""


_CONSTANTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""What files of CLIP may hold beside weights; all of it follows from the configuration."""


def open_clip_of(state: dict[str, torch.Tensor], config: dict[str, Any], *, of: Path, quick: bool = False) -> Any:
    """open_clip's `CLIP` of a configuration with a state dict in it; UserError where they do not fit one another."""
    from open_clip.model import CLIP

    from bench.metrics.checkpoint import fill

    model = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=quick)
    fill(model, state, of=of, ignored=_CONSTANTS)
    return model


def open_clip_config(folder: Path | None, default: str) -> dict[str, Any]:
    """The configuration that a folder has as `open_clip_config.json`, else that of a named architecture."""
    from open_clip import get_model_config

    own = folder / ARCHITECTURE if folder else None
    if own is not None and own.is_file():
        try:
            found = json.loads(own.read_text())
            found = found.get("model_cfg", found)
            return {key: found[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{own}: not a configuration of open_clip ({type(error).__name__}: {error})") from error
    return dict(get_model_config(default))
