"""Feature networks of set metrics, and metrics that compare their features with a reference's.

A network's features are kept in the ledger once an image. Where a metric compares with a reference, that is the user's:
a folder of images, or an .npz file as clean-fid writes them (`mu` and `sigma`, or `feats`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.digests import file_digest
from bench.errors import UserError
from bench.metrics.backbones import CLIP_L_336, DINO_L
from bench.metrics.base import MetricEntry, SetScorer
from bench.metrics.checkpoint import Checkpoint, Part, fill, tensors
from bench.metrics.pixels import CLIP_MEAN, CLIP_STD, squared, squashed
from bench.metrics.real import Loaded, clip_of
from bench.metrics.references import Reference, Statistics
from bench.models.base import check_folder, quiet_hub_libraries
from bench.needs.base import Made, Need

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt


class FeatureScorer(Loaded):
    """A loaded network; a subclass says what its features of a batch are."""

    @abstractmethod
    def judge(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, D) features of images (H, W, 3) uint8, of any sizes."""

    def features(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt] = ()) -> np.ndarray:
        """(B, D) float32, in parts that fit the memory; UserError where a single image does not."""
        import torch

        found: list[torch.Tensor] = []
        self.in_parts(len(images), lambda part: found.append(self.judge([images[i] for i in part]).float().cpu()))
        return torch.cat(found).numpy()


# Networks ------------------------------------------------------------------------------------------------------------

_NVIDIA = "inception-2015-12-05.pt"
_CONVERTED = "pt_inception-2015-12-05-6726825d.pth"


