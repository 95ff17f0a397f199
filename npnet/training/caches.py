"""What a training computes once and keeps: prompt embeddings, and the singular values of every source noise.

Both lie as safetensors files named after a digest of what they were computed from, in a folder that trainings may
share, and are memory-mapped. A file is written whole or not at all, so a killed computation resumes where it was.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import registry
from bench.errors import UserError
from bench.progress import Progress
from bench.store import full_disk_is_said, write_atomically
from npnet.pairs.mapped import Mapped, Rows, memory_mapped
from npnet.training.data import Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from bench.models.base import Family

BLOCK = 256
"""Prompts in one file of embeddings."""
ENCODED = 64
"""Prompts encoded, and latents decomposed, at once."""


@dataclass(frozen=True)
class World:
    """The processes of a training, as a cache needs them: each computes its shard, then all wait for all."""

    rank: int = 0
    size: int = 1
    wait: Callable[[], Any] = lambda: None
    say: Callable[[str], None] = print
    device: str = "cpu"


class Prompts:
    """Embeddings by prompt number, kept as rows or encoded when asked for; `prompts[ids]` is (n, T, W) on the CPU."""

    def __init__(self, shape: tuple[int, int], rows: Rows | Callable[[np.ndarray], Tensor]) -> None:
        self.shape, self._rows = shape, rows

    def __getitem__(self, ids: np.ndarray) -> Tensor:
        import torch

        return torch.from_numpy(self._rows[ids]) if isinstance(self._rows, Rows) else self._rows(ids)


def embeddings(pairs: Pairs, folder: Path, *, cached: bool, world: World) -> Prompts:
    """The prompt embeddings of all pairs, by the model that the pairs were made with.

    Not cached, they are encoded again for every batch, and the model stays loaded. Raises UserError where the model
    is another one by now, gives no finite embedding of one shape for every prompt, or the disk has no room for them.
    """
    if not cached:
        encode = _encoder(pairs, world.device)
        probe = encode([pairs.prompts[0]])
        return Prompts((probe.shape[1], probe.shape[2]), lambda ids: encode([pairs.prompts[i] for i in ids]))
    blocks = [pairs.prompts[i : i + BLOCK] for i in range(0, len(pairs.prompts), BLOCK)]
    paths = [folder / "embeddings" / f"{_digest(pairs.protocol.model_digest, *block)}.safetensors" for block in blocks]
    _encode_into(paths, blocks, pairs, folder, world)
    _release(world.device)
    parts = [memory_mapped(path)["prompt_embeds"] for path in paths]
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) != 1:
        raise UserError(f"model {pairs.protocol.model!r} gives embeddings of several shapes: {sorted(shapes)}")
    number = np.arange(len(pairs.prompts))
    tokens, width = shapes.pop()
    return Prompts((tokens, width), Rows(parts, number // BLOCK, number % BLOCK))


def _encode_into(
    paths: Sequence[Path], blocks: Sequence[Sequence[str]], pairs: Pairs, folder: Path, world: World
) -> None:
    """Write the blocks that are not there. The model is loaded at most in here, and nothing refers to it after."""
    encode = _encoder(pairs, world.device)
    missing = sum(len(block) for path, block in zip(paths, blocks, strict=True) if not _whole(path))
    if missing:
        needed = missing * encode([blocks[0][0]]).numpy().nbytes
        _check_room(needed, f"embeddings of {missing} prompts", folder / "embeddings", "cache_embeddings", world)

    def make(path: Path, block: Sequence[str]) -> None:
        made = np.concatenate([encode(list(block[i : i + ENCODED])).numpy() for i in range(0, len(block), ENCODED)])
        _write(path, {"prompt_embeds": made})

    _in_shards(f"encode prompts for {pairs.protocol.model}", list(zip(paths, blocks, strict=True)), make, world)


def _release(device: str) -> None:
    """Give back what the model took, the whole pipeline of it: a training needs the accelerator's memory itself."""
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _encoder(pairs: Pairs, device: str) -> Callable[[list[str]], Tensor]:
    """The model's encoder, loaded when it is first needed; its answers checked."""
    name = pairs.protocol.model
    loaded: list[Family] = []
    entry = registry.get("models", name)
    if entry.digest() != pairs.protocol.model_digest:
        raise UserError(
            f"the pairs were made with {name!r} of digest {pairs.protocol.model_digest}, the one here has "
            f"{entry.digest()}; its embeddings may differ: collect again, or install that version"
        )

    def encode(texts: list[str]) -> Tensor:
        import torch

        if not loaded:
            loaded.append(entry.load(device))
        with torch.no_grad():
            made = loaded[0].encode(texts).get("prompt_embeds")
        if made is None or made.ndim != 3 or len(made) != len(texts):
            shape = "none" if made is None else tuple(made.shape)
            raise UserError(
                f"model {name!r} gives no embedding a prompt (prompt_embeds: {shape} for {len(texts)} prompts, "
                "expected (prompts, tokens, width)); train with network: {text: none}"
            )
        # numpy has no bfloat16.
        made = made.detach().cpu()
        made = made if made.dtype in (torch.float16, torch.float32) else made.float()
        finite = torch.isfinite(made).flatten(1).all(1)
        if not finite.all():
            raise UserError(
                f"model {name!r} gives NaN or infinity for the prompt {texts[int(finite.int().argmin())]!r}"
            )
        return made.contiguous()

    return encode


