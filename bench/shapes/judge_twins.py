"""Judges of the embedded world that no network of its own was trained for: rules, and parts of what is there.

What each is made of, and what it shares with the others:

| judge                    | in the place of | made of                                  | shares                      |
|--------------------------|-----------------|------------------------------------------|-----------------------------|
| `shapes-pickscore`       | PickScore       | the preference model's two towers        | its weights and votes       |
| `shapes-imagereward`     | ImageReward     | contrast and colours of the pixels       | no label, detector, caption |
| `shapes-mps`             | MPS             | the voters' own rule, of two images      | the detector                |
| `shapes-compbench-score` | T2I-CompBench   | the exact detector, clause by clause     | the detector                |

The preference model learnt from votes by the rule of `shapes-mps`; `shapes-geneval` and the rated labels of
`shapes-aesthetic` stand on the same detector.
A method that gains by all of them does not gain by one judge's taste. The denoiser weights `shapes-dpo` were tuned on
votes by the rule of `shapes-imagereward`, which therefore cannot judge them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.metrics.base import Value

if TYPE_CHECKING:
    import numpy as np

    from bench.metrics.geneval_rules import Detection
    from bench.prompts.base import Prompt

_UNFIT = "its prompt carries no metadata of GenEval's kind"


class Towers:
    """What the preference model feels at a first glance: the product of one vector of image and caption each."""

    def __init__(self, preference: Any):
        """`preference` is a loaded `PreferenceScorer`."""
        self.of = preference

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        import torch

        from bench.shapes.scorers import pixels_to_input

        model = self.of.model
        with torch.inference_mode():
            seen = model.see(pixels_to_input(images).to(self.of.device))
            read = model.read(self.of.ids(prompts))
            felt = (read.whole * seen.whole).sum(1) / read.whole.shape[1] ** 0.5 + seen.look
        return [Value(float(u)) for u in felt]


class Stylist:
    """The rule of `stylist.py`; the prompt plays no part."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        from bench.shapes.stylist import style

        return [Value(float(style(image[None])[0])) for image in images]


class Crowd:
    """The share of a large crowd of voters who prefer the method's image, by the rule that votes are drawn from."""

    def score_pairs(
        self, baseline_images: Sequence[np.ndarray], method_images: Sequence[np.ndarray], prompts: Sequence[Prompt]
    ) -> list[Value]:
        """The logistic of the method's utility less the baseline's; the detail has both utilities."""
        from bench.shapes.votes import utility

        values = []
        for base, ours, prompt in zip(baseline_images, method_images, prompts, strict=True):
            caption = caption_of(prompt)
            if caption is None:
                values.append(Value.failed(_UNFIT))
                continue
            a, b = (utility(caption, image) for image in (base, ours))
            values.append(Value(1 / (1 + math.exp(a - b)), {"utilities": [a, b]}))
        return values


class CompBench:
    """T2I-CompBench's soft scores on the exact detector: of attributes the product, of places confidences and relation.

    An attribute's clause has the confidence of the best object of its class and colour, 0 where there is none. A place
    is as in the public spatial score: a quarter of each object's confidence and half for the relation, and 0 below a
    half. Counting clauses have the share of the wanted objects that are there, and none where there are more.
    """

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        from bench.shapes.detector import detect

        values = []
        for image, prompt in zip(images, prompts, strict=True):
            if caption_of(prompt) is None:
                values.append(Value.failed(_UNFIT))
                continue
            assert prompt.metadata is not None
            parts = clauses(prompt.metadata, detect(image))
            values.append(Value(math.prod(parts), {"tag": prompt.metadata.get("tag"), "clauses": parts}))
        return values


def clauses(metadata: Mapping[str, Any], detections: Sequence[Detection]) -> list[float]:
    """What each clause of GenEval metadata is worth in [0, 1]; one that says where things are stands for both."""
    from bench.metrics.geneval_rules import relations

    best: list[Detection | None] = []
    parts: list[float] = []
    for clause in metadata["include"]:
        of = [d for d in detections if d.class_name == clause["class"] and clause.get("color", d.color) == d.color]
        first = max(of, key=lambda d: d.confidence, default=None)
        best.append(first)
        if "position" not in clause:
            there = sum(d.confidence > 0 for d in of)
            most = clause["count"] if clause["count"] > 1 else there
            share = min(there, clause["count"]) / clause["count"]
            parts.append(share * (first.confidence if first else 0.0) if there <= most else 0.0)
            continue
        relation, target = clause["position"]
        other = best[target]
        sure = sum(d.confidence / 4 for d in (first, other) if d)
        holds = first is not None and other is not None and relation in relations(first, other)
        total = sure + 0.5 * holds
        parts[target] = 1.0  # what the other object is worth stands in the place's own score
        parts.append(total if total >= 0.5 else 0.0)
    return parts


def caption_of(prompt: Prompt) -> Any:
    """A prompt's GenEval metadata as a caption of the embedded world; None where it carries none."""
    from bench.shapes.captions import Caption

    data = prompt.metadata or {}
    if "include" not in data:
        return None
    return Caption(prompt.text, data.get("tag", ""), tuple(data["include"]), tuple(data.get("exclude", ())))
