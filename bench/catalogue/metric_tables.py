"""Every metric's facts as Markdown: `python -m bench ls metrics --markdown` prints docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench import registry
from bench.catalogue.tables import PACKAGES, table
from bench.job import preflight
from bench.kinship import DEPENDENT, KINDS, siblings
from bench.metrics.backbones import MACHINE
from bench.metrics.base import MetricEntry

EMBEDDED = "shapes-"
OF = {
    "image": "an image and its prompt",
    "pair": "a method's image against the baseline's",
    "set": "all images of a row",
}
INTRODUCTION = """\
# Metrics

Printed by `python -m bench ls metrics --markdown`; a test holds it equal to the entries in `bench/metrics` and
`bench/shapes/metrics.py`. With `checkpoint: FOLDER` in a suite, what is said of weights is said of the published ones.

## Which to choose

- **A preference, and one more from other people.** `hpsv2`, `pickscore`, `imagereward` and `mps` each learnt from
  labels of their own, so two that agree say more than one. Three of the four have the same backbone, and `hpsv2` and
  `imagereward` learnt on prompts of one source: what the backbone does not see, all three miss.
- **Whether the image shows what was asked.** `geneval` and `t2i_compbench` on their own prompts, with rules and
  detectors; `vqascore` on any prompt. `clipscore` is the weakest of them: it counts badly and hardly knows places.
- **What a method may buy its score with.** `diversity`, `vendi` or `lpips_diversity` over several seeds a prompt, for a
  method that makes one good image again and again: the first two by what the images show, the third by how they look.
  `fid`, `kid`, `cmmd` or `fd_dinov2` against a reference, for images that leave their domain. A Fréchet distance needs
  thousands of images; `kid` and `cmmd` need a hundred.
- **Not the one that chose.** A metric that selects among candidates, selects training pairs or is a reward is no
  evidence for that method, and is marked † in reports; so is one with the same weights. One that shares labels, a
  detector, a reader of questions or a rule with it is no independent evidence, and is marked ‡: it is shown and tested,
  but the verdict goes by an independent metric where there is one. A shared backbone, pretraining data or training
  prompts set no mark.
- **`human` decides where metrics disagree.** Blind votes from the report's image browser.
"""


def page() -> str:
    """The whole of docs/metrics.md."""
    entries = [
        registry.get("metrics", n) for n in registry.names("metrics") if registry.source("metrics", n) in PACKAGES
    ]
    real = [entry for entry in entries if not entry.name.startswith(EMBEDDED)]
    embedded = [entry for entry in entries if entry.name.startswith(EMBEDDED)]
    parts = [
        INTRODUCTION,
        "## What each measures",
        _measures(real),
        "## What each costs",
        "Time is that of the networks alone, on " + MACHINE + "; memory is that of the weights in fp32. Metrics with a "
        "network in common load and run it once.",
        _costs(real),
        "## What each cannot see, and whom it must not judge",
        "Beside what a method's own description says: a metric that it names as selection metric or reward, or that "
        "tuned its weights, is marked without being listed here.",
        _limits(real),
        "## What each is made of",
        _made(real),
        "## Which share what",
        "The second column has those that are no independent evidence for a method that the first one chose or tuned.",
        _shared(real),
        "## The embedded world's",
        "What stands in for them with `--twin`; [shapes.md](shapes.md) says how they were trained.",
        _measures(embedded),
        _limits(embedded),
        _made(embedded),
        _shared(embedded),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _measures(entries: Sequence[MetricEntry]) -> str:
    rows = (
        (e.name, e.about, OF[e.kind], e.unit, e.scale or "any", "higher" if e.higher_is_better else "lower",
         ", ".join(e.twin_of) or (f"{e.fewest}" if e.kind == "set" else ""))
        for e in entries
    )  # fmt: skip
    last = "stands in for" if any(e.twin_of for e in entries) else "fewest images"
    return table(("metric", "what it measures", "of", "unit", "scale", "better", last), rows)


def _costs(entries: Sequence[MetricEntry]) -> str:
    rows = []
    for e in entries:
        by_hand = [need.what for need in e.needs() if need.source.command]
        given = f"{', '.join(by_hand)} put there by hand" if by_hand else ""
        download = "; ".join(filter(None, (preflight.amount(e.needs()), given))) or "nothing"
        memory = "unknown" if e.gib is None and e.needs() else f"{e.gib or 0:.1f} GiB"
        time = "unknown" if e.ms is None else f"{e.ms:.1f}"
        rows.append((e.name, download, memory, time, e.license))
    return table(("metric", "download", "memory", "ms an image", "licence of the weights"), rows)


def _limits(entries: Sequence[MetricEntry]) -> str:
    return table(("metric", "cannot see", "must not judge"), ((e.name, e.blind_to, e.unfit_for) for e in entries))


def _made(entries: Sequence[MetricEntry]) -> str:
    rows = []
    for e in entries:
        kinds = {kind: [t.name for t in e.made_of if t.kind == kind] for kind in KINDS}
        parts = [f"{KINDS[kind]}: {', '.join(names)}" for kind, names in kinds.items() if names]
        rows.append((e.name, "; ".join(parts) or "not known here"))
    return table(("metric", "made of"), rows)


def _shared(entries: Sequence[MetricEntry]) -> str:
    """For each metric the others that share something with it; those that share nothing are named below."""
    rows, alone = [], []
    for e in entries:
        near, far = list(_others(e, entries, marked=True)), list(_others(e, entries, marked=False))
        if near or far:
            rows.append((e.name, "; ".join(near), "; ".join(far)))
        else:
            alone.append(e.name)
    found = table(("metric", "no independent evidence beside it", "shares less with"), rows)
    return f"{found}\n\nWith no other: {', '.join(alone)}." if alone else found


def _others(entry: MetricEntry, entries: Iterable[MetricEntry], *, marked: bool) -> Iterator[str]:
    """Others with what they share: those that a mark follows from, else the rest."""
    for other in entries:
        kinds = list(dict.fromkeys(trait.kind for trait in siblings(entry, other)))
        tells = any(kind in (*DEPENDENT, "weights") for kind in kinds)
        if other.name != entry.name and kinds and tells is marked:
            yield f"{other.name} ({', '.join(KINDS[kind] for kind in kinds)})"
