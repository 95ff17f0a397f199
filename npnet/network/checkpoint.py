"""Checkpoints of NPNet: our own files read and written, the published ones read (`published.py`).

Our own are safetensors. Tensors are named after the modules (`svd.`, `residual.`, `text.`, `alpha`, `beta`); the
metadata holds `npnet` (format version), `config` and `provenance` (JSON) and `digest`, sha256 over the sorted tensors'
names, dtypes, shapes and bytes, which is checked whenever the file is read.

Nothing here imports torch until tensors are read: `read_provenance` does without.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.errors import UserError
from npnet.network import published
from npnet.network.architecture import NPNetConfig
from npnet.network.header import Header, is_safetensors
from npnet.network.pickled import first_line
from npnet.network.published import first_names

if TYPE_CHECKING:
    from torch import Tensor

    from npnet.network.model import NPNet

FORMAT = "1"
"""Version of our own files; raised when an older reader would misread them."""
FILE = "npnet.safetensors"
"""Name of the file in a folder."""
PROVENANCE: dict[str, Any] = {"selected_by": [], "model": None, "teacher": None, "pairs": None, "git": None}
"""Keys that every provenance has, and what they are where nothing is known."""
_RESERVED = ("config", "digest", "format", "file")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: our names, fp32 on the CPU."""

    path: Path
    config: NPNetConfig
    tensors: dict[str, Tensor]
    provenance: dict[str, Any]
    digest: str
    published: bool = field(default=False)
    """Whether the configuration was inferred from a published file rather than read."""


def find(path: str | Path) -> Path:
    """The checkpoint file of a path: itself, or the one safetensors, else the one .pth file of a folder."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such checkpoint; expected a .pth or .safetensors file, or a folder with one")
    if (path / FILE).is_file():
        return path / FILE
    for pattern in ("*.safetensors", "*.pth"):
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            raise UserError(f"{path}: holds {', '.join(p.name for p in found)}; name one of them")
        if found:
            return found[0]
    raise UserError(f"{path}: holds no checkpoint; expected {FILE}, or one .safetensors or .pth file")


def read_provenance(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says of itself, read and its digest checked without torch.

    Keys: `config` (dict, None for a published file), `digest` (hex sha256, of the tensors for our own files and of
    the whole file for published ones), `format` ("npnet" or "published"), `file`, and the training provenance: at
    least `selected_by` (metric names), `model`, `teacher`, `pairs` and `git`. Raises UserError on a broken file.
    """
    path = find(path)
    data = _bytes(path)
    if not is_safetensors(data):
        # Whether a pickle holds a network is not known until it is read; its identity is.
        return _of_published(path, data)
    header = _header(path, data)
    if "npnet" not in header.metadata:
        return _of_published(path, data)
    config, provenance, digest = _own(path, header)
    shown = config.model_dump(mode="json")
    return {**provenance, "config": shown, "digest": digest, "format": "npnet", "file": path.name}


def read(path: str | Path) -> Checkpoint:
    """A checkpoint's tensors and what is said or inferred of them; UserError on a broken or foreign file."""
    path = find(path)
    data = _bytes(path)
    if not is_safetensors(data):
        return _from_published(path, data, published.read_pickle(path))
    import safetensors.torch

    header = _header(path, data)
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:  # SafetensorError has no public base, and a bad dtype is a KeyError
        raise UserError(
            f"{path}: not a readable safetensors file ({first_line(error)}); copy or make it again"
        ) from error
    if "npnet" not in header.metadata:
        return _from_published(path, data, tensors)
    config, provenance, digest = _own(path, header)
    return Checkpoint(path, config, _float(tensors), provenance, digest)


