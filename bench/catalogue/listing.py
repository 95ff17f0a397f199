"""What `ls` and `doctor` print."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.needs.base import Need, Nothing
from bench.runner.executors import ray

OPTIONAL = {
    "pandas": "bench export",
    "pyarrow": "bench export",
    "matplotlib": "figures as files",
    "open_clip": "scorers of real models",
    "cleanfid": "FID",
    "sentencepiece": "prompts of hunyuan-dit",
}


def lines(kind: str | None) -> Iterator[str]:
    """Names with one line each, by kind."""
    for k in (kind,) if kind else registry.KINDS:
        yield f"{k}:"
        for name in registry.names(k):
            try:
                plugin = registry.get(k, name)
                about = _about(k, plugin)
            except UserError as error:
                about = f"broken: {error}"
            source = registry.source(k, name)
            yield f"  {name:28} {about}{'' if source == 'bench' else f'  [{source}]'}"


def catalogue(kind: str | None) -> list[dict[str, Any]]:
    """Every plugin of a kind, or of all, as a JSON object; each has the same keys, empty where they do not apply.

    `built` is whether it can be used here: false for a metric without a scorer and for a plugin that does not load.
    `twin` is the embedded stand-in, `twin_of` what it stands in for, `package` the distribution that it comes from.
    """
    return [_entry(k, name) for k in ((kind,) if kind else registry.KINDS) for name in registry.names(k)]


def _entry(kind: str, name: str) -> dict[str, Any]:
    row = {
        "kind": kind,
        "name": name,
        "about": "",
        "source": "",
        "license": "",
        "cost": "",
        "needs": [],
        "built": True,
    }
    row |= {"twin": None, "twin_of": [], "package": registry.source(kind, name)}
    try:
        plugin = registry.get(kind, name)
    except UserError as error:
        return row | {"about": str(error), "built": False}
    twin = registry.twin(kind, name)
    row |= {"twin": twin if twin != name else None, "twin_of": list(getattr(plugin, "twin_of", ()))}
    about = plugin.about if kind in ("methods", "metrics", "prompts", "weights") else _about(kind, plugin)
    return row | {"about": about.split("; twin of ")[0]} | _facts(kind, plugin)


def _facts(kind: str, plugin: Any) -> dict[str, Any]:
    """What only some kinds can say."""
    if kind == "methods":
        return {"source": plugin.source, "cost": plugin.cost, "needs": sorted(plugin.needs)}
    if kind == "samplers":
        return {"source": f"diffusers {plugin.scheduler}", "cost": f"{plugin.calls(50)} calls at 50 steps"}
    if kind == "prompts":
        source = f"{plugin.source}@{plugin.revision}" if plugin.revision else plugin.source
        return {"source": source, "license": plugin.license}
    if kind == "metrics":
        needs = ["prompt metadata"] if plugin.needs_metadata else []
        return {"license": plugin.license, "needs": needs, "built": plugin.load is not None or plugin.partial}
    place = Path(plugin.source)
    # A folder's place says something about this machine and nothing about the weights.
    where = place.name if place.is_absolute() else f"{plugin.source}@{plugin.revision}"
    return {"source": where}


def _about(kind: str, plugin: Any) -> str:
    twin = f"; twin of {', '.join(plugin.twin_of)}" if getattr(plugin, "twin_of", ()) else ""
    if kind == "models":
        height, width = plugin.size
        return f"{height}x{width}, {plugin.steps} steps, guidance {plugin.guidance:g}{twin}"
    if kind == "samplers":
        return f"{plugin.scheduler}, {plugin.calls(50)} calls at 50 steps" + (
            ", stochastic" if plugin.stochastic else ""
        )
    if kind == "prompts":
        counted = [f"{plugin.size} prompts"] if plugin.size else []
        license = f"licence {plugin.license}" if plugin.license else ""
        return "; ".join([*counted, *filter(None, [plugin.about, license])]) + twin
    return f"{plugin.about}{twin}"


def doctor() -> Iterator[str]:
    """One line a fact, each beginning with ok, missing or note."""
    yield f"ok       {os.cpu_count()} CPU cores, {shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB free here"
    for package in ("torch", "diffusers", "transformers"):
        try:
            yield f"ok       {package} {version(package)}"
        except PackageNotFoundError:
            yield f"missing  {package}: pip install {package}"
    if importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            yield f"ok       {torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        else:
            yield "note     no CUDA device: the embedded world runs (--twin), real models do not in reasonable time"
    yield from ray.seen()
    for module, use in OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield f"missing  {module}: needed for {use} only"
    yield from _models()
    yield from _missing("prompts", "prompt sets", _prompts(), _OF_A_SUITE)
    yield from _metrics()
    unbuilt = [m for m in registry.names("metrics") if registry.get("metrics", m).load is None]
    if unbuilt:
        yield f"note     metrics without a scorer yet: {', '.join(unbuilt)}"


_OF_A_SUITE = "`python -m bench fetch suites/sdxl_main.yaml` gets what that suite needs"


def _away(needs: Iterable[Need]) -> list[Need]:
    return [need for need in needs if not need.source.here()]


def _missing(one: str, many: str, away: Mapping[str, Sequence[Need]], how: str) -> Iterator[str]:
    """One line for all that `fetch` gets, which `plan` lists with addresses, and one for each thing that it does not.

    `one` and `many` are what such things are called, `how` the command.
    """
    fetched = [name for name, needs in away.items() if any(not need.source.command for need in needs)]
    if fetched:
        yield f"missing  {len(fetched)} {many}: {', '.join(fetched)}: {how}"
    for name, needs in away.items():
        for need in needs:
            if need.source.command:
                yield f"missing  {one} {name}: {need.what}: {need.source.command}"


def _prompts() -> dict[str, list[Need]]:
    """What is missing, by set; those that are here are read, and one that cannot be is missing too."""
    found: dict[str, list[Need]] = {}
    for name in registry.names("prompts"):
        try:
            entry = registry.get("prompts", name)
            if away := _away(entry.needs()):
                found[name] = away
            else:
                entry.read()
        except UserError as error:
            found[name] = [Need(f"prompts {name}", name, Nothing(str(error)))]
    return found


def _metrics() -> Iterator[str]:
    away: dict[str, list[Need]] = {}
    for name in registry.names("metrics"):
        entry = registry.get("metrics", name)
        if entry.load is None or not entry.needs():
            continue
        if lacking := _away(entry.needs()):
            away[name] = lacking
        else:
            yield f"ok       metric {name}: on this machine"
    first = next((name for name, needs in away.items() if all(not need.source.command for need in needs)), "NAME")
    yield from _missing("metric", "metrics", away, f"`python -m bench fetch --metric {first}` gets what it needs")


def _models() -> Iterator[str]:
    from bench.models.base import check_folder

    away: dict[str, list[Need]] = {}
    for name in registry.names("models"):
        entry = registry.get("models", name)
        if entry.folder is None:
            if lacking := _away(entry.needs()):
                away[name] = lacking
            else:
                yield f"ok       model {name}: on this machine"
            continue
        try:
            check_folder(entry.folder)
            yield f"ok       model {name}: weights are whole (digest {entry.digest()})"
        except UserError as error:
            yield f"missing  model {name}: {error}"
    yield from _missing("model", "models", away, _OF_A_SUITE)
