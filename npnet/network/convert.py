"""`convert`: a published checkpoint, or one of our own, into our safetensors, checked by reading it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from npnet import NPNetConfig
from npnet.network.checkpoint import FILE, find, load, read, save


@dataclass(frozen=True)
class Converted:
    """What was written."""

    source: Path
    target: Path
    config: NPNetConfig
    digest: str
    """sha256 of the tensors, as `npnet.network.checkpoint.read_provenance` gives it."""
    tensors: int
    parameters: int
    bytes: int

    def __str__(self) -> str:
        config = self.config
        parts = [part for part in ("svd", "attention", "residual") if getattr(config, part)]
        return (
            f"{self.source} -> {self.target}: {self.parameters:,} parameters in {self.tensors} tensors, "
            f"{self.bytes / 1e6:.1f} MB, digest {self.digest[:12]}, latents {config.latent}, prompt {config.prompt}, "
            f"text {config.text}, {', '.join(parts) or 'no branch'}"
        )


def convert(
    source: Path,
    target: Path,
    *,
    config: NPNetConfig | None = None,
    attention: bool | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Converted:
    """Write `source` as `target` (a `.safetensors` file or a folder) and read it back.

    `config` is the source's own unless given; `attention` is as in `npnet.network.checkpoint.load`. `provenance` is
    added to what the source brings (for a published file: its name and sha256, and that HPSv2 selected its pairs).
    Raises UserError where the source is broken or does not fit, or where the target is the source or a `.pth`.
    """
    source, target = find(source), Path(target)
    if target.suffix == ".pth":
        raise UserError(f"{target}: convert writes safetensors; name a .safetensors file, or a folder")
    file = target if target.suffix == ".safetensors" else target / FILE
    if file.exists() and file.samefile(source):
        raise UserError(f"{source}: source and target are the same file; name another target")
    network = load(source, config=config, attention=attention)
    save(network, file, provenance={**network.provenance, **(provenance or {})})
    written = read(file)
    return Converted(
        source=source,
        target=file,
        config=written.config,
        digest=written.digest,
        tensors=len(written.tensors),
        parameters=sum(p.numel() for p in network.parameters()),
        bytes=file.stat().st_size,
    )
