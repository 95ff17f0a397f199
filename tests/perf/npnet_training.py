"""Training steps a second with and without the two caches, on a synthetic collection of the embedded model.

    python tests/perf/npnet_training.py [--pairs 576] [--batch 64] [--rounds 2]

A step without caches encodes the batch's prompts and decomposes its noise, as a plain loop does. Every variant
trains one epoch to warm up and two that count, from losses.csv, so validation and the written state are in it; the
variants take turns, and the fastest round of each is shown. No figure here is asserted.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

NETWORKS: dict[str, dict[str, Any]] = {
    "small network (all branches)": {},
    "singular values and text (residual: false)": {"residual": False},
}
VARIANTS = {
    "no cache": (False, False),
    "embeddings cached": (True, False),
    "singular values cached": (False, True),
    "both cached": (True, True),
}


def collection(folder: Path, pairs: int) -> None:
    """Random noise of 4 x 8 x 8, each pair with a caption of its own as far as there are some."""
    from bench import registry
    from npnet import dataset

    captions = [prompt.text for prompt in registry.get("prompts", "shapes-pickapic").read()]
    protocol = dataset.Protocol(
        model="shapes-sdxl",
        model_digest=registry.get("models", "shapes-sdxl").digest(),
        latent=(4, 8, 8),
        sampler="none",
        sampler_identity="none",
        steps=1,
        guidance=1.0,
        teacher=(),
        prompts="shapes-pickapic",
        prompts_digest="",
        seeds=(0, 0),
        pairs=pairs,
        chunk=256,
    )
    dataset.write_manifest(folder, protocol)
    rng = np.random.default_rng(0)
    for chunk in range(protocol.chunks):
        members = np.array(protocol.members(chunk))
        source = rng.standard_normal((len(members), 4, 8, 8))
        texts = tuple(captions[i % len(captions)] for i in members)
        shard = dataset.Shard(members, members, texts, source, 0.9 * source, {}, {})
        dataset.write_shard(folder, protocol, chunk, shard)


def rate(home: Path, out: Path, network: dict[str, Any], caches: tuple[bool, bool], batch: int) -> float:
    """Steps a second of the second and third epoch."""
    from npnet.settings import TrainConfig
    from npnet.train import run

    config = TrainConfig(
        pairs=(home / "pairs",),
        selection=None,
        network=network,
        epochs=3,
        batch=batch,
        cache=home / "cache",
        cache_embeddings=caches[0],
        cache_svd=caches[1],
    )
    run(config, out=out, device="cpu", say=lambda _line: None)
    with open(out / "losses.csv") as file:
        rows = list(csv.DictReader(file))
    steps, seconds = (float(rows[2][name]) - float(rows[0][name]) for name in ("steps", "seconds"))
    return steps / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=576)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    import torch

    lines = [f"batch {options.batch}, {torch.get_num_threads()} threads, steps a second (against no cache)"]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        collection(home / "pairs", options.pairs)
        for title, network in NETWORKS.items():
            found: dict[str, float] = {}
            for turn in range(options.rounds):
                for name, caches in VARIANTS.items():
                    out = home / f"{title} {name} {turn}"
                    found[name] = max(found.get(name, 0.0), rate(home, out, network, caches, options.batch))
            lines.append(f"{title}:")
            lines += [f"  {name:<24}{v:8.2f}  {v / found['no cache']:5.2f} x" for name, v in found.items()]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
