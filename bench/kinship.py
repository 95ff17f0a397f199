"""What metrics are made of, and what two of them therefore share. Facts for people: they decide no score.

A gain by one metric says little by another that is made of the same: `weights` make the two one metric for a method
that optimises either, `labels`, `detector`, `reader` and `rule` make the second no independent evidence, and what else
two share, a backbone or prompts, is only listed (docs/metrics.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bench.metrics.base import MetricEntry

KINDS = {
    "weights": "weights",
    "labels": "labels",
    "detector": "detector",
    "reader": "reader of questions",
    "rule": "rule",
    "backbone": "backbone",
    "data": "pretraining data",
    "prompts": "training prompts",
}
"""Every kind of thing that a metric is made of, and the words for it; those that tell most come first."""
DEPENDENT = ("labels", "detector", "reader", "rule")
"""Kinds by which a metric is no independent evidence for what another one of them chose or tuned."""


class Trait(NamedTuple):
    """One thing that a metric is made of; two metrics share it where kind and name are equal."""

    kind: str
    """One of `KINDS`."""
    name: str
    """Whose labels, which detector, and so on, such as `Pick-a-Pic votes`."""


class Dependence(NamedTuple):
    """Why a metric is no independent evidence for a method."""

    metric: str
    """The metric that judges."""
    of: str
    """The metric by which the method was chosen or tuned; empty where its weights learnt from the thing itself."""
    traits: tuple[Trait, ...]
    """What the two share, of the kinds in `DEPENDENT`."""


def siblings(one: MetricEntry, other: MetricEntry) -> tuple[Trait, ...]:
    """All that two metrics share, what tells most first."""
    return tuple(sorted({*one.made_of} & {*other.made_of}, key=lambda t: (list(KINDS).index(t.kind), t.name)))


def kin(one: MetricEntry, other: MetricEntry) -> bool:
    """Whether two metrics have the same weights, so that what optimises one optimises the other."""
    return any(trait.kind == "weights" for trait in siblings(one, other))


def dependences(
    judging: Iterable[MetricEntry], chosen_by: Sequence[MetricEntry], learnt_from: Iterable[Trait] = ()
) -> list[Dependence]:
    """For each metric that is no independent evidence for a method, the first reason why.

    The method optimises `chosen_by`; its weights learnt from `learnt_from`. Metrics that it optimises are left out.
    """
    learnt, own = {*learnt_from}, {entry.name for entry in chosen_by}
    found = []
    for entry in judging:
        if entry.name in own:
            continue
        shared: Mapping[str, tuple[Trait, ...]] = {
            **{other.name: siblings(entry, other) for other in chosen_by},
            "": tuple(t for t in entry.made_of if t in learnt),
        }
        reasons = {of: tuple(t for t in traits if t.kind in DEPENDENT) for of, traits in shared.items()}
        found += [Dependence(entry.name, of, traits) for of, traits in reasons.items() if traits][:1]
    return found


# What several metrics of real models are made of ---------------------------------------------------------------------

PICK_A_PIC = Trait("labels", "Pick-a-Pic votes")
HPD_V2 = Trait("labels", "annotators of HPD v2")
BLIP_VQA = Trait("reader", "BLIP-VQA")
QWEN3_VL = Trait("reader", "Qwen3-VL")
UNIDET = Trait("detector", "UniDet")
GENEVAL_RULES = Trait("rule", "GenEval's rules")
GENEVAL_TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""The kinds of prompts by which whoever applies these rules reports, in the paper's order."""
COMPBENCH_RULES = Trait("rule", "T2I-CompBench's rules")
CLIP_B_COSINE = Trait("rule", "cosine in CLIP ViT-B/32")
LAION_CLIP_H = Trait("backbone", "CLIP ViT-H-14 of LAION-2B")
OPENAI_CLIP_L = Trait("backbone", "CLIP ViT-L/14 of OpenAI")
IMAGENET_INCEPTION = Trait("backbone", "Inception of ImageNet's classes")
DINOV2_L = Trait("backbone", "DINOv2 ViT-L/14")
OPENAI_PAIRS = Trait("data", "OpenAI's image-text pairs")
BLIP_PAIRS = Trait("data", "BLIP's image-text pairs")
DIFFUSIONDB = Trait("prompts", "DiffusionDB")

ORIGINAL = {
    "original_geneval": (
        Trait("detector", "mmdet's Mask2Former Swin-S of COCO"),
        GENEVAL_RULES,
        OPENAI_CLIP_L,
        OPENAI_PAIRS,
    ),
    "original_blip_vqa": (BLIP_VQA, COMPBENCH_RULES, BLIP_PAIRS),
    "original_clip": (CLIP_B_COSINE, COMPBENCH_RULES, OPENAI_PAIRS),
    "original_spatial_2d": (UNIDET, COMPBENCH_RULES),
    "original_spatial_3d": (UNIDET, COMPBENCH_RULES),
    "original_numeracy": (UNIDET, COMPBENCH_RULES),
    "original_3_in_1": (BLIP_VQA, UNIDET, CLIP_B_COSINE, COMPBENCH_RULES, BLIP_PAIRS, OPENAI_PAIRS),
}
"""By the name of a metric that the original code computes, what it is made of there."""
