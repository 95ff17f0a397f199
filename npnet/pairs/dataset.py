"""Noise pairs on disk: bounded safetensors shards under one manifest. Imports no torch.

A collection is a folder:

    manifest.json               the protocol that all pairs share, and how many pairs are planned
    pairs-000000.safetensors    pairs 0 to chunk-1; the number is the shard's place in the whole collection
    images/000000-source.png    only where the collection was asked to keep images

Pair k has its own number for ever: shards made by different processes merge by lying in one folder. A shard holds
`source` and `target` (n, C, h, w), `index` and `seed` (n,), and for every metric `score.NAME.source` and
`score.NAME.target` (n,); its metadata holds the prompts, the scorers' digests, the protocol's digest and the digest of
all of these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import UserError
from npnet.pairs.folders import failure_is_said, write_file

SCHEMA = 1
"""Of the manifest."""
SHARD_SCHEMA = 2
"""Of a shard; the digest in one of schema 1 covers the tensors alone."""
MANIFEST = "manifest.json"
SIDES = ("source", "target")


class Protocol(BaseModel):
    """All that decides the noise and the images of a collection's pairs. Scores may be added later: not in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    model_digest: str
    latent: tuple[int, int, int]
    sampler: str
    sampler_identity: str
    steps: int
    guidance: float
    teacher: tuple[dict[str, Any], ...]
    """The method chain that makes the target noise: {"use": name, **identity} a link."""
    prompts: str
    prompts_digest: str
    seeds: tuple[int, int]
    """Lowest and highest seed, both included."""
    pairs: int
    """How many pairs the whole collection plans."""
    chunk: int
    """Pairs a shard."""
    dtype: str = "float16"

    def digest(self) -> str:
        """16 hex digits over every field."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def chunks(self) -> int:
        """Number of shards of the whole collection."""
        return -(-self.pairs // self.chunk)

    def members(self, chunk: int) -> range:
        """Numbers of the pairs of a shard."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.pairs))


@dataclass(frozen=True)
class Shard:
    """Pairs in memory. `scores[metric]` is (n, 2): source, target."""

    index: np.ndarray
    seed: np.ndarray
    prompts: tuple[str, ...]
    source: np.ndarray
    target: np.ndarray
    scores: Mapping[str, np.ndarray]
    metric_digests: Mapping[str, str]
    calls: float | None = None
    """Denoiser calls a pair that both images and the target noise took, gradients included; None: not known."""

    def __len__(self) -> int:
        return len(self.index)


def shard_path(folder: Path, chunk: int) -> Path:
    """Where shard number `chunk` of a collection lies."""
    return folder / f"pairs-{chunk:06d}.safetensors"


def image_path(folder: Path, index: int, side: str) -> Path:
    """Where a kept image of pair `index` lies; `side` is source or target."""
    return folder / "images" / f"{index:06d}-{side}.png"


def write_manifest(folder: Path, protocol: Protocol) -> None:
    """Begin a collection, or check that the one in the folder is the same; UserError where it is not."""
    path = folder / MANIFEST
    if path.is_file():
        _same(folder, read_manifest(folder), protocol)
        return
    text = json.dumps({"schema": SCHEMA, "protocol": protocol.model_dump(mode="json")}, indent=1) + "\n"
    write_file(path, text.encode())


def read_manifest(folder: Path) -> Protocol:
    """The protocol of a collection; UserError where there is none or it cannot be read."""
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text())
        if not isinstance(data, dict):
            raise ValueError("no JSON object")
        if data["schema"] != SCHEMA:
            raise UserError(
                f"{path}: schema {data['schema']}, this version reads {SCHEMA}; use the version that wrote it"
            )
        return Protocol.model_validate(data["protocol"])
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder}: not a collection of noise pairs (no {MANIFEST}); make one with npnet collect"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a manifest of noise pairs ({_reason(error)}); put it back as npnet collect wrote it, or "
            "delete it and run the same npnet collect again, which keeps the shards"
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        one = error.errors()[0]
        return f"{'.'.join(map(str, one['loc'])) or 'its protocol'}: {one['msg']}"
    return f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]


def _same(folder: Path, found: Protocol, wanted: Protocol) -> None:
    if found.digest() == wanted.digest():
        return
    a, b = found.model_dump(mode="json"), wanted.model_dump(mode="json")
    differing = ", ".join(f"{k} {a[k]!r} there, {b[k]!r} here" for k in a if a[k] != b[k])
    raise UserError(f"{folder}: holds a collection of another protocol ({differing}); give another --out")


