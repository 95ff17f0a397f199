"""What a gate says of a copy of a run whose scores have another processor's rounding, and some GenEval scores flipped.

    python tests/perf/gate_rounding.py RUN --flips 3 -- --baseline baselines/sdxl_main_twin.json --require shown ...

All but GenEval's scores move by up to 1e-5 of themselves, as another processor's rounding moves them; of GenEval's,
which are 0 or 1, so many become 0, chosen among all images. What follows `--` are the gate's own options.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDING = 1e-5
GENEVAL = "shapes-geneval"


def moved(ledger: Path, flips: int, seed: int) -> int:
    """Move the scores of a ledger; how many images GenEval judged."""
    chance = random.Random(seed)
    db = sqlite3.connect(ledger)
    judged = 0
    for table in ("scores", "pair_scores"):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        key = [name for name in columns if name not in ("value", "detail", "ms")]
        rows = db.execute(f"SELECT {', '.join(key)}, value FROM {table}").fetchall()
        exact = [row for row in rows if GENEVAL in row]
        right = [row for row in exact if row[-1] == 1]
        wrong = set(chance.sample(right, flips)) if right else set()
        judged += len(exact)
        for row in rows:
            value = 0.0 if row in wrong else row[-1]
            value *= 1 if GENEVAL in row else 1 + chance.uniform(-ROUNDING, ROUNDING)
            db.execute(f"UPDATE {table} SET value = ? WHERE {' AND '.join(f'{name} = ?' for name in key)}",
                       (value, *row[:-1]))  # fmt: skip
    db.commit()
    db.close()
    return judged


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--flips", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    ours, gate = sys.argv[1:], list[str]()
    if "--" in ours:
        at = ours.index("--")
        ours, gate = ours[:at], ours[at + 1 :]
    options = parser.parse_args(ours)
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / options.run.name
        shutil.copytree(options.run, copy)
        judged = moved(copy / "ledger.sqlite", options.flips, options.seed)
        for derived in ("SHA256SUMS", "results.json", "gate.json"):  # of the scores as they were
            (copy / derived).unlink(missing_ok=True)
        print(f"{options.flips} of GenEval's {judged} scores flipped to wrong", flush=True)
        return subprocess.run([sys.executable, "-m", "bench", "gate", str(copy), *gate]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
