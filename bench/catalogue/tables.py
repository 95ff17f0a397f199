"""Every plugin's facts as Markdown: `python -m bench ls KIND --markdown` prints docs/catalogue/KIND.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import registry
from bench.job import preflight

PACKAGES = ("bench", "noisebench")
"""Whose plugins are listed: the project's own and its embedded world's, whatever else is installed."""
LICENCES = {
    "CompVis/stable-diffusion-v1-4": "creativeml-openrail-m",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
    "stabilityai/stable-diffusion-2-1": "openrail++",
    "stabilityai/stable-diffusion-xl-base-1.0": "openrail++",
    "Lykon/dreamshaper-xl-v2-turbo": "openrail++",
    "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": "tencent-hunyuan-community",
}
"""Of models' weights, as the hub's pages tag them; read them there before you use an image."""
Row = tuple[str, ...]


def page(kind: str) -> str:
    """The whole of docs/catalogue/KIND.md."""
    title, about, headers, row = PAGES[kind]
    names = [name for name in registry.names(kind) if registry.source(kind, name) in PACKAGES]
    rows = [row(name, registry.get(kind, name)) for name in names]
    made = f"Printed by `python -m bench ls {kind} --markdown`; a test holds it equal to the registry."
    return f"# {title}\n\n{made} {about}\n\n{table((kind.rstrip('s'), *headers), rows)}\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column is code."""
    cells = [headers, ["---"] * len(headers), *([f"`{row[0]}`", *row[1:]] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells)


def _method(name: str, method: Any) -> Row:
    needs = ", ".join(sorted(method.needs))
    shown = f"[page](../methods/{name}.md)"
    return name, method.about, method.source or "this project", method.cost, needs, shown


def _model(name: str, entry: Any) -> Row:
    height, width = entry.size
    run = f"{entry.steps} steps, guidance {entry.guidance:g}"
    ours = entry.folder is not None
    call = "" if entry.call_ms is None else f"{entry.call_ms:g} ms on {entry.call_ms_on}"
    licence = "Apache-2.0" if ours else LICENCES.get(entry.source, "see its page")
    twin = f"stands in for {', '.join(entry.twin_of)}" if entry.twin_of else registry.twin("models", name) or ""
    download = "shipped" if ours else _download(entry)
    return name, _place(entry), licence, f"{height}×{width}", run, download, call, twin


def _sampler(name: str, sampler: Any) -> Row:
    marks = {
        "stochastic": "draws noise",
        "memoryless": "no memory",
        "first_order": "DDIM's move",
        "takes_timesteps": "takes timesteps",
    }
    kinds = ", ".join(text for mark, text in marks.items() if getattr(sampler, mark))
    settings = ", ".join(f"{key}={value}" for key, value in sampler.settings.items() if not _off(key, value))
    calls = "/".join(str(sampler.calls(n)) for n in (10, 25, 50))
    return name, f"diffusers {sampler.scheduler}", settings, calls, kinds


def _prompts(name: str, entry: Any) -> Row:
    source = f"{entry.source}@{entry.revision[:12]}" if entry.revision else entry.source
    about = entry.about.split("; twin of ")[0]
    licence = entry.license or ("Apache-2.0" if registry.source("prompts", name) == "noisebench" else "")
    twin = f"stands in for {', '.join(entry.twin_of)}" if entry.twin_of else registry.twin("prompts", name) or ""
    download = _download(entry)
    return name, str(entry.size or ""), about, source, licence, download, twin


def _weights(name: str, entry: Any) -> Row:
    steps = ", ".join(map(str, entry.steps)) if entry.steps else "any"
    file = entry.file or entry.subfolder or ""
    return name, entry.method, entry.model, entry.kind, _place(entry), file, steps, entry.license or "see its page"


def _off(key: str, value: Any) -> bool:
    """Whether a scheduler's setting only says that another schedule is not used."""
    return key.startswith("use_") and value is False


def _download(entry: Any) -> str:
    total, unknown = preflight.size(entry.needs())
    return "of unknown size" if unknown and not total else preflight.amount(entry.needs()) or "nothing"


def _place(entry: Any) -> str:
    """A hub id at its commit; of a folder its name, for where it lies says nothing."""
    path = Path(entry.source)
    return path.name if path.is_absolute() else f"{entry.source}@{str(entry.revision)[:12]}"


PAGES: Mapping[str, tuple[str, str, tuple[str, ...], Callable[[str, Any], Row]]] = {
    "methods": (
        "Catalogue: methods",
        "N is the number of steps; a call is one guided denoiser call ([notation](../methods.md)).",
        ("in one line", "defined by", "added cost", "needs", "more"),
        _method,
    ),
    "models": (
        "Catalogue: models",
        "Each at a pinned commit. Any pipeline folder or `owner/name@COMMIT` whose class has an adapter works too "
        "([models](../models.md)). Licences are those of the weights.",
        ("weights", "licence", "pixels", "run with", "download", "one guided call", "embedded twin"),
        _model,
    ),
    "samplers": (
        "Catalogue: samplers",
        "Calls are those of 10, 25 and 50 steps; guidance doubles the rows of a call, not the calls. Some methods need "
        "a sampler without memory, or one that takes a list of timesteps. Schedules of other sigmas (Karras and so on) "
        "are off where none is named.",
        ("scheduler", "settings beside the model's", "calls", "kind"),
        _sampler,
    ),
    "prompts": (
        "Catalogue: prompt sets",
        "[Prompts](../prompts.md) says how each is read, and what a file of your own may have.",
        ("prompts", "what", "source", "licence", "download", "embedded twin"),
        _prompts,
    ),
    "weights": (
        "Catalogue: weights of methods",
        "Each at a pinned commit; `weights:` in a suite names others ([methods](../methods.md)).",
        ("method", "model", "kind", "source", "file", "steps", "licence"),
        _weights,
    ),
}
