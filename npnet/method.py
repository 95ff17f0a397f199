"""The `npnet` noise method: golden noise from one pass of a small network (paper, section 3.2). Imports no torch.

`for_model` finds the checkpoint and pins it by its digest, which is what enters a job's id; the path it was found
at does not. A method built again from an id finds the file by its digest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from bench.errors import UserError, nearest
from bench.methods.base import Method
from bench.needs.base import Lacking, Made, Need, Package, is_placeholder, placeholder, tilde
from bench.needs.hub import HubFile
from bench.sampling.records import Nfe, Sampling
from npnet.teachers.base import choosers

if TYPE_CHECKING:
    import torch

    from bench.models.base import ModelEntry
    from bench.sampling.session import Session
    from npnet.network.model import NPNet

AUTO = "auto"
PUBLISHED_AS = {"hunyuan-dit": "dit"}
"""Models whose published checkpoint is not named after them."""
PUBLISHED = "Klayand/GoldenNoiseModel"
"""The hub's repository; its file of today is taken, for a job's id has what is in the file."""
PUBLISHED_BYTES = {"sdxl": 122_000_000, "dreamshaper": 122_000_000, "dit": 119_000_000}
SHIPPED = Path(__file__).parent / "weights"
_places: dict[str, Path] = {}
"""Where checkpoints of known digests lie, for methods that are built again from a job's id."""
_networks: dict[tuple[str, str], NPNet] = {}


def folder() -> Path:
    """Where checkpoints that are not shipped are looked for, such as the published `sdxl.pth`."""
    return Path(os.environ.get("NPNET_WEIGHTS") or Path.home() / ".cache" / "bench" / "npnet")


def known() -> dict[str, Path]:
    """Checkpoints by name: the shipped ones, then those in `folder()`."""
    found: dict[str, Path] = {}
    for place in (SHIPPED, folder()):
        for path in sorted([*place.glob("*.safetensors"), *place.glob("*.pth")]):
            found.setdefault(path.stem, path)
    return found


@dataclass(frozen=True)
class Published(HubFile):
    """A published checkpoint, in the folder where it is looked for."""

    def here(self) -> bool:
        return (folder() / self.file).is_file()

    def landing(self, to: Path | None) -> Path:
        return to or folder()

    @property
    def where(self) -> str:
        return f"{self.repo}@{self.revision} {self.file}"


def find(checkpoint: str) -> Path:
    """The file of a known name, or of a path; UserError for neither."""
    from npnet.network import checkpoint as checkpoints

    names = known()
    if checkpoint in names:
        return names[checkpoint]
    if not Path(checkpoint).exists():
        raise Lacking(
            f"npnet: {checkpoint}: neither a file nor a known checkpoint{nearest(checkpoint, names)}; "
            "expected a .pth or .safetensors file, or a folder with one",
            Need("method npnet", checkpoint, Made(Path(checkpoint), "train it, or name another checkpoint")),
            None,
        )
    return checkpoints.find(checkpoint)


