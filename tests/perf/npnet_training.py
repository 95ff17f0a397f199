"""Training steps a second with and without the two caches, on a synthetic collection of the embedded model.

    python tests/perf/npnet_training.py [--pairs 576] [--batch 64] [--rounds 2]
    python tests/perf/npnet_training.py --sdxl [--batch 4] [--steps 3]

A step without caches encodes the batch's prompts and decomposes its noise, as a plain loop does. Every variant
trains one epoch to warm up and two that count, from losses.csv, so validation and the written state are in it; the
variants take turns, and the fastest round of each is shown. No figure here is asserted.

--sdxl measures at SDXL's sizes, on a GPU where there is one: its two text encoders (in fp32 on the CPU, in fp16 on a
GPU), latents of 4 x 128 x 128 and the published network. The encoders' weights are random and nothing is downloaded:
speed does not depend on them. The variants take turns step by step on one network; the first turn warms up. No
validation is in it, and the few pairs' caches come from memory, where a large collection's may come from the disk.
On the CPU its seconds are processor time, summed over threads, which other programs move least; with
OMP_NUM_THREADS=1 they are what the clock shows on an idle machine. On a GPU they are the clock's.
"""

from __future__ import annotations

import argparse
import csv
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import registry
from bench.models.base import ModelEntry
from bench.models.sdxl import SDXL

if TYPE_CHECKING:
    from npnet.training.settings import TrainConfig

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
GOAL = 3.0
"""Times the steps a second of no cache, by both."""
TEXT_ENCODERS: tuple[dict[str, Any], dict[str, Any]] = (
    {
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "projection_dim": 768,
    },
    {
        "hidden_act": "gelu",
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_attention_heads": 20,
        "num_hidden_layers": 32,
        "projection_dim": 1280,
    },
)
"""text_encoder/config.json and text_encoder_2/config.json of SDXL 1.0: CLIP-L and OpenCLIP bigG."""
TOKENS, VOCABULARY = 77, 49408
"""Of both."""


class RandomText(SDXL):
    """SDXL's pipeline with text encoders of random weights, the embedded tokenizer, and no UNet or VAE.

    `encode` is the adapter's own: prompt_embeds (B, 77, 2048).
    """

    def __init__(self, entry: ModelEntry, device: str, dtype: str) -> None:
        self.entry, self.device, self.dtype, self.pipeline = entry, device, dtype, _text_pipeline(device)


