"""Whether a catalogue row, a denoiser, an autoencoder and a scheduler fit one another. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.sampling.records import check_prediction

if TYPE_CHECKING:
    from bench.models.base import ModelEntry


def factor(vae: Mapping[str, Any]) -> int:
    """Pixels of a latent's side: an AutoencoderKL halves once less than it has blocks."""
    return 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1)


def check_parts(
    entry: ModelEntry, network: Mapping[str, Any], vae: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> None:
    """UserError where size, latent and networks do not fit one another; each argument is the part's own config."""
    name = f"model {entry.name!r}"
    check_prediction(scheduler, of=name)
    height, width = entry.size
    sides = factor(vae)
    if height % sides or width % sides:
        raise UserError(f"{name}: size {height}x{width} is no multiple of {sides}, its autoencoder's factor")
    expected = (network.get("in_channels", entry.latent[0]), height // sides, width // sides)
    if expected != entry.latent:
        raise UserError(
            f"{name}: images of {height}x{width} have latents {expected} by its networks, and its entry says "
            f"{entry.latent}; correct the entry's size or latent"
        )
    channels = vae.get("latent_channels", entry.latent[0])
    if channels != entry.latent[0]:
        raise UserError(
            f"{name}: its denoiser makes latents of {entry.latent[0]} channels and its autoencoder reads {channels}"
        )


def read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """Configs of a pipeline folder by part, and `model_index` itself; parts without a config are left out.

    UserError where the folder holds no diffusers pipeline.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(f"{folder}: no model_index.json there; expected a diffusers pipeline folder")
    found = {"model_index": read_config(index)}
    for part in found["model_index"]:
        for name in ("config.json", "scheduler_config.json"):
            path = folder / part / name
            if path.is_file():
                found[part] = read_config(path)
    return found


def read_config(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; UserError where it does not."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object")
    return value


def check_entry(entry: ModelEntry) -> None:
    """`check_parts` from the files of a model's folder, before anything is loaded; a hub id is checked when loaded."""
    if entry.folder is None:
        return
    configs = read_configs(entry.folder)
    name = getattr(entry.family(), "network_name", None)
    if name is None or name not in configs:
        return
    check_parts(entry, configs[name], configs.get("vae", {}), configs.get("scheduler", {}))