class NPNetMethod(Method):
    """x + scale (NPNet(x, prompt) - x); no denoiser calls."""

    about: ClassVar[str] = "a network's golden noise"
    source: ClassVar[str] = "2411.09502, section 3.2"
    cost: ClassVar[str] = "+1 small network, no denoiser call"

    checkpoint: str = AUTO
    """A file, or a known name; auto takes the one named after the model."""
    digest: str | None = Field(default=None, pattern="^[0-9a-f]{8,64}$")
    """The checkpoint's content, or how it begins: another file is refused."""
    scale: float = Field(default=1.0, ge=-10, le=10)
    """How far to go along the network's move; 1 is the network's own answer, 0 the source noise."""

    def for_model(self, entry: ModelEntry) -> NPNetMethod:
        """With its checkpoint found and pinned; UserError where none is there or it does not fit the model."""
        try:
            path = self._path(entry)
        except Lacking as lacking:
            digest = self.digest or placeholder(lacking.need.what)
            unknown = self.model_copy(update={"digest": digest})
            raise Lacking(str(lacking), lacking.need, unknown) from lacking
        provenance = _provenance(path)
        if self.digest and not str(provenance["digest"]).startswith(self.digest):
            raise UserError(
                f"npnet: {path} has digest {provenance['digest'][:12]}, and {self.digest[:12]} was asked for"
            )
        latent = (provenance["config"] or {}).get("latent")
        if latent is not None and tuple(latent) != entry.latent:
            raise UserError(
                f"npnet: {path} takes latents {tuple(latent)}, and model {entry.name!r} has {entry.latent}; "
                "give a checkpoint trained for this model"
            )
        return self.model_copy(update={"digest": provenance["digest"]})

    def twinned(self, entry: ModelEntry) -> NPNetMethod:
        """By the shipped network, where its own checkpoint is not here."""
        try:
            self.for_model(entry)
        except Lacking:
            return self.model_copy(update={"checkpoint": AUTO, "digest": None})
        return self

    def requires(self) -> tuple[Need, ...]:
        """timm, for a network with the published backbone."""
        if self.digest is None or is_placeholder(self.digest):
            published = self.checkpoint == AUTO
        else:
            published = (_provenance(self._path(None))["config"] or {}).get("backbone") != "small"
        if not published:
            return ()
        return (Need("method npnet", "timm", Package("timm", "timm")),)

    def _path(self, entry: ModelEntry | None) -> Path:
        if self.checkpoint != AUTO:
            return find(self.checkpoint)
        if entry is not None and self.digest is None:
            return _of_model(entry.name)
        return _of_digest(str(self.digest))

    def prepare(self, s: Session) -> None:
        self._loaded(s.family.device)

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.no_grad():
            golden = self._loaded(s.family.device)(x, s.cond.get("prompt_embeds"))
        return golden if self.scale == 1 else x + self.scale * (golden - x)

    def _loaded(self, device: str) -> NPNet:
        if self.digest is None:
            raise UserError("npnet: no checkpoint was chosen; ask for_model(entry) first, or give checkpoint a file")
        return _network(self.digest, device)

    def noise_nfe(self, p: Sampling) -> Nfe:
        return Nfe(networks=1)

    def optimises(self) -> tuple[str, ...]:
        """Metrics that selected its pairs or by which their teacher chose; none for auto before `for_model`."""
        if is_placeholder(self.digest or "") or (self.checkpoint == AUTO and self.digest is None):
            return ()
        provenance = _provenance(self._path(None))
        return tuple(dict.fromkeys([*provenance["selected_by"], *choosers(provenance["teacher"])]))

    def identity(self) -> dict[str, Any]:
        """The checkpoint's content in place of its name."""
        if self.digest is None:
            return super().identity()
        return {"digest": self.digest, "scale": self.scale, "version": self.version}


def _of_model(name: str) -> Path:
    names = known()
    found = names.get(name) or names.get(PUBLISHED_AS.get(name, name))
    if found is None:
        published = PUBLISHED_AS.get(name, name)
        source = (
            Published(PUBLISHED, "main", f"{published}.pth")
            if published in PUBLISHED_BYTES
            else Made(folder() / f"{name}.safetensors", "train one with `python -m npnet train`")
        )
        raise Lacking(
            f"npnet: no checkpoint for model {name!r}: put {name}.safetensors or {name}.pth into {tilde(folder())} (or "
            f"point NPNET_WEIGHTS at its folder), or name a file with checkpoint; published ones are at the hub's "
            f"{PUBLISHED}, and `python -m bench fetch` gets them",
            Need("method npnet", f"{published}.pth", source, PUBLISHED_BYTES.get(published)),
            None,
        )
    return found


def _of_digest(digest: str) -> Path:
    if digest in _places and _places[digest].is_file():
        return _places[digest]
    for path in known().values():
        if _provenance(path)["digest"].startswith(digest):
            return path
    raise UserError(f"npnet: no checkpoint of digest {digest[:12]} is known here; name its file with checkpoint")


def _provenance(path: Path) -> dict[str, Any]:
    stat = path.stat()
    provenance = _read(path, stat.st_mtime_ns, stat.st_size)
    _places[str(provenance["digest"])] = path
    return provenance


@cache
def _read(path: Path, changed: int, size: int) -> dict[str, Any]:
    """A checkpoint's provenance, read again when the file has changed."""
    from npnet.network.checkpoint import read_provenance

    return read_provenance(path)


def _network(digest: str, device: str) -> NPNet:
    """The network of a digest, loaded once a process and device."""
    if (digest, device) not in _networks:
        from npnet.network.model import NPNet

        path = _of_digest(digest)
        if not _provenance(path)["digest"].startswith(digest):
            raise UserError(f"npnet: {path} has changed since the run was planned; run it again")
        _networks[digest, device] = NPNet.from_pretrained(path).to(device)
    return _networks[digest, device]