def write_shard(folder: Path, protocol: Protocol, chunk: int, shard: Shard) -> Path:
    """Write one shard beside its name and rename it, so that a file of that name is whole."""
    from safetensors.numpy import save

    tensors = {
        "source": shard.source.astype(protocol.dtype),
        "target": shard.target.astype(protocol.dtype),
        "index": shard.index.astype(np.int64),
        "seed": shard.seed.astype(np.int64),
    }
    for name, pair in shard.scores.items():
        for column, side in enumerate(SIDES):
            tensors[f"score.{name}.{side}"] = np.ascontiguousarray(pair[:, column], dtype=np.float32)
    metadata = {
        "schema": str(SHARD_SCHEMA),
        "protocol": protocol.digest(),
        "prompts": json.dumps(list(shard.prompts), ensure_ascii=False),
        "metrics": json.dumps(dict(shard.metric_digests), sort_keys=True),
    }
    if shard.calls is not None:
        metadata["calls"] = f"{shard.calls:g}"
    metadata["digest"] = _digest(tensors, metadata)
    path = shard_path(folder, chunk)
    write_file(path, _in_order(save(tensors, metadata)))
    return path


def read_shard(path: Path, protocol: Protocol) -> Shard:
    """One shard, checked: whole, of this protocol, as written, under its own name. UserError says what to do."""
    from safetensors import SafetensorError, safe_open

    again = "delete it and run the same npnet collect again, only its pairs are regenerated"
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except OSError as error:
        # A network disk that is away, too many open files, no permission: the pairs may well be whole.
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: not a whole shard ({str(error).splitlines()[0]}); {again}") from None
    schema = metadata.get("schema", "")
    if not schema.isdecimal() or not 1 <= int(schema) <= SHARD_SCHEMA:
        raise UserError(
            f"{path}: shard schema {schema!r}, this version reads 1 to {SHARD_SCHEMA}; use the version that wrote it"
        )
    if metadata.get("protocol") != protocol.digest():
        raise UserError(
            f"{path}: a shard of another collection (protocol {metadata.get('protocol')}, the manifest here says "
            f"{protocol.digest()}); move it to its own folder"
        )
    if metadata.get("digest") != _digest(tensors, metadata if schema != "1" else {}):
        raise UserError(f"{path}: its content is not what was written; {again}")
    _check_members(path, protocol, tensors["index"].tolist())
    try:
        prompts = tuple(json.loads(metadata["prompts"]))
        digests: dict[str, str] = json.loads(metadata["metrics"])
    except (KeyError, ValueError):  # of schema 1, where no digest covers them
        raise UserError(f"{path}: its content is not what was written; {again}") from None
    return Shard(
        index=tensors["index"],
        seed=tensors["seed"],
        prompts=prompts,
        source=tensors["source"],
        target=tensors["target"],
        scores={m: np.stack([tensors[f"score.{m}.{side}"] for side in SIDES], 1) for m in digests},
        metric_digests=digests,
        calls=float(metadata["calls"]) if "calls" in metadata else None,
    )


def _check_members(path: Path, protocol: Protocol, index: Sequence[int]) -> None:
    number = path.stem.removeprefix("pairs-")
    named = number.isdecimal() and path == shard_path(path.parent, int(number))
    own = protocol.members(int(number)) if named else range(0)
    if list(index) != list(own):
        content = f"pairs {index[0]} to {index[-1]}" if index else "no pairs"
        said = f"pairs {own[0]} to {own[-1]}" if own else "none of this collection"
        raise UserError(f"{path}: holds {content}, and its name says {said}; give it its own name again, or delete it")


def shards(folder: Path) -> list[Path]:
    """The shards that a collection has so far, in order."""
    return sorted(folder.glob("pairs-[0-9]*.safetensors"))


def read(folder: Path) -> tuple[Protocol, Iterator[Shard]]:
    """A collection's protocol, and its shards one after the other; UserError where there are none."""
    protocol = read_manifest(folder)
    paths = shards(folder)
    if not paths:
        raise UserError(f"{folder}: no pairs there yet; run npnet collect")
    return protocol, (read_shard(path, protocol) for path in paths)


def merge(sources: Sequence[Path], out: Path) -> int:
    """Copy the shards of several folders of one collection into `out`; returns how many shards it then has.

    A shard that two folders have must be the same in both. UserError for folders of different collections.
    """
    import shutil

    for folder in sources:
        protocol = read_manifest(folder)
        write_manifest(out, protocol)
        for path in shards(folder):
            read_shard(path, protocol)
            target = out / path.name
            if target.exists():
                if target.read_bytes() != path.read_bytes():
                    raise UserError(f"{path} and {target} differ; keep the one you trust and delete the other")
                continue
            write_file(target, path.read_bytes())
        if (folder / "images").is_dir() and folder.resolve() != out.resolve():
            with failure_is_said(out / "images"):
                unfinished = shutil.ignore_patterns(".*.tmp")
                shutil.copytree(folder / "images", out / "images", dirs_exist_ok=True, ignore=unfinished)
    return len(shards(out))


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """sha256 of the tensors, and of all metadata but the digest itself (schema 1 gives none)."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        h.update(f"{name} {array.dtype} {array.shape}\0".encode())
        h.update(array.tobytes())
    said = {name: text for name, text in metadata.items() if name != "digest"}
    if said:
        h.update(json.dumps(said, sort_keys=True).encode())
    return h.hexdigest()


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library shuffles it, and equal shards shall be equal files."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns what follows with spaces
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
