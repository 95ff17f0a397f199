"""Models that are not in the catalogue: a pipeline folder, or a hub id with its revision. Imports no torch."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.models.base import ModelEntry
from bench.models.shapes_of import factor, read_configs

FAMILIES = {
    "StableDiffusionPipeline": ("bench.models.sd:StableDiffusion", 7.5),
    "StableDiffusionXLPipeline": ("bench.models.sdxl:SDXL", 5.0),
    "HunyuanDiTPipeline": ("bench.models.hunyuan:HunyuanDiT", 5.0),
}
"""Adapter and usual guidance by pipeline class; packages add theirs as entry points of the group `bench.families`,
named after the class."""
STEPS = 50


def is_reference(name: str) -> bool:
    """Whether a model is named by a place rather than by a catalogue name."""
    return "/" in name or "\\" in name


def entry_of(reference: str) -> ModelEntry:
    """A catalogue row for `./folder`, an absolute path, or `owner/name@revision`.

    UserError where there is no pipeline, no adapter for its class, or a hub id without a revision.
    """
    if reference.startswith((".", "/", "~")) or Path(reference).exists():
        return _of_folder(reference)
    source, at, revision = reference.partition("@")
    if not at or not revision:
        raise UserError(
            f"model {reference!r}: no such folder, and a hub model is named with its revision: {reference}@REVISION "
            "(a commit of the repository)"
        )
    return _entry(reference, source, revision, _of_hub(source, revision))


def _of_folder(reference: str) -> ModelEntry:
    folder = Path(reference).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"model {reference!r}: no such folder")
    return _entry(reference, str(folder), None, read_configs(folder))


def _of_hub(source: str, revision: str) -> dict[str, dict[str, Any]]:
    """The small config files of a hub model; the weights stay where they are."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def read(name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(Path(hf_hub_download(source, name, revision=revision)).read_text())
        return value

    try:
        found = {"model_index": read("model_index.json")}
        for part, file in (("unet", "config"), ("transformer", "config"), ("vae", "config"),
                           ("scheduler", "scheduler_config")):  # fmt: skip
            if part in found["model_index"]:
                try:
                    found[part] = read(f"{part}/{file}.json")
                except EntryNotFoundError:
                    continue
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"model {source}@{revision}: its configuration cannot be read from the hub: {reason}"
        ) from error
    return found


def _entry(name: str, source: str, revision: str | None, configs: dict[str, dict[str, Any]]) -> ModelEntry:
    kind = str(configs["model_index"].get("_class_name"))
    adapter, guidance = _family(name, kind)
    network = configs.get("unet") or configs.get("transformer") or {}
    channels, side = network.get("in_channels"), network.get("sample_size")
    if not isinstance(channels, int) or not isinstance(side, int):
        raise UserError(f"model {name!r}: its denoiser's config has no in_channels and sample_size as whole numbers")
    pixels = side * factor(configs.get("vae", {}))
    return ModelEntry(
        name=name,
        adapter=adapter,
        source=source,
        revision=revision,
        steps=STEPS,
        guidance=guidance,
        size=(pixels, pixels),
        latent=(channels, side, side),
    )


def _family(name: str, kind: str) -> tuple[str, float]:
    if kind in FAMILIES:
        return FAMILIES[kind]
    found = {point.name: point.value for point in entry_points(group="bench.families")}
    if kind in found:
        return found[kind], 5.0
    known = ", ".join(sorted({*FAMILIES, *found}))
    raise UserError(f"model {name!r}: no adapter for pipeline class {kind!r}; there are adapters for {known}")


registry.add_resolver("models", is_reference, entry_of)
