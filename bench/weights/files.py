"""Weights by where they lie: a folder, a file, or a commit on the hub; pinned by what they are. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.digests import COMMIT, file_digest
from bench.errors import UserError
from bench.models.base import check_folder
from bench.needs.base import Need, Package, Source
from bench.needs.hub import HubFile, HubFolder
from bench.sampling.records import CONTROLNET, LORA, NETWORK, Weights

EXPECTED = (
    "expected a folder, a .safetensors file, or owner/name@COMMIT with :folder or :file.safetensors where they do not "
    "lie at the top"
)
_DECIDE = (".json", ".safetensors", ".bin")
_LORA_NAMES = ("lora_A", "lora_B", "lora_down", "lora_up", "lora.down", "lora.up", "lora_linear_layer")


def pin(reference: str, *, of: str, kind: str | None = None) -> Weights:
    """The weights that a reference names; `of` says in errors whose they are, `kind` is None where the files tell.

    UserError for a place that is not there or a hub id without its commit.
    """
    if reference.startswith((".", "/", "~")) or Path(reference).exists():
        return pin_local(Path(reference).expanduser().resolve(), of=of, kind=kind, given=reference)
    source, at, rest = reference.partition("@")
    revision, _, inside = rest.partition(":")
    if source.count("/") != 1 or not at:
        raise UserError(f"{of}: weights {reference!r}: no such place; {EXPECTED}")
    if not COMMIT.fullmatch(revision):
        raise UserError(
            f"{of}: weights {reference!r}: {revision!r} is no commit of 40 hex digits, and a branch or tag may move; "
            f"{EXPECTED}"
        )
    if inside.endswith(".safetensors"):
        folder, _, file = inside.rpartition("/")
        return pin_hub(source, revision, kind or (LORA if "lora" in file.lower() else NETWORK), folder or None, file)
    return pin_hub(source, revision, kind or NETWORK, inside or None, None)


def pin_hub(source: str, revision: str, kind: str, subfolder: str | None, file: str | None) -> Weights:
    """Weights of a hub commit: id, commit and place within are what they are."""
    inside = "/".join(part for part in (subfolder, file) if part)
    return Weights(source, kind, f"{source}@{revision}" + (f":{inside}" if inside else ""), revision, subfolder, file)


def pin_local(
    place: Path,
    *,
    of: str,
    kind: str | None = None,
    subfolder: str | None = None,
    file: str | None = None,
    given: str | None = None,
) -> Weights:
    """Weights of a folder or of a `.safetensors` file, by the digest of their content."""
    given = given or str(place)
    if place.is_file():
        place, file = place.parent, place.name
    folder = place / subfolder if subfolder else place
    if not folder.is_dir() or (file and not (folder / file).is_file()):
        raise UserError(f"{of}: weights {given!r}: no such folder or file; {EXPECTED}")
    check_folder(place)
    if file is None and subfolder is None and not (folder / "config.json").is_file():
        subfolder, file = _within(folder, of=of, given=given)
        folder = folder / subfolder if subfolder else folder
    if file is None:
        if not (folder / "config.json").is_file():
            raise UserError(f"{of}: weights {given!r}: no config.json there; expected a diffusers model folder")
        return Weights(str(place), kind or NETWORK, folder_digest(folder), None, subfolder)
    shapes(folder / file)
    found = kind or (LORA if is_lora(folder / file) else NETWORK)
    return Weights(str(place), found, file_digest(folder / file)[:32], None, subfolder, file)


def _within(folder: Path, *, of: str, given: str) -> tuple[str | None, str | None]:
    """(subfolder, file) of the weights in a folder that is no network's own: a pipeline's, or a LoRA's."""
    if (folder / "unet" / "config.json").is_file():
        return "unet", None
    files = sorted(p.name for p in folder.glob("*.safetensors"))
    if "pytorch_lora_weights.safetensors" in files:
        return None, "pytorch_lora_weights.safetensors"
    if len(files) == 1:
        return None, files[0]
    found = f"several weights there ({', '.join(files)}); name one" if files else f"no weights there; {EXPECTED}"
    raise UserError(f"{of}: weights {given!r}: {found}")


def needs(w: Weights, of: str, about_bytes: int | None = None) -> tuple[Need, ...]:
    """What of these weights must be on this machine, and where it comes from; none where they are a folder's."""
    packages = (Need(of, "peft", Package("peft", "peft")),) if w.kind == LORA else ()
    if w.revision is None:
        return packages
    what = "/".join(part for part in (w.source, w.subfolder, w.file) if part)
    source: Source
    if w.file:
        source = HubFile(w.source, w.revision, "/".join(part for part in (w.subfolder, w.file) if part))
    else:
        files = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
        source = HubFolder(w.source, w.revision, ("config.json",), files, w.subfolder or "")
    return (Need(of, what, source, about_bytes), *packages)


# Content ------------------------------------------------------------------------------------------------------------


def folder_digest(folder: Path) -> str:
    """32 hex digits over names and contents of the files of one network's folder, its card left out."""
    h = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _DECIDE and p.name != "card.json"):
        h.update(path.name.encode() + b"\0" + bytes.fromhex(file_digest(path)))
    return h.hexdigest()[:32]


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor name from the header of a `.safetensors` file; UserError where it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(100_000_000, path.stat().st_size):
                raise ValueError("its header has no length")
            header: dict[str, Any] = json.loads(file.read(length))
        return {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable .safetensors file ({error})") from error


def is_lora(path: Path) -> bool:
    """Whether a file holds low-rank updates, by its tensors' names."""
    return any(part in name for name in shapes(path) for part in _LORA_NAMES)


__all__ = ["CONTROLNET", "LORA", "NETWORK", "file_digest", "folder_digest", "is_lora", "pin", "pin_hub", "pin_local"]