def singular_values(pairs: Pairs, folder: Path, *, dtype: str, world: World) -> tuple[Rows, Rows, Rows]:
    """U (N, m, k), s (N, k) and Vh (N, k, n) of every source noise; U and Vh kept as `dtype`, s in fp32.

    One file a shard, named after the noise in it, so that trainings with other settings share it. Says the size on
    disk before it computes; UserError where the disk has no room for it.
    """
    groups = [(part, _used(pairs.source.parts[part], rows)) for part, rows in pairs.source.groups()]
    paths = {part: _svd_path(folder, pairs.source.parts[part], rows, dtype) for part, rows in groups}
    missing = sum(len(rows) for part, rows in groups if not _whole(paths[part]))
    if missing:
        one = _decomposed(np.zeros((1, *pairs.source.shape[1:]), np.float32), dtype, "cpu")
        needed = missing * sum(factor.nbytes for factor in one.values())
        _check_room(needed, f"singular values of {missing} source noises", folder / "svd", "cache_svd", world)

    def make(path: Path, part: int, rows: np.ndarray) -> None:
        _write(path, _decomposed(pairs.source.parts[part][rows], dtype, world.device))

    _in_shards("decompose source noise", [(paths[part], part, rows) for part, rows in groups], make, world)
    files = [memory_mapped(paths[part]) for part, _ in groups]
    place = {part: i for i, (part, _) in enumerate(groups)}
    part = np.array([place[p] for p in pairs.source.part.tolist()])
    row = np.empty(len(pairs), np.int64)
    for i, (_, rows) in enumerate(groups):
        row[part == i] = np.searchsorted(rows, pairs.source.row[part == i])
    u, s, vh = ([file[name] for file in files] for name in ("u", "s", "vh"))
    return Rows(u, part, row), Rows(s, part, row), Rows(vh, part, row)


def _used(shard: Mapped, rows: np.ndarray) -> np.ndarray:
    """The rows to decompose: all of a shard where half of it is used, so that other selections find them too."""
    return np.arange(len(shard)) if 2 * len(rows) >= len(shard) else rows


def _svd_path(folder: Path, shard: Mapped, rows: np.ndarray, dtype: str) -> Path:
    h = hashlib.sha256(f"{dtype} {shard.dtype} {shard.shape[1:]}\0".encode())
    for row in rows:
        h.update(shard[row].tobytes())
    return folder / "svd" / f"{h.hexdigest()[:32]}.safetensors"


def _decomposed(noise: np.ndarray, dtype: str, device: str) -> dict[str, np.ndarray]:
    import torch

    from npnet.network.model import decompose

    # Rows that no training uses may hold NaN, and the decomposition of a batch fails on it.
    latents = torch.nan_to_num(torch.from_numpy(noise).float(), posinf=0.0, neginf=0.0)
    made = [decompose(part.to(device)) for part in latents.split(ENCODED)]
    u, s, vh = (torch.cat(factor).cpu().numpy() for factor in zip(*made, strict=True))
    return {"u": u.astype(dtype), "s": s, "vh": vh.astype(dtype)}


def _check_room(needed: int, what: str, folder: Path, setting: str, world: World) -> None:
    """Say what will lie in `folder`, so many bytes; UserError where the disk has no room for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror or error}); give another cache folder") from error
    world.say(f"{what}: {size(needed)} in {folder}")
    if needed > free:
        raise UserError(
            f"{folder}: {size(needed)} for {what}, and {size(free)} are free; give another cache folder "
            f"(cache: DIR), or {setting}: false"
        )


def size(n: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def _in_shards(title: str, items: Sequence[tuple[Any, ...]], make: Callable[..., None], world: World) -> None:
    """Each process makes those of its share of `items`, which begin with their file, that are not there; all wait."""
    # Shared out before looking at the disk, where the other processes are already writing.
    own = [item for item in items[world.rank :: world.size] if not _whole(item[0])]
    with _shown(title, len(own), world) as advance:
        for item in own:
            make(*item)
            advance(1)
    world.wait()


@contextmanager
def _shown(title: str, count: int, world: World) -> Iterator[Callable[[int], None]]:
    if not count or world.rank:
        yield lambda _n: None
        return
    with Progress(title, count, "files") as progress:
        yield progress.advance


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _whole(path: Path) -> bool:
    try:
        return bool(memory_mapped(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return False


def _write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_is_said(path.parent):
            write_atomically(path, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); give another cache folder") from error