def inception(metric: str) -> Checkpoint:
    """The network of FID, as clean-fid runs it, or as pytorch-fid converted it: the same weights."""
    published = Part(
        _NVIDIA,
        sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        url=f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{_NVIDIA}",
        about_bytes=95_607_719,
    )
    converted = Part(_CONVERTED, sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2")
    return Checkpoint(metric, (published,), instead=((converted,),))


class InceptionFeatures(FeatureScorer):
    """2048 features in clean-fid's mode `clean`: each channel resized to 299x299 by itself, in floating point.

    clean-fid resizes, and runs NVIDIA's published file in fp32. That file is TorchScript, which is code: of a file with
    another digest, and in another precision than the file's, the tensors are read and nothing in it is run.
    """

    shares = (_NVIDIA, _CONVERTED)

    def load(self, checkpoint: Checkpoint) -> None:
        import torch
        from cleanfid.inception_torchscript import InceptionV3W

        from bench.metrics.networks.archive import is_archive
        from bench.metrics.networks.inception import Inception, translated

        path = checkpoint.path(checkpoint.parts[0].name)

        def read() -> Any:
            if self.dtype == torch.float32 and file_digest(path) == checkpoint.parts[0].sha256 and is_archive(path):
                return InceptionV3W(str(path.parent), download=False)
            with torch.device("meta"):
                network = Inception()
            network = network.to_empty(device="cpu")
            fill(network, translated(tensors(path), of=path), of=path)
            return network

        self.backbone = self.shared(checkpoint, checkpoint.parts[0].name, "inception", read)
        self.model = self.backbone.module
        self.levels = isinstance(self.model, InceptionV3W)  # which takes them from 0 to 255

    def judge(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        return self.backbone.once(images, "clean-fid 299", self._features)

    def _features(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        import numpy as np
        import torch
        from cleanfid.resize import build_resizer

        resize = build_resizer("clean")
        pixels = torch.from_numpy(np.stack([resize(image) for image in images])).permute(0, 3, 1, 2).contiguous()
        return self.model(self.placed(pixels if self.levels else (pixels - 128) / 128))


DINO = "dinov2-large"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def dino(metric: str) -> Checkpoint:
    """DINOv2 ViT-L/14."""
    commit = "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"
    size = 4 * DINO_L.parameters
    part = Part(DINO, "facebook/dinov2-large", commit, weights=("model.safetensors",), about_bytes=size)
    return Checkpoint(metric, (part,))


class DinoFeatures(FeatureScorer):
    """The class token of DINOv2 at 224 pixels, after the last norm, as dgm-eval asks the published code for it.

    The published code places an image of another size than its own by a scale of (n + 0.1) / m patches, transformers by
    their numbers: its position embeddings are interpolated here, once, as the former does.
    """

    side = 224
    shares = (DINO,)

    def load(self, checkpoint: Checkpoint) -> None:
        self.backbone = self.shared(checkpoint, DINO, "dinov2", lambda: self._read(checkpoint.path(DINO)))
        self.model = self.backbone.module

    def _read(self, folder: Path) -> Any:
        import torch
        from transformers import Dinov2Model

        quiet_hub_libraries()
        check_folder(folder)
        model, report = Dinov2Model.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        if report["missing_keys"]:  # they would be random
            raise UserError(f"{folder}: another version or architecture: it lacks {min(report['missing_keys'])}")
        places = model.embeddings.position_embeddings
        n = self.side // model.config.patch_size
        m = round((places.shape[1] - 1) ** 0.5)
        if n != m:
            grid = places[:, 1:].reshape(1, m, m, -1).permute(0, 3, 1, 2)
            scale = (n + 0.1) / m
            grid = torch.nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
            whole = torch.cat([places[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)
            model.embeddings.position_embeddings = torch.nn.Parameter(whole.detach())
        return model

    def judge(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        return self.backbone.once(images, "squashed 224, class token", self._features)

    def _features(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        pixels = squashed(images, self.side, _IMAGENET_MEAN, _IMAGENET_STD)
        return self.model(pixel_values=self.placed(pixels)).last_hidden_state[:, 0]


CLIP = "clip-vit-large-patch14-336"


def clip(metric: str) -> Checkpoint:
    """OpenAI's CLIP ViT-L/14 at 336 pixels."""
    commit = "ce19dc912ca5cd21c8a653c79e251e808ccabcd1"
    weights = ("model.safetensors", "pytorch_model.bin")
    part = Part(CLIP, f"openai/{CLIP}", commit, weights=weights, about_bytes=4 * CLIP_L_336.parameters)
    return Checkpoint(metric, (part,))


class ClipFeatures(FeatureScorer):
    """CLIP's image embeddings of length 1: the middle square, resized by Pillow's bicubic filter."""

    def load(self, checkpoint: Checkpoint) -> None:
        self.model = self.ready(clip_of(checkpoint.path(CLIP)))
        self.side: int = self.model.config.vision_config.image_size

    def judge(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        import torch

        pixels = self.placed(squared(images, self.side, CLIP_MEAN, CLIP_STD))
        return torch.nn.functional.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)


# Metrics -------------------------------------------------------------------------------------------------------------


class Placing(Protocol):
    """What a reference makes of features, such as `distances.Gaussian`."""

    def rows(self, features: Any) -> Any:
        """(n, D) features as rows (n, D') that hold what the value needs of the reference."""
        ...


class Against:
    """A set scorer whose features are rows beside a reference."""

    def __init__(self, scorer: SetScorer, placing: Placing):
        self.scorer, self.placing = scorer, placing

    def features(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> np.ndarray:
        """(B, D') rows."""
        return self.placing.rows(self.scorer.features(images, prompts))


Build = Callable[[Checkpoint, str, str], FeatureScorer]
Beside = Callable[[Statistics], Placing]
VERSION = "1"
"""Of the networks' code: features of a reference are kept under it."""


def set_entry(
    row: MetricEntry,
    build: Build,
    checkpoint: Checkpoint,
    *,
    against: Beside | None = None,
    version: str = "1",
    dtype: str = "fp32",
    reference: str | None = None,
) -> MetricEntry:
    """A catalogue row with its scorer, as `real.entry`; `against` says how it is placed beside a reference.

    The digest has the code's version, network, checkpoint, precision and the reference's content.
    """

    def made(checkpoint: Checkpoint, dtype: str, reference: str | None) -> MetricEntry:
        return set_entry(row, build, checkpoint, against=against, version=version, dtype=dtype, reference=reference)

    def configure(folder: str | None, precision: str) -> MetricEntry:
        return made(checkpoint if folder is None else checkpoint.at(folder), precision, reference)

    def network() -> str:
        name = getattr(build, "__name__", row.name)
        return f"{name}-{VERSION}-{checkpoint.identity()}" + ("" if dtype == "fp32" else f"-{dtype}")

    def open_reference() -> Reference:
        if reference is None:
            raise UserError(f"metric {row.name!r} has no reference")
        return Reference(row.name, reference, row.fewest)

    def load(device: str) -> SetScorer:
        scorer = build(checkpoint, device, dtype)
        if against is None:
            return scorer
        return Against(scorer, against(open_reference().statistics(scorer.features, network())))

    def identify() -> str:
        beside = "" if against is None else f":{open_reference().digest() if reference else 'no reference'}"
        return f"{row.name}-{version}:{network()}{beside}"

    def needs() -> tuple[Need, ...]:
        if against is None or reference is None:
            return checkpoint.needs()
        how = f"give the folder of images, or the .npz file, that the suite names as {row.name}'s reference"
        return (*checkpoint.needs(), Need(f"metric {row.name}", "reference", Made(Path(reference).expanduser(), how)))

    def fetch() -> None:
        checkpoint.fetch()
        if against is not None:
            open_reference().digest()

    return replace(
        row,
        load=load,
        identify=identify,
        configure=configure,
        refer=None if against is None else lambda given: made(checkpoint, dtype, given),
        reference=reference,
        fetch=fetch,
        needs=needs,
        networks=lambda: checkpoint.networks(getattr(build, "shares", ()), dtype),
    )