def load(
    source: str | Path | Checkpoint,
    *,
    config: NPNetConfig | None = None,
    attention: bool | None = None,
    prompt: tuple[int, int] | None = None,
) -> NPNet:
    """A network with the weights of a checkpoint, its path or as `read` gave it, on the CPU.

    `config` is the checkpoint's own unless given, and then the checkpoint must fit it. `attention` is the caller's
    word on attention in the singular-value branch, where the checkpoint was trained otherwise: False leaves its
    attention weights out, True adds fresh ones (for fine-tuning) where it has none. `prompt` (tokens, width) other
    than the checkpoint's gives it a fresh text layer, to fine-tune for another model. Raises UserError on a broken
    file, on keys and shapes that do not fit (named), on weights that are not finite, and on attention that differs
    without the caller's word.
    """
    from npnet.network.model import NPNet

    checkpoint = source if isinstance(source, Checkpoint) else read(source)
    own = checkpoint.config
    wanted = config or own
    if prompt is not None:
        wanted = NPNetConfig(**{**wanted.model_dump(), "prompt": prompt})
    if attention is not None:
        wanted = NPNetConfig(**{**wanted.model_dump(), "attention": attention})
    elif wanted.svd and own.svd and wanted.attention != own.attention:
        raise UserError(
            f"{checkpoint.path}: trained {_with(own.attention)} attention in its singular-value branch, and the "
            f"configuration asks for a network {_with(wanted.attention)} it; set attention={own.attention} in the "
            f"configuration, or say attention={wanted.attention} when loading if that is meant"
        )
    elif checkpoint.published and wanted.attention and published.untouched(checkpoint.tensors):
        warnings.warn(
            f"{checkpoint.path}: its attention weights look as if nothing ever trained them (the released training "
            "solver leaves attention out); it runs as the released inference code does, with attention; say "
            "attention=False to run it as it was trained, or attention=True to keep it without this warning",
            stacklevel=3,
        )
    network = NPNet(wanted)
    tensors = dict(checkpoint.tensors)
    present = network.state_dict()
    if attention is False:
        tensors = {k: v for k, v in tensors.items() if not k.startswith("svd.attention.")}
    if attention is True and not own.attention:
        tensors.update({k: v for k, v in present.items() if k.startswith("svd.attention.")})
    if prompt is not None and prompt != own.prompt:
        for key in present:
            if key.startswith(("text.", "residual.prompt.")):
                tensors[key] = present[key]
    _check_fit(checkpoint.path, tensors, present)
    _check_finite(checkpoint.path, tensors)
    network.load_state_dict(tensors)
    network.provenance = dict(checkpoint.provenance)
    return network.eval()


def save(network: NPNet, path: str | Path, *, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a network to a `.safetensors` file, or as `npnet.safetensors` into a folder; atomic. Returns the file.

    `provenance` is JSON and replaces the network's own. Raises UserError where the place cannot be written to or
    a weight is not finite.
    """
    import safetensors.torch
    import torch

    from bench.store import write_atomically

    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / FILE
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{file}: not written, {name} holds NaN or infinity; the training that made it diverged")
    record = {**PROVENANCE, **(network.provenance if provenance is None else provenance)}
    record = {k: v for k, v in record.items() if k not in _RESERVED}
    plain = Header.parse(safetensors.torch.save(tensors))
    metadata = {
        "npnet": FORMAT,
        "format": "pt",
        "config": network.config.model_dump_json(),
        "provenance": json.dumps(record, sort_keys=True),
        "digest": plain.digest(),
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, safetensors.torch.save(tensors, metadata))
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror or error}); name another place") from error
    return file


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _header(path: Path, data: bytes) -> Header:
    try:
        return Header.parse(data)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{path}: truncated or not a safetensors file ({first_line(error)}); copy or make it again"
        ) from error


def _own(path: Path, header: Header) -> tuple[NPNetConfig, dict[str, Any], str]:
    """Configuration, provenance and digest of one of our files, the digest checked against the tensors."""
    said = header.metadata
    if said["npnet"] != FORMAT:
        raise UserError(f"{path}: format {said['npnet']}, and this version reads {FORMAT}; upgrade, or convert again")
    try:
        config = NPNetConfig.model_validate_json(said["config"])
        provenance = {**PROVENANCE, **json.loads(said["provenance"])}
        expected = said["digest"]
    except UserError as error:
        raise UserError(f"{path}: {error}; it was written by another version: upgrade, or convert it again") from error
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its metadata cannot be read ({first_line(error)}); copy or make it again") from error
    digest = header.digest()
    if digest != expected:
        raise UserError(f"{path}: corrupt (digest {digest[:12]}, expected {expected[:12]}); copy or make it again")
    return config, provenance, digest


def _of_published(path: Path, data: bytes) -> dict[str, Any]:
    """A published file's provenance, without its tensors."""
    record = {**PROVENANCE, **published.identity(path, data)}
    return {**record, "config": None, "format": "published", "file": path.name}


def _from_published(path: Path, data: bytes, tensors: Mapping[str, Tensor]) -> Checkpoint:
    config, renamed = published.translated(path, tensors)
    known = {**PROVENANCE, **published.identity(path, data)}
    digest = known.pop("digest")
    known["source"] = {"file": path.name, "sha256": digest}
    return Checkpoint(path, config, _float(renamed), known, digest, published=True)


def _float(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _check_fit(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = [k for k in expected if k not in tensors]
    unexpected = [k for k in tensors if k not in expected]
    differing = [
        f"{k} {tuple(v.shape)} for {tuple(expected[k].shape)}"
        for k, v in tensors.items()
        if k in expected and v.shape != expected[k].shape
    ]
    parts = [
        f"{what}: {first_names(sorted(names))}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("other shapes", differing))
        if names
    ]
    if parts:
        raise UserError(
            f"{path}: does not fit the configuration; {'; '.join(parts)}; give the configuration it was trained with"
        )


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(
            f"{path}: NaN or infinity in {first_names(sorted(broken))}, so every answer would be; get it again, or "
            "train it again with a lower learning_rate"
        )


def _with(attention: bool) -> str:
    return "with" if attention else "without"
