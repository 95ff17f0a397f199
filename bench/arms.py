"""The ledger's rows as arms: one method under one protocol, with its images, scores and costs by pair."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt
from bench.score import prompt_key
from bench.store import Image, Ledger
from bench.suite import EVERY_PROMPT_SET, Suite

POOLED = EVERY_PROMPT_SET
"""Stands for all prompt sets together."""

Setting = tuple[str, str, int, float]
"""Model, sampler, steps, guidance: what a comparison holds fixed."""
Key = tuple[str, int, int]
"""Prompt set, prompt index, seed: what makes a pair."""

TIMES = ("encode_ms", "noise_ms", "sampling_ms", "decode_ms")
CALLS = ("calls_noise", "calls_sampling", "calls_total")


class MeasuredArm:
    """One method under one protocol on one prompt set, with what the ledger knows of it."""

    def __init__(self, setting: Setting, method: str, prompts: str):
        self.setting, self.method, self.prompts = setting, method, prompts
        self.cells: dict[Key, str] = {}
        """Prompt text by pair, whether its image is there yet or not."""
        self.images: dict[Key, Image] = {}
        self.scores: dict[str, dict[Key, float]] = defaultdict(dict)
        self.tags: dict[Key, str] = {}
        self.described: set[Key] = set()
        """Pairs whose prompt carries metadata."""

    @property
    def labels(self) -> dict[str, Any]:
        model, sampler, steps, guidance = self.setting
        return {
            "model": model,
            "prompts": self.prompts,
            "sampler": sampler,
            "steps": steps,
            "guidance": guidance,
            "method": self.method,
        }


def read_arms(ledger: Ledger, suite: Suite, entries: dict[str, MetricEntry]) -> list[MeasuredArm]:
    """The arms in the suite's order of methods, with images and scores joined on."""
    images = ledger.images()
    found: dict[tuple[Setting, str, str], MeasuredArm] = {}
    keys: dict[tuple[str, str], list[tuple[MeasuredArm, Key]]] = defaultdict(list)
    columns = "method, model, prompts, sampler, steps, guidance, prompt_index, seed, prompt, category, metadata, job_id"
    for row in ledger.db.execute(f"SELECT {columns} FROM cells"):
        method, model, prompts, sampler, steps, guidance, index, seed, text, category, metadata, job_id = row
        setting = (model, sampler, steps, guidance)
        arm = found.setdefault((setting, method, prompts), MeasuredArm(setting, method, prompts))
        key = (prompts, index, seed)
        image = images.get(job_id)
        arm.cells[key] = text
        arm.tags[key] = category
        if metadata:
            arm.described.add(key)
        if image:
            arm.images[key] = image
            prompt = Prompt(index, text, category, json.loads(metadata) if metadata else None)
            keys[image.digest, prompt_key(prompt)].append((arm, key))
    for name, entry in entries.items():
        rows = ledger.db.execute(
            "SELECT digest, prompt, value FROM scores WHERE metric = ? AND scorer = ?", (name, entry.digest())
        )
        for digest, prompt, value in rows:
            for arm, key in keys.get((digest, prompt), ()):
                arm.scores[name][key] = value
    order = {s.label: i for i, s in enumerate(suite.methods)}
    sets = {p: i for i, p in enumerate(suite.prompts)}
    return sorted(found.values(), key=lambda a: (a.setting, sets[a.prompts], order[a.method]))


def with_pooled(arms: list[MeasuredArm]) -> list[MeasuredArm]:
    """The arms, and for every setting and method one over all prompt sets."""
    pooled: dict[tuple[Setting, str], MeasuredArm] = {}
    for arm in arms:
        one = pooled.setdefault((arm.setting, arm.method), MeasuredArm(arm.setting, arm.method, POOLED))
        one.cells |= arm.cells
        one.images |= arm.images
        one.tags |= arm.tags
        one.described |= arm.described
        for metric, values in arm.scores.items():
            one.scores[metric] |= values
    return [*arms, *pooled.values()]


def expected(arm: MeasuredArm, entry: MetricEntry) -> int:
    """How many scores a complete arm has; GenEval judges only prompts with metadata."""
    return len(arm.described if entry.needs_metadata else arm.cells)


def cost_of(arm: MeasuredArm) -> dict[str, Any]:
    """Means an image. Times count only images made on the hardware that made most of them."""
    images = list(arm.images.values())
    cost: dict[str, Any] = {name: None for name in (*TIMES, "total_ms", *CALLS, "peak_bytes", "peak_kind", "hardware")}
    cost |= {"from_cache": 0, "n_timed": 0}
    if not images:
        return cost
    hardware = Counter(i.hardware for i in images).most_common(1)[0][0]
    timed = [i for i in images if i.hardware == hardware]
    cost |= {name: float(np.mean([getattr(i, name) for i in timed])) for name in TIMES}
    cost["total_ms"] = sum(cost[name] for name in TIMES)
    for name in CALLS[:2]:
        cost[name] = float(np.mean([getattr(i, name) for i in images]))
    cost["calls_total"] = cost["calls_noise"] + cost["calls_sampling"]
    cost["peak_bytes"] = max(i.peak_bytes or 0 for i in timed) or None
    cost["peak_kind"] = timed[0].peak_kind
    cost["from_cache"] = sum(i.from_cache for i in images)
    cost["n_timed"], cost["hardware"] = len(timed), hardware
    return cost
