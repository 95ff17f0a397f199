"""Models that are not in the catalogue: a pipeline folder, or a hub id with its commit. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from bench import registry
from bench.digests import COMMIT
from bench.errors import UserError, first_line
from bench.models.base import Family, ModelEntry, load_family
from bench.models.shapes_of import check_parts, factor, read_configs

FAMILIES = {
    "StableDiffusionPipeline": ("bench.models.sd:StableDiffusion", 7.5),
    "StableDiffusionXLPipeline": ("bench.models.sdxl:SDXL", 5.0),
    "HunyuanDiTPipeline": ("bench.models.hunyuan:HunyuanDiT", 5.0),
}
"""Adapter and usual guidance by pipeline class; packages add theirs as entry points of the group `bench.families`,
named after the class."""
STEPS = 50
GUIDANCE = 5.0
"""Of pipelines whose adapter comes from another package."""
EXPECTED = "a hub model is named with its commit: {source}@COMMIT (40 hex digits; the model's page lists its commits)"


def is_reference(name: str) -> bool:
    """Whether a model is named by a place rather than by a catalogue name."""
    return "/" in name or "\\" in name


def entry_of(reference: str) -> ModelEntry:
    """A catalogue row for `./folder`, an absolute path, or `owner/name@COMMIT`; only small config files are read.

    UserError where there is no pipeline, no adapter for its class, a hub id without its commit, or parts that do not
    fit one another.
    """
    if reference.startswith((".", "/", "~")) or Path(reference).exists():
        return _of_folder(reference)
    source, at, revision = reference.partition("@")
    if not at or source.count("/") != 1:
        raise UserError(f"model {reference!r}: no such folder, and {EXPECTED.format(source=source)}")
    if not COMMIT.fullmatch(revision):
        # A branch's images would be taken from the cache after it has moved.
        raise UserError(
            f"model {reference!r}: {revision!r} is no commit of 40 hex digits, and a branch or tag may move; "
            f"{EXPECTED.format(source=source)}"
        )
    return _of_hub(reference, source, revision)


def _of_folder(reference: str) -> ModelEntry:
    folder = Path(reference).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"model {reference!r}: no such folder")
    configs = read_configs(folder)
    family, adapter, guidance = _family(reference, configs["model_index"])
    return _entry(reference, str(folder), None, (adapter, guidance), _own_configs(family, configs))


def _of_hub(reference: str, source: str, revision: str) -> ModelEntry:
    """From the small config files of a hub model; the weights stay where they are."""
    from huggingface_hub import hf_hub_download

    def read(name: str) -> dict[str, Any]:
        try:
            value = json.loads(Path(hf_hub_download(source, name, revision=revision)).read_text())
            if not isinstance(value, dict):
                raise ValueError("expected a JSON object")
        except Exception as error:
            reason = first_line(error)
            raise UserError(f"model {reference!r}: its {name} cannot be read from the hub: {reason}") from error
        return value

    index = read("model_index.json")
    family, adapter, guidance = _family(reference, index)
    parts = {"vae": "config", "scheduler": "scheduler_config"} | dict.fromkeys(_networks(family), "config")
    configs = {part: read(f"{part}/{file}.json") for part, file in parts.items() if part in index}
    return _entry(reference, source, revision, (adapter, guidance), _own_configs(family, configs))


def _networks(family: type[Family]) -> tuple[str, ...]:
    """Under which names a pipeline of this family may have its denoiser."""
    name: str | None = getattr(family, "network_name", None)
    return (name,) if name else ("unet", "transformer")


class _Configs(NamedTuple):
    network: Mapping[str, Any]
    vae: Mapping[str, Any]
    scheduler: Mapping[str, Any]


def _own_configs(family: type[Family], configs: Mapping[str, Mapping[str, Any]]) -> _Configs:
    network = next((configs[name] for name in _networks(family) if name in configs), {})
    return _Configs(network, configs.get("vae", {}), configs.get("scheduler", {}))


def _entry(name: str, source: str, revision: str | None, made_by: tuple[str, float], configs: _Configs) -> ModelEntry:
    adapter, guidance = made_by
    channels, side = configs.network.get("in_channels"), configs.network.get("sample_size")
    if not isinstance(channels, int) or not isinstance(side, int):
        raise UserError(f"model {name!r}: its denoiser's config has no in_channels and sample_size as whole numbers")
    pixels = side * factor(configs.vae)
    found = ModelEntry(
        name=name,
        adapter=adapter,
        source=source,
        revision=revision,
        steps=STEPS,
        guidance=guidance,
        size=(pixels, pixels),
        latent=(channels, side, side),
    )
    check_parts(found, *configs)
    return found


def _family(name: str, index: Mapping[str, Any]) -> tuple[type[Family], str, float]:
    """(class, its place, usual guidance) of the adapter for the pipeline class that a model's index names."""
    kind = str(index.get("_class_name"))
    theirs = {point.name: point.value for point in entry_points(group="bench.families")}
    known = {**{other: (place, GUIDANCE) for other, place in theirs.items()}, **FAMILIES}
    if kind not in known:
        there = ", ".join(sorted(known))
        raise UserError(f"model {name!r}: no adapter for pipeline class {kind!r}; there are adapters for {there}")
    adapter, guidance = known[kind]
    try:
        return load_family(adapter), adapter, guidance
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model {name!r}: the adapter {adapter} for {kind} does not load: {said}") from error


registry.add_resolver("models", is_reference, entry_of)
