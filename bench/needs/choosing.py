"""Which of a repository's files are wanted, by name alone: as transformers and diffusers choose when they load."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""How files of weights begin that diffusers and transformers write."""
_FORMS = ("safetensors", "bin")


def of_folder(
    names: Sequence[str], patterns: Sequence[str], weights: Sequence[str] = (), subfolder: str = ""
) -> list[str]:
    """A model's folder: its small files by pattern, and the first of the files of weights that is there, or its shards.

    Empty where a part is not there.
    """
    prefix = f"{subfolder}/" if subfolder else ""
    inside = [n.removeprefix(prefix) for n in names if n.startswith(prefix)]
    inside = [n for n in inside if "/" not in n]
    small = [n for n in inside if any(fnmatch.fnmatch(n, p) for p in patterns) and not n.endswith(".index.json")]
    found: list[str] = next(filter(None, (_whole(inside, *one.rsplit(".", 1)) for one in weights)), [])
    if not small or (weights and not found):
        return []
    return [prefix + n for n in dict.fromkeys((*small, *found))]


def of_pipeline(names: Sequence[str], index: Mapping[str, Any], variant: str | None) -> list[str]:
    """A diffusers pipeline: the parts that its index names, each with its settings and one form of its weights.

    Safetensors where every network has them, as diffusers chooses, and the variant where a network has it. Empty where
    a part is not whole.
    """
    parts = [k for k, v in index.items() if isinstance(v, list) and v and v[0] is not None]
    inside = {part: [n.split("/", 1)[1] for n in names if n.startswith(f"{part}/")] for part in parts}
    if not parts or not all(inside.values()):
        return []
    networks = [part for part in parts if "config.json" in inside[part]]
    forms = ({part: _form(inside[part], form, variant) for part in networks} for form in _FORMS)
    chosen = next((form for form in forms if all(form.values())), None)
    if chosen is None:
        return []
    files = {part: ["config.json", *chosen[part]] if part in chosen else inside[part] for part in parts}
    return ["model_index.json", *(f"{part}/{n}" for part in parts for n in files[part])]


def _form(names: Sequence[str], form: str, variant: str | None) -> list[str]:
    """A network's files of weights of one form, of the variant where it is there."""
    tried = (_whole(names, stem, form, of) for of in dict.fromkeys((variant, None)) for stem in _STEMS)
    return next(filter(None, tried), [])


def _whole(names: Sequence[str], stem: str, form: str, variant: str | None = None) -> list[str]:
    """A file, or its shards with their index; nothing where neither is whole."""
    of = f".{variant}" if variant else ""
    if f"{stem}{of}.{form}" in names:
        return [f"{stem}{of}.{form}"]
    shard = re.compile(rf"{re.escape(stem + of)}-\d{{5}}-of-(\d{{5}})\.{form}")
    shards = [found for n in names if (found := shard.fullmatch(n))]
    index = f"{stem}.{form}.index{of}.json"
    if index not in names or not shards or len(shards) != int(shards[0][1]):
        return []
    return [index, *(found[0] for found in shards)]
