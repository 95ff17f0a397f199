"""Results small enough to be read whole, and the committed example with images.

`small`, `example` and the rows are documents, as results.json holds them, for a test to change; `of` makes of a
document the records that a report reads, and refuses one that is not valid. A test that changes the metrics need not
repeat them in every arm: `of` gives each arm those of the document.
"""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from bench.records import Results
from bench.records.load import parse

HOSTILE = "<script>alert(1)</script>| `rm -rf` [x](javascript:alert(2)) ![i](https://evil.example/p.png)\n# @all $a$"
EXAMPLE = Path(__file__).parents[1] / "data" / "results_example.json"
SETTING = {"model": "shapes-sdxl", "sampler": "ddim", "steps": 25, "guidance": 5.5}
STAGES = ("encode_ms", "noise_ms", "sampling_ms", "decode_ms", "select_ms")
COSTS = (*STAGES, "total_ms", "calls_noise", "calls_sampling", "calls_total", "peak_bytes")
NO_RATIOS = dict.fromkeys(COSTS)
STRICT = dict.fromkeys(("win_strict", "win_strict_low", "win_strict_high"))


def of(document: dict[str, Any]) -> Results:
    """The records of a document; UserError where it is not one that results.json may hold."""
    arms = [row | {"metrics": _scores(row, document["metrics"])} for row in document["arms"]]
    return parse(json.dumps(document | {"arms": arms}).encode(), "results.json")


def _scores(row: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """An arm's means of exactly these metrics; 1.0 of all its images where the arm says nothing of one."""
    plain = {"mean": 1.0, "low": 0.936, "high": 1.064, "n": row["n"]}
    return {name: row["metrics"].get(name, plain) for name in metrics}


def arm(method: str, mean: float, **given: Any) -> dict[str, Any]:
    """A complete arm of 100 images whose only metric is `preference`; it takes as long as the baseline."""
    same = {} if method == "standard" else {"total_ms": {"ratio": 1.0, "low": None, "high": None}}
    cost = {"calls_noise": 2.0, "calls_sampling": 25.0, "calls_total": 27.0, "encode_ms": 6.4, "noise_ms": 38.6,
            "sampling_ms": 486.0, "decode_ms": 9.0, "select_ms": 0.0, "total_ms": 540.0, "peak_bytes": 612 * 2**20,
            "peak_kind": "CUDA allocator", "hardware": "a GPU", "from_cache": 0, "n_timed": 100,
            "ratios": NO_RATIOS | same}  # fmt: skip
    metrics = {"preference": {"mean": mean, "low": mean - 0.064, "high": mean + 0.064, "n": 100}}
    row = {**SETTING, "prompts": "*", "method": method, "n_expected": 100, "n": 100, "complete": True,
           "is_baseline": method == "standard", "metrics": metrics, "optimises": [], "siblings": [],
           "cost": cost}  # fmt: skip
    return row | given


def comparison(method: str, delta: float, low: float | None, high: float, p: float, **given: Any) -> dict[str, Any]:
    """A complete comparison of 100 pairs on `preference`."""
    row = {**SETTING, "prompts": "*", "method": method, "baseline": "standard", "metric": "preference", "n": 100,
           "n_prompts": 50, "delta": delta, "low": low, "high": high, "p": p, "p_holm": p, "win": 60, "tie": 2,
           "loss": 38, "win_rate": 0.61, "win_low": 0.514, "win_high": 0.706, **STRICT, "detectable": 0.03, "sd": 0.1,
           "complete": True, "marked": False, "sibling": False}  # fmt: skip
    return row | given


def part(method: str, mean: float, **given: Any) -> dict[str, Any]:
    """The part of an arm of one `seed` or `category`, on `preference`, without a delta."""
    nothing = dict.fromkeys(("delta", "low", "high", "win_rate", "win_low", "win_high"))
    row = {**SETTING, "prompts": "*", "method": method, "metric": "preference", "n": 50, "n_prompts": 50, "mean": mean}
    return row | nothing | STRICT | given


def metric(title: str, unit: str = "", **given: Any) -> dict[str, Any]:
    """A metric of images of which more is better."""
    row = {"title": title, "kind": "image", "unit": unit, "higher_is_better": True, "scale": "", "bounds": None,
           "digest": "d1", "twin_of": [], "score_ms": None}  # fmt: skip
    return row | given


def pair(index: int, images: dict[str, str], **given: Any) -> dict[str, Any]:
    """A pair of the first setting, of the first run, without scores."""
    row = {"setting": 0, "prompt": f"prompt {index}", "prompts": "hpd", "index": index, "seed": 0, "category": "",
           "images": images, "runs": dict.fromkeys(images, 0), "scores": {}}  # fmt: skip
    return row | given


def run(folder: str, **given: Any) -> dict[str, Any]:
    """A run of the suite `small`, beside the report."""
    row = {"folder": folder, "path": f"../{folder}", "suite": "small", "id": "ab12", "created": "2026-11-21",
           "finished": True, "sessions": 1, "stages": {}, "provenance": {"commit": "c0ffee"}}  # fmt: skip
    return row | given


def small(**given: Any) -> dict[str, Any]:
    """Two methods beside the baseline, one of them clearly better."""
    whole = run("runs/small", path=".")
    document = {
        "schema": 2,
        "suite": {
            "name": "small",
            "title": "Small",
            "id": "ab12",
            "reproduces": None,
            "twin": False,
            "baseline": "standard",
            "limit": None,
            "headline": None,
            "controls": [],
            "command": None,
        },
        "run": {name: value for name, value in whole.items() if name not in ("path", "suite", "id")},
        "runs": [whole],
        "notes": [],
        "metrics": {"preference": metric("Preference", "logit")},
        "arms": [arm("standard", 1.284), arm("inversion", 1.296), arm("npnet", 1.384)],
        "comparisons": [
            comparison("inversion", 0.012, -0.004, 0.028, 0.14, win_rate=0.512, win_low=0.48, win_high=0.543),
            comparison("npnet", 0.1, 0.084, 0.116, 0.0004),
        ],
        "equal_compute": [],
        "tasks": [],
        "controls": [],
        "seeds": [],
        "categories": [],
        "settings": [SETTING],
        "failed": [],
        "pairs": [],
        "pairs_total": 0,
    }
    return document | given


def example(folder: Path) -> dict[str, Any]:
    """The committed example, with its images in `folder`."""
    document: dict[str, Any] = parse(EXAMPLE.read_bytes(), EXAMPLE.name).document()
    for number, path in enumerate(path for pair in document["pairs"] for path in pair["images"].values()):
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (10 * number, 90, 200)).save(file)
    return document


