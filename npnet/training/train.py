"""`npnet train`: learn the target noise from the source noise and the prompt (paper 3.2; PROTOCOL 1.6, training).

The defaults are the paper's: mean squared error to the target noise, AdamW at 1e-4 without a schedule, 30 epochs of
batches of 64, a tenth of the pairs for validation. Every ablation is a setting:

    network: {svd: false}            without the singular-value branch; likewise residual, attention, text: none
    selection: none                  without selection
    conditioning: first_of_batch     every pair of a batch gets the first one's prompt, as in the released code
    limit, epochs, batch             number of pairs, epochs, batch

`loop.py` is the training itself, `start.py` the network it begins with, `batches.py` and `caches.py` its data,
`losses.py` what it leaves behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.store import full_disk_is_said
from bench.store.cache import default_folder
from npnet.network import checkpoint
from npnet.network.checkpoint import Checkpoint
from npnet.pairs import dataset
from npnet.pairs.folders import locked
from npnet.training.caches import Prompts, World, embeddings, singular_values
from npnet.training.data import SPLIT, Chosen, Pairs, choose, gather, split
from npnet.training.settings import TrainConfig
from npnet.training.start import check_network, make_network, origin_of, reads_text

if TYPE_CHECKING:
    from npnet.network.model import NPNet


def run(
    config: TrainConfig,
    *,
    out: Path,
    start: Path | None = None,
    device: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train, or resume a killed training; a finished one is left as it is. Returns what the last line says.

    `out` gets best.safetensors, last.safetensors, losses.csv and losses.png, and holds state.pt to resume from.
    `start` is a checkpoint to fine-tune. Run under torchrun or accelerate launch, all processes share one training.
    Raises UserError for pairs, checkpoints and settings that do not fit.
    """
    from npnet.training.loop import Data, Loop
    from npnet.training.losses import summary_line

    accelerator = _accelerator(config, device)
    world = World(
        rank=accelerator.process_index,
        size=accelerator.num_processes,
        wait=accelerator.wait_for_everyone,
        say=say if accelerator.is_main_process else lambda _line: None,
        device=str(accelerator.device),
    )
    # One training a folder at a time; the first process locks it for all.
    busy = "another training runs there; wait for it, or give another --out"
    lock = locked(out, busy=busy, advice="give another --out") if world.rank == 0 else nullcontext()
    with lock, full_disk_is_said(out):
        base = checkpoint.read(start) if start is not None else None
        check_network(config.network, dataset.read_manifest(config.pairs[0]).latent, base)
        chosen = choose(config.pairs, config.selection)
        pairs = gather(chosen, limit=config.limit, seed=config.seed)
        training, validation = split(pairs, validation=config.validation, seed=config.seed)
        world.say(_summary(chosen, pairs, len(training), len(validation)))
        origin = origin_of(base)
        identity = {**config.record(), "pairs": pairs.digest, "from": origin, "split": SPLIT}
        if config.schedule == "constant":
            del identity["epochs"]
        loop = Loop(config, accelerator, out=out, identity=identity, world=world)
        state = loop.state()
        if state is not None and (state["epoch"] >= config.epochs and loop.complete()):
            world.say(f"{out}: finished before; nothing to do")
            return summary_line(state["rows"], out, pairs=len(pairs), say=world.say)
        prompts, svd, network = _prepared(config, pairs, base, world)
        loop.begin(network, Data(pairs, prompts, svd, training, validation), state)
        loop.provenance = provenance(config, chosen, pairs, origin, world.device, (len(training), len(validation)))
        return loop.train()


def _prepared(
    config: TrainConfig, pairs: Pairs, base: Checkpoint | None, world: World
) -> tuple[Prompts | None, Any, NPNet]:
    """Embeddings and singular values as far as the network reads them, and the network itself."""
    folder = config.cache or default_folder() / "npnet"
    prompts = None
    if reads_text(config.network, base):
        prompts = embeddings(pairs, folder, cached=config.cache_embeddings, world=world)
    network = make_network(config.network, pairs, prompts, base, seed=config.seed, say=world.say)
    svd = None
    if config.cache_svd and network.config.svd:
        svd = singular_values(pairs, folder, dtype=config.svd_dtype, world=world)
    return prompts, svd, network


def _accelerator(config: TrainConfig, device: str | None) -> Any:
    """The processes of this training, their devices and the precision."""
    from datetime import timedelta

    import torch
    from accelerate import (  # type: ignore[import-untyped,unused-ignore]
        Accelerator,
        DistributedDataParallelKwargs,
        InitProcessGroupKwargs,
    )

    from bench.runner.generate import choose_device

    asked = choose_device(device)
    if ":" in asked:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(f"--device {asked}: with several processes each takes its own; say cuda")
        torch.cuda.set_device(asked)
    on_gpu = asked != "cpu"
    bf16 = config.precision == "bf16" or (config.precision == "auto" and on_gpu and torch.cuda.is_bf16_supported())
    # One process waits for another's share of the caches, which for 100,000 pairs is longer than the default.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=6))
    return Accelerator(
        cpu=not on_gpu,
        mixed_precision="bf16" if bf16 else "no",
        kwargs_handlers=[patience, DistributedDataParallelKwargs()],
    )


def _summary(chosen: Sequence[Chosen], pairs: Pairs, training: int, validation: int) -> str:
    seen = sum(len(one.scores) for one in chosen)
    planned = sum(one.scores.protocol.pairs for one in chosen)
    kept = sum(len(one.places) for one in chosen)
    unfinished = f" ({planned - seen} of the planned {planned} are not collected yet)" if planned > seen else ""
    drawn = f", {len(pairs)} drawn" if len(pairs) < kept else ""
    return (
        f"{seen} pairs{unfinished}, {kept} kept by selection{drawn}: {training} to train on, {validation} of other "
        "prompts to validate on"
    )


def provenance(
    config: TrainConfig,
    chosen: Sequence[Chosen],
    pairs: Pairs,
    origin: Mapping[str, Any] | None,
    device: str,
    sides: tuple[int, int],
) -> dict[str, Any]:
    """Where the weights come from, as JSON: what reports and the `npnet` method read of a checkpoint."""
    from bench import __version__
    from bench import provenance as bench_provenance

    collections = [one.record() for one in chosen]
    teachers = [list(one["teacher"]) for one in collections]
    rules = [rule for one in collections for rule in one["rules"]]
    return {
        "model": pairs.protocol.model,
        "model_digest": pairs.protocol.model_digest,
        "teacher": teachers[0] if all(t == teachers[0] for t in teachers) else teachers,
        "collections": collections,
        "selected_by": sorted({*(rule["metric"] for rule in rules), *(origin["selected_by"] if origin else ())}),
        "thresholds": {rule["metric"]: rule["threshold"] for rule in rules},
        "pairs": {
            "seen": sum(one["seen"] for one in collections),
            "kept": sum(one["kept"] for one in collections),
            "used": len(pairs),
            "training": sides[0],
            "validation": sides[1],
            "digest": pairs.digest,
        },
        "from": dict(origin) if origin else None,
        "settings": config.record(),
        "git": bench_provenance.commit(),
        "versions": {"noisebench": __version__, **bench_provenance.packages()},
        "hardware": bench_provenance.hardware(device),
    }
