"""SDXL itself through its adapter, at true size: images made and scored by all the paper's metrics.

    python tests/perf/sdxl.py [--steps 1] [--size 256] [--metric hpsv2] [--folder DIR] [--threads 1] [--device cpu]

A pipeline folder of the published architecture with random weights in bf16 (7 GB), the scorers' checkpoint folders of
`true_sizes.py` (14 GB), a suite on them, and `python -m bench run` on the suite. It prints the seconds and the
peak memory of that command, the cost that the run measured, and the scores. What it makes is removed at the end,
unless `--folder` keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from npnet_forward import SDXL_UNET
from true_sizes import FOLDERS, checkpoint, small

PROMPT = "The red hat was on top of the brown coat rack."
"""One of T2I-CompBench's validation prompts, of the category that asks all its networks."""
METADATA = {"compbench": "complex", "tag": "single_object", "include": [{"class": "bench", "count": 1}]}
SUITE = """\
name: sdxl_true_size
models: [{{use: {model}, size: {size}, dtype: bf16}}]
prompts: ['file:{prompts}']
samplers: [ddim]
steps: {steps}
guidance: 5.5
seeds: [0]
baseline: standard
methods: [standard, reseed]
metrics:
{metrics}
"""
SCORES = """\
SELECT metric, GROUP_CONCAT(ROUND(value, 4), ' '), AVG(ms) FROM
  (SELECT metric, value, ms FROM scores UNION ALL SELECT metric, value, ms FROM pair_scores) GROUP BY metric
UNION ALL SELECT metric, 'features of ' || COUNT(*) || ' images', AVG(ms) FROM features GROUP BY metric
"""
TEXT = {"vocab_size": small.WORDS, "max_position_embeddings": small.LENGTH}
ENCODERS: dict[str, dict[str, Any]] = {
    "text_encoder": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "hidden_act": "quick_gelu", "projection_dim": 768, **TEXT,
    },
    "text_encoder_2": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
        "hidden_act": "gelu", "projection_dim": 1280, **TEXT,
    },
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def drawn(build: Any, generator: torch.Generator) -> Any:
    """A network in bf16 with random weights, scaled by what each reads, so that numbers stay finite."""
    with torch.device("meta"):
        network = build()
    network = network.to(torch.bfloat16).to_empty(device="cpu").eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1:
                value.normal_(0, (value[0].numel()) ** -0.5, generator=generator)
            else:
                value.fill_(float(name.endswith("weight")))
    return network


def pipeline(folder: Path) -> Path:
    """A folder of `StableDiffusionXLPipeline` with the published configurations, written unless it is there."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    if (folder / "model_index.json").exists():
        return folder
    generator = torch.Generator().manual_seed(0)
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    parts: dict[str, Any] = {}
    for name, config in ENCODERS.items():
        parts[name] = drawn(lambda kind=kinds[name], config=config: kind(CLIPTextConfig(**config)), generator)
    small.write_tokenizer(folder.with_name("words"))
    parts["tokenizer"] = parts["tokenizer_2"] = CLIPTokenizer.from_pretrained(folder.with_name("words"))
    parts["unet"] = drawn(lambda: UNet2DConditionModel(**SDXL_UNET), generator)
    parts["vae"] = drawn(lambda: AutoencoderKL(**VAE), generator)
    parts["scheduler"] = EulerDiscreteScheduler(**SCHEDULE)
    StableDiffusionXLPipeline(**parts).save_pretrained(folder)
    return folder


def reference(path: Path) -> Path:
    """FID's reference as clean-fid keeps statistics: a standard Gaussian of Inception's features."""
    import numpy as np

    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048))
    return path


def write_suite(folder: Path, metrics: Sequence[str], *, steps: int, size: int) -> Path:
    """The suite, its prompt and the checkpoints below a folder, by a process whose memory is given back."""
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (threads,)) as writer:
        return writer.submit(_written, folder, metrics, steps=steps, size=size).result()


def _written(folder: Path, metrics: Sequence[str], *, steps: int, size: int) -> Path:
    (folder / "words").mkdir(parents=True, exist_ok=True)
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": PROMPT, "metadata": METADATA}) + "\n")
    lines = []
    for metric in metrics:
        more = f", reference: {reference(folder / 'reference.npz')}" if metric == "fid" else ""
        lines.append(f"  - {{use: {metric}, checkpoint: {checkpoint(metric, folder)}{more}}}")
    given = {"model": pipeline(folder / "sdxl"), "prompts": folder / "prompts.jsonl", "steps": steps, "size": size}
    path = folder / "suite.yaml"
    path.write_text(SUITE.format(**given, metrics="\n".join(lines)))
    return path


@dataclass(frozen=True)
class Done:
    """What a run took and gave."""

    code: int
    seconds: float
    gib: float
    """Of its largest resident set."""
    said: str
    folder: Path

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of its ledger."""
        with sqlite3.connect(self.folder / "ledger.sqlite") as ledger:
            return ledger.execute(sql).fetchall()


def high_water(pid: int) -> float:
    """GiB of a running process's largest resident set until now, as Linux says it.

    What is known once it has ended would have this process's own memory in it, which the other began with.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 2**20 if found else 0.0


def run(suite: Path, *, device: str, threads: int) -> Done:
    """`python -m bench run` on the suite, in a process of its own and with a cache of its own."""
    runs = suite.parent / "runs"
    options = ["--device", device, "--threads", str(threads), "--batch-size", "1", "--runs", str(runs), "--no-cache"]
    command = [sys.executable, "-m", "bench", "run", str(suite), *options]
    inherited = {**os.environ, "BENCH_CACHE": str(suite.parent / "cache"), "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(command, env=inherited, stdout=said, stderr=subprocess.STDOUT, text=True)
        peak = 0.0
        while running.poll() is None:
            peak = max(peak, high_water(running.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        said.seek(0)
        text = said.read()
    folder = max(runs.iterdir(), default=runs) if runs.exists() else runs
    return Done(running.returncode, seconds, peak, text, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--metric", choices=FOLDERS, action="append", help="these metrics alone")
    parser.add_argument("--folder", type=Path, help="keep what is made there, and take what is there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as own:
        started = time.perf_counter()
        folder = (options.folder or Path(own)).resolve()
        suite = write_suite(folder, options.metric or tuple(FOLDERS), steps=options.steps, size=options.size)
        print(f"weights written in {time.perf_counter() - started:.0f} s", flush=True)
        done = run(suite, device=options.device, threads=options.threads)
        print(done.said)
        print(f"exit code {done.code}, {done.seconds:.0f} s, peak memory {done.gib:.1f} GiB")
        for file, sampling, decoding in done.query("SELECT file, sampling_ms, decode_ms FROM images"):
            kib = (done.folder / file).stat().st_size / 1024
            print(f"{file}: {kib:.0f} KiB, sampling {sampling / 1000:.1f} s, decoding {decoding / 1000:.1f} s")
        for metric, values, ms in done.query(SCORES):
            print(f"{metric}: {values}, {ms / 1000:.2f} s an image")


if __name__ == "__main__":
    main()