@cache
def _text_pipeline(device: str) -> Any:
    """Made once for all variants, so that one copy of the weights (3.3 GB in fp32) is in memory."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    dtype = torch.float32 if device == "cpu" else torch.float16
    first, second = (
        kind(CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, **shape)).eval().to(device, dtype)
        for kind, shape in zip((CLIPTextModel, CLIPTextModelWithProjection), TEXT_ENCODERS, strict=True)
    )
    folder = Path(registry.get("models", "shapes-sdxl").source) / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)
    parts = {"vae": None, "unet": None, "scheduler": None}
    return StableDiffusionXLPipeline(
        text_encoder=first, text_encoder_2=second, tokenizer=tokenizer, tokenizer_2=tokenizer, **parts
    )


def collection(folder: Path, pairs: int, model: str = "shapes-sdxl") -> None:
    """Random noise of the model's latent shape, each pair with a caption of its own as far as there are some."""
    from npnet.pairs import dataset

    entry = registry.get("models", model)
    captions = [prompt.text for prompt in registry.get("prompts", "shapes-pickapic").read()]
    protocol = dataset.Protocol(
        model=model,
        model_digest=entry.digest(),
        latent=entry.latent,
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
        source = rng.standard_normal((len(members), *entry.latent))
        texts = tuple(captions[i % len(captions)] for i in members)
        shard = dataset.Shard(members, members, texts, source, 0.9 * source, {}, {})
        dataset.write_shard(folder, protocol, chunk, shard)


def settings(home: Path, network: dict[str, Any], caches: tuple[bool, bool], batch: int, **given: Any) -> TrainConfig:
    """A training on the collection in `home`; `caches` says whether embeddings and singular values are kept."""
    from npnet.training.settings import TrainConfig

    return TrainConfig(
        pairs=(home / "pairs",),
        selection=None,
        network=network,
        batch=batch,
        cache=home / "cache",
        cache_embeddings=caches[0],
        cache_svd=caches[1],
        **given,
    )


def rate(home: Path, out: Path, network: dict[str, Any], caches: tuple[bool, bool], batch: int) -> float:
    """Steps a second of the second and third epoch."""
    from npnet.training.train import run

    config = settings(home, network, caches, batch, epochs=3)
    run(config, out=out, device="cpu", say=lambda _line: None)
    with open(out / "losses.csv") as file:
        rows = list(csv.DictReader(file))
    steps, seconds = (float(rows[2][name]) - float(rows[0][name]) for name in ("steps", "seconds"))
    return steps / seconds


def at_sdxl(home: Path, batch: int, steps: int) -> list[str]:
    """Lines that say what a step costs at SDXL's sizes: `steps` of every variant, in turns."""
    import torch

    from bench.runner.generate import choose_device
    from npnet import NPNetConfig
    from npnet.network.model import decompose
    from npnet.training import train
    from npnet.training.caches import Team
    from npnet.training.data import choose, gather
    from npnet.training.loop import Data, Loop

    device = choose_device(None)
    entry = replace(
        registry.get("models", "sdxl"), name="sdxl-random", source="random", adapter=f"{__name__}:RandomText"
    )
    registry.add_plugin("models", entry.name, entry, "npnet_training")
    collection(home / "pairs", 2 * batch, entry.name)
    pairs = gather(choose((home / "pairs",), None), limit=None, seed=0)
    everything = np.arange(len(pairs))
    team = Team(device=device, say=lambda _line: None)
    data: dict[str, Data] = {}
    for name, caches in VARIANTS.items():
        config = settings(home, {}, caches, batch)
        prompts, svd, network = train._prepared(config, pairs, None, team)
        data[name] = Data(pairs, prompts, svd, everything, everything)
    assert network.config == NPNetConfig.sdxl()
    accelerator = train._accelerator(config, None)
    loop = Loop(config, accelerator, out=home / "out", identity={}, team=team)
    loop.begin(network, data["no cache"], None)

    clock = time.process_time if device == "cpu" else time.perf_counter

    def seconds(call: Callable[[], object]) -> float:
        started = clock()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - started

    def turn(ids: np.ndarray) -> dict[str, float]:
        """Seconds of a step of every variant on pairs `ids`, and of what the caches spare it."""
        found = {}
        for name, one in data.items():
            loop.data = one
            found[name] = seconds(partial(loop._step, ids))
        prompts, latents = data["no cache"].prompts, torch.from_numpy(pairs.source[ids]).to(device).float()
        assert prompts is not None
        found["encode"] = seconds(lambda: prompts[pairs.prompt[ids]].to(device))
        found["svd"] = seconds(lambda: decompose(latents))
        return found

    turns = [turn(np.roll(everything, k)[:batch]) for k in range(steps + 1)][1:]
    taken = {name: float(np.median([one[name] for one in turns])) for name in turns[0]}
    ratios = [one["no cache"] / one["both cached"] for one in turns]
    ratio = float(np.median(ratios))
    filling = (taken["encode"] + taken["svd"]) / config.epochs
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    peak = f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    if device != "cpu":
        peak += f", of the device {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
    return [
        f"SDXL, batch {batch}, {device} ({precision}, {torch.get_num_threads()} threads), median of {steps} turns",
        f"seconds a step{' (processor time)' if device == 'cpu' else ''}:",
        f"  encode the prompts                     {taken['encode']:8.3f}",
        f"  svd of the source noise                {taken['svd']:8.3f}",
        f"  network forward, backward, optimizer   {taken['both cached']:8.3f}  (the whole step with both cached)",
        "steps a second (against no cache):",
        *(f"  {name:<24}{1 / taken[name]:8.3f}  {taken['no cache'] / taken[name]:5.2f} x" for name in VARIANTS),
        f"Both caches make training {ratio:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f} over the turns); "
        f"the goal of {GOAL:g} times is {'reached' if ratio >= GOAL else 'missed'}.",
        f"With the time to fill them, spread over {config.epochs} epochs, it is "
        f"{taken['no cache'] / (taken['both cached'] + filling):.2f} times.",
        f"{peak}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=576)
    parser.add_argument("--batch", type=int, help="64, and 4 with --sdxl")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sdxl", action="store_true", help="at SDXL's sizes, with text encoders of random weights")
    parser.add_argument("--steps", type=int, default=3, help="with --sdxl: steps of every variant that count")
    options = parser.parse_args()
    if options.sdxl:
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(at_sdxl(Path(folder), options.batch or 4, options.steps)))
        return
    options.batch = options.batch or 64
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