def spoil(document: dict[str, Any]) -> dict[str, Any]:
    """Hostile text wherever somebody else's text goes; HOSTILE itself in the place of `npnet`, model and sets."""
    document = copy.deepcopy(document)
    document["suite"] |= {"title": HOSTILE, "command": HOSTILE, "reproduces": HOSTILE, "name": HOSTILE, "id": HOSTILE}
    document["notes"] = [HOSTILE]
    document["pairs"][0] |= {"prompt": HOSTILE, "prompts": HOSTILE}
    document["pairs"][0]["images"]["inversion"] = "javascript:alert(3)"
    document["pairs"][0]["images"]["npnet"] = "../../etc/passwd"
    document["metrics"]["preference"] |= {"title": HOSTILE, "scale": HOSTILE, "unit": HOSTILE}
    document["controls"][0] |= {"ok": False, "sentence": HOSTILE}
    for run in [document["run"], *document["runs"]]:
        run |= {"folder": HOSTILE, "created": HOSTILE}
        run["provenance"] = run["provenance"] | {"hardware": HOSTILE, "packages": {HOSTILE: HOSTILE}, "commit": HOSTILE}
    for row in [*document["arms"], *document["comparisons"], *document["tasks"]]:
        row["model"] = row["sampler"] = HOSTILE
        row["method"] = HOSTILE if row["method"] == "npnet" else row["method"]
        row["prompts"] = row["prompts"] if row["prompts"] == "*" else HOSTILE + row["prompts"]
        if "cost" in row:
            row["cost"]["peak_kind"] = HOSTILE
    spoilt = part(HOSTILE, 1.0, prompts=HOSTILE, n=3)
    document["seeds"] = [spoilt | {"seed": 0}]
    document["categories"] = [spoilt | {"category": HOSTILE}]
    return document


class Page(HTMLParser):
    """Tags that are open at the end, every attribute, and the text."""

    VOID = ("meta", "img", "br", "wbr", "link", "line", "rect", "circle", "polygon", "polyline", "input")

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
