"""Report and gate at scale: a made-up ledger of 100,000 images x 10 metrics, timed stage by stage.

    python tests/perf/scale.py [--prompts 5000] [--seeds 2] [--methods 10] [--folder DIR]

Scores are drawn: prompt difficulty shared by all methods, a seed's luck, and a small true gain that grows with the
method's number. Every stage runs in a process of its own; memory is the peak of that process, its imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

METRICS = ("pickscore", "hpsv2", "aesthetic", "imagereward", "clipscore", "mps")
TWINS = ("shapes-preference", "shapes-aesthetic", "shapes-clipscore", "shapes-geneval")
SETS = ("pick-a-pic", "drawbench", "hpd")
PROVENANCE = {"commit": "0" * 40, "dirty": False, "command": "tests/perf/scale.py", "packages": {}, "weights": {}}


def make(folder: Path, *, prompts: int, seeds: int, methods: int) -> int:
    """Write the ledger; returns its number of score rows."""
    from bench import registry, suite
    from bench.prompts.base import Prompt
    from bench.runner.score import prompt_key
    from bench.store import Image, Ledger

    labels = ["standard", *(f"method-{i}" for i in range(1, methods))]
    metrics = [*METRICS, *TWINS]
    text = f"""
name: scale
models: [sdxl]
prompts: [{", ".join(SETS)}]
samplers: [ddim]
steps: 50
guidance: 5.5
baseline: standard
seeds: {list(range(seeds))}
metrics: [{", ".join(metrics)}]
methods:
  - standard
"""
    given = suite.parse(text + "".join(f"  - {{use: reseed, name: {m}}}\n" for m in labels[1:]), file="scale")
    scorers = {m: registry.get("metrics", m).digest() for m in metrics}
    ledger = Ledger(folder, create=True)
    ledger.set("suite", given.model_dump(mode="json"))
    ledger.set("optimises", {name: {"sdxl": []} for name in labels})
    ledger.set("scorers", scorers)  # as a run's: a folder that is kept counts under later code too
    ledger.db.execute(
        "INSERT INTO sessions (started, provenance) VALUES (?, ?)", ("2026-01-01T00:00:00", json.dumps(PROVENANCE))
    )
    rng = np.random.default_rng(0)
    texts = [f"a picture number {p} of {SETS[p % len(SETS)]}" for p in range(prompts)]
    metadata = json.dumps({"tag": "single_object", "include": [{"class": "circle", "count": 1}]}, sort_keys=True)
    keys = [prompt_key(Prompt(0, t, "single_object", json.loads(metadata))) for t in texts]
    difficulty = rng.normal(size=(prompts, len(metrics)))
    cells, rows = [], 0
    for m, name in enumerate(labels):
        images, scores = [], []
        for p in range(prompts):
            values = difficulty[p] + rng.normal(scale=0.7, size=(seeds, len(metrics))) + 0.01 * m
            for seed in range(seeds):
                digest = f"{m:04x}{p:08x}{seed:04x}".ljust(64, "0")
                index = p // len(SETS)
                cells.append((name, "sdxl", SETS[p % len(SETS)], "ddim", 50, 5.5, index, seed,
                              texts[p], "single_object", metadata, digest[:32]))  # fmt: skip
                batch = 1 + 0.01 * ((p * seeds + seed) // 8 % 97)  # eight images share a batch's time
                images.append(Image(digest[:32], digest, f"images/{digest[:32]}.png", 0, 50, 5.0, float(m),
                                    4000 * batch, 90.0, 2**33, "cuda", 8, "none", digest, ""))  # fmt: skip
                for metric, value in zip(metrics, values[seed].tolist(), strict=True):
                    scores.append((digest, keys[p], metric, scorers[metric], value, "{}", 1.0))
        ledger.put_images(images)
        ledger.put_scores(scores)
        rows += len(scores)
    ledger.put_cells(cells)
    ledger.close()
    return rows


def stage(name: str, folder: Path) -> None:
    """One stage, timed from after its imports; prints JSON."""
    started = time.perf_counter()
    from bench.analysis.results import compute, write
    from bench.store import Ledger

    imported = time.perf_counter()
    results = (write if name == "report" else compute)(Ledger(folder))
    found = {"import": imported - started, "compute": time.perf_counter() - imported}
    if name == "report":
        from bench import report

        at = time.perf_counter()
        report.write(results, folder)
        found["write"] = time.perf_counter() - at
    if name == "gate":
        from bench import gate

        at = time.perf_counter()
        gate.check(results, [gate.Rule(metric="hpsv2", delta=-0.05), gate.Rule(metric="noise_ms", ratio=20.0)])
        found["check"] = time.perf_counter() - at
    found["cpu"] = time.process_time()
    found["seconds"] = time.perf_counter() - started
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["torch"] = "torch" in sys.modules
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="keep the ledger here; taken as it is if it is there")
    parser.add_argument("--stage", choices=["statistics", "report", "gate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        stage(options.stage, options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "scale"
        if not (folder / "ledger.sqlite").is_file():
            started = time.perf_counter()
            rows = make(folder, prompts=options.prompts, seeds=options.seeds, methods=options.methods)
            size = (folder / "ledger.sqlite").stat().st_size / 2**20
            print(f"made {rows:,} score rows in {time.perf_counter() - started:.0f} s, {size:.0f} MiB")
        for name in ("statistics", "report", "gate"):
            done = subprocess.run([sys.executable, __file__, "--stage", name, "--folder", str(folder)],
                                  check=True, capture_output=True, text=True)  # fmt: skip
            print(f"{name}: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
