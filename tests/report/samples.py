"""Results small enough to be read whole, and the committed example with images."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

HOSTILE = "<script>alert(1)</script>| `rm -rf` [x](javascript:alert(2)) ![i](https://evil.example/p.png)\n# @all $a$"
EXAMPLE = Path(__file__).parents[1] / "data" / "results_example.json"
SETTING = {"model": "shapes-sdxl", "sampler": "ddim", "steps": 25, "guidance": 5.5}


def arm(method: str, mean: float, **given: Any) -> dict[str, Any]:
    """A complete arm of 100 images whose only metric is `preference`."""
    cost = {"calls_noise": 2.0, "calls_sampling": 25.0, "calls_total": 27.0, "encode_ms": 6.4, "noise_ms": 38.6,
            "sampling_ms": 486.0, "decode_ms": 9.0, "total_ms": 540.0, "peak_bytes": 612 * 2**20,
            "peak_kind": "CUDA allocator", "from_cache": 0, "n_timed": 100}  # fmt: skip
    metrics = {"preference": {"mean": mean, "low": mean - 0.064, "high": mean + 0.064, "n": 100}}
    row = {**SETTING, "prompts": "*", "method": method, "n_expected": 100, "n": 100, "complete": True,
           "is_baseline": method == "standard", "metrics": metrics, "optimises": [], "cost": cost}  # fmt: skip
    return row | given


def comparison(method: str, delta: float, low: float, high: float, p: float, **given: Any) -> dict[str, Any]:
    """A complete comparison of 100 pairs on `preference`."""
    row = {**SETTING, "prompts": "*", "method": method, "baseline": "standard", "metric": "preference", "n": 100,
           "n_prompts": 50, "delta": delta, "low": low, "high": high, "p": p, "p_holm": p, "win": 60, "tie": 2,
           "loss": 38, "win_rate": 0.61, "win_low": 0.514, "win_high": 0.706, "detectable": 0.03, "complete": True,
           "marked": False}  # fmt: skip
    return row | given


def small() -> dict[str, Any]:
    """Two methods beside the baseline, one of them clearly better."""
    return {
        "schema": 1,
        "suite": {
            "name": "small",
            "title": "Small",
            "id": "ab12",
            "baseline": "standard",
            "twin": False,
            "limit": None,
        },
        "run": {"folder": "runs/small", "created": "2026-11-21", "finished": True, "provenance": {"commit": "c0ffee"}},
        "notes": [],
        "metrics": {"preference": {"title": "Preference", "unit": "logit", "higher_is_better": True, "digest": "d1"}},
        "arms": [arm("standard", 1.284), arm("inversion", 1.296), arm("npnet", 1.384)],
        "comparisons": [
            comparison("inversion", 0.012, -0.004, 0.028, 0.14, win_rate=0.512, win_low=0.48, win_high=0.543),
            comparison("npnet", 0.1, 0.084, 0.116, 0.0004),
        ],
        "tasks": [],
        "controls": [],
        "pairs": [],
    }


def example(folder: Path) -> dict[str, Any]:
    """The committed example, with its images in `folder`."""
    results: dict[str, Any] = json.loads(EXAMPLE.read_text())
    for number, path in enumerate(path for pair in results["pairs"] for path in pair["images"].values()):
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (10 * number, 90, 200)).save(file)
    return results


def spoil(results: dict[str, Any]) -> dict[str, Any]:
    """Hostile text wherever somebody else's text goes; HOSTILE itself in the place of `npnet`, model and sets."""
    results = copy.deepcopy(results)
    results["suite"] |= {"title": HOSTILE, "command": HOSTILE, "reproduces": HOSTILE, "name": HOSTILE, "id": HOSTILE}
    results["notes"] = [HOSTILE]
    results["pairs"][0] |= {"prompt": HOSTILE, "prompts": HOSTILE}
    results["pairs"][0]["images"]["inversion"] = "javascript:alert(3)"
    results["pairs"][0]["images"]["npnet"] = "../../etc/passwd"
    results["metrics"]["preference"] |= {"title": HOSTILE, "scale": HOSTILE, "unit": HOSTILE}
    results["controls"][0] |= {"ok": False, "sentence": HOSTILE}
    for run in [results["run"], *results.get("runs", [])]:
        run |= {"folder": HOSTILE, "created": HOSTILE}
        run["provenance"] = run["provenance"] | {"hardware": HOSTILE, "packages": {HOSTILE: HOSTILE}, "commit": HOSTILE}
    for row in [*results["arms"], *results["comparisons"], *results["tasks"]]:
        row["model"] = row["sampler"] = HOSTILE
        row["method"] = HOSTILE if row["method"] == "npnet" else row["method"]
        row["prompts"] = row["prompts"] if row["prompts"] == "*" else HOSTILE + row["prompts"]
        if "cost" in row:
            row["cost"]["peak_kind"] = HOSTILE
    labels = {**SETTING, "prompts": HOSTILE, "method": HOSTILE, "metric": "preference", "n": 3, "mean": 1.0}
    results["seeds"] = [labels | {"seed": HOSTILE}]
    results["categories"] = [labels | {"category": HOSTILE}]
    return results


class Page(HTMLParser):
    """Tags that are open at the end, every attribute, and the text."""

    VOID = ("meta", "img", "br", "link", "line", "rect", "circle", "polygon", "polyline", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]
