"""Captions of the embedded world, in GenEval's six tasks and GenEval's metadata format.

A caption's bucket is a hash of its text, so the training captions and every evaluation set are disjoint by
construction, whatever the seed and the order in which they are drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.shapes.scenes import BACKGROUNDS, COLORS, HELD_OUT, SHAPES, SIZES, Box, Object, Scene, place

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""GenEval's tags; the paper of Ghosh et al. 2023 (2310.11513), Table 1."""

RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {2: "two", 3: "three", 4: "four"}
CARRIERS = ("a photo of ", "a picture of ", "a drawing of ", "a sketch of ", "an image of ", "")
PLURALS = {s: ("crosses" if s == "cross" else s + "s") for s in SHAPES}

BUCKETS = 20
SPLITS: dict[str, tuple[int, ...]] = {
    "train": tuple(range(12)),
    "scorers": (12,),
    "validation": (13,),
    "pick-a-pic": (14,),
    "drawbench": (15, 16),
    "hpd": (17,),
    "geneval": (18, 19),
}
"""Which buckets of captions a split draws from. `scorers` is for held-out figures of the scorers, `validation`
for choosing checkpoints; the other four are evaluation sets."""


@dataclass(frozen=True)
class Caption:
    """A caption with its GenEval metadata (`tag`, `include`, `exclude`, `prompt`) and what it adds to them."""

    prompt: str
    tag: str
    include: tuple[dict[str, Any], ...]
    exclude: tuple[dict[str, Any], ...] = ()
    background: str | None = None
    size: str | None = None

    def metadata(self) -> dict[str, Any]:
        """The public GenEval line: tag, include, exclude (where there is one), prompt."""
        line: dict[str, Any] = {"tag": self.tag, "include": [dict(c) for c in self.include]}
        if self.exclude:
            line["exclude"] = [dict(c) for c in self.exclude]
        line["prompt"] = self.prompt
        return line


def bucket(prompt: str) -> int:
    """The bucket in [0, 20) of a caption's text."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") % BUCKETS


def article(word: str) -> str:
    return "an " if word[0] in "aeiou" else "a "


def _phrase(*words: str | None) -> str:
    text = " ".join(w for w in words if w)
    return article(text) + text


def draw(rng: np.random.Generator, tag: str) -> Caption:
    """One random caption of a task, from the whole grammar: no split, held-out pairs included."""
    shape, other = (SHAPES[i] for i in rng.choice(len(SHAPES), 2, replace=False))
    color, color2 = (list(COLORS)[i] for i in rng.choice(len(COLORS), 2, replace=False))
    background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))] if rng.random() < 0.5 else None
    size = list(SIZES)[rng.integers(len(SIZES))] if rng.random() < 0.5 else None
    carrier = CARRIERS[rng.integers(len(CARRIERS))]
    include: tuple[dict[str, Any], ...]
    exclude: tuple[dict[str, Any], ...] = ()
    if tag == "single_object":
        text, include = _phrase(size, shape), ({"class": shape, "count": 1},)
    elif tag == "colors":
        text, include = _phrase(size, color, shape), ({"class": shape, "count": 1, "color": color},)
    elif tag == "counting":
        size, n = None, int(rng.integers(2, 5))
        text, include = f"{NUMBERS[n]} {PLURALS[shape]}", ({"class": shape, "count": n},)
        exclude = ({"class": shape, "count": n + 1},)
    elif tag == "two_object":
        size = None
        text = f"{_phrase(shape)} and {_phrase(other)}"
        include = ({"class": shape, "count": 1}, {"class": other, "count": 1})
    elif tag == "position":
        size, relation = None, RELATIONS[rng.integers(len(RELATIONS))]
        text = f"{_phrase(shape)} {relation} {_phrase(other)}"
        # As in the public file: the object of reference comes first, the subject points back to it.
        include = ({"class": other, "count": 1}, {"class": shape, "count": 1, "position": [relation, 0]})
    elif tag == "color_attr":
        size = None
        text = f"{_phrase(color, shape)} and {_phrase(color2, other)}"
        include = (
            {"class": shape, "count": 1, "color": color},
            {"class": other, "count": 1, "color": color2},
        )
    else:
        raise ValueError(f"unknown task {tag!r}; expected one of {TASKS}")
    ground = f" on {article(background)}{background} background" if background else ""
    return Caption(carrier + text + ground, tag, include, exclude, background, size)


def held_out(caption: Caption) -> bool:
    """Whether the caption names a (shape, color) pair that training never shows."""
    return any((c["class"], c.get("color")) in HELD_OUT for c in caption.include)


def sample(rng: np.random.Generator, split: str, tag: str | None = None) -> Caption:
    """A caption of a split without held-out pairs; `tag` None draws one of the six tasks evenly."""
    buckets = SPLITS[split]
    while True:
        c = draw(rng, tag or TASKS[rng.integers(len(TASKS))])
        if bucket(c.prompt) in buckets and not held_out(c):
            return c


def place_colored(rng: np.random.Generator, split: str) -> Caption:
    """A caption of places whose things have colours, "a red star left of a blue ring": for training, in no set."""
    while True:
        c = draw(rng, "position")
        colors = [list(COLORS)[i] for i in rng.choice(len(COLORS), 2, replace=False)]
        include = [{**clause, "color": color} for clause, color in zip(c.include, colors, strict=True)]
        colored = _retell(c, include, c.exclude)
        if bucket(colored.prompt) in SPLITS[split] and not held_out(colored):
            return colored


def distinct(rng: np.random.Generator, split: str, counts: dict[str, int]) -> list[Caption]:
    """Distinct captions of a split, `counts[tag]` of each task, tasks in the order of `counts`."""
    found: dict[str, Caption] = {}
    for tag, n in counts.items():
        have = 0
        for _ in range(200_000):
            if have == n:
                break
            c = sample(rng, split, tag)
            if c.prompt not in found:
                found[c.prompt] = c
                have += 1
        else:
            raise ValueError(f"split {split!r} has only {have} captions of task {tag!r}; {n} were asked for")
    return list(found.values())


def distinct_held_out(rng: np.random.Generator, n: int) -> list[Caption]:
    """`n` distinct captions (colors and color_attr in turn) that each name a held-out pair."""
    found: dict[str, Caption] = {}
    while len(found) < n:
        c = draw(rng, ("colors", "color_attr")[len(found) % 2])
        if held_out(c):
            found.setdefault(c.prompt, c)
    return list(found.values())


_AXIS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


def _related(relation: str, subject: Box, reference: Box) -> bool:
    """A clear case of the relation: the offset of centres lies within 40° of the named direction."""
    dx = (subject[0] + subject[2] - reference[0] - reference[2]) / 2
    dy = (subject[1] + subject[3] - reference[1] - reference[3]) / 2
    ax, ay = _AXIS[relation]
    along = dx * ax + dy * ay
    return along > 0 and along >= 0.77 * float(np.hypot(dx, dy))


def scene(caption: Caption, rng: np.random.Generator, *, allow_held_out: bool = False) -> Scene:
    """A random scene for which the caption is true, with exactly the objects that it names.

    What the caption leaves open (colours, sizes, places, background) is drawn at random, without held-out
    pairs unless the caption names one or `allow_held_out` says so.
    """
    wanted = [c for c in caption.include for _ in range(c["count"])]
    low, high = SIZES[caption.size] if caption.size else (12, 26)
    if len(wanted) == 2:
        low, high = 14, 24
    elif len(wanted) > 2:
        low, high = 12, 18
    relation = next((c["position"][0] for c in caption.include if "position" in c), None)
    accept = (lambda boxes: _related(relation, boxes[1], boxes[0])) if relation else None
    while True:
        sizes = [int(s) for s in rng.integers(low, high + 1, len(wanted))]
        corners = place(sizes, rng, accept)
        if corners:
            break
    objects = []
    for clause, size, (x, y) in zip(wanted, sizes, corners, strict=True):
        color = clause.get("color")
        while color is None:
            color = list(COLORS)[rng.integers(len(COLORS))]
            if (clause["class"], color) in HELD_OUT and not allow_held_out:
                color = None
        objects.append(Object(clause["class"], color, size, x, y))
    background = caption.background or list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    return Scene(background, tuple(objects))


def foil(caption: Caption, rng: np.random.Generator) -> Caption | None:
    """A caption of the same grammar that is false wherever `caption` is true, by one small change.

    Swapped colours, a turned relation, another number, colour or shape: the hard negatives of composition.
    """
    for _ in range(50):
        c = draw(rng, caption.tag)
        include = [dict(x) for x in caption.include]
        exclude = caption.exclude
        if caption.tag == "color_attr" and rng.random() < 0.5:
            a, b = include[0]["color"], include[1]["color"]
            include[0]["color"], include[1]["color"] = b, a
            return _retell(caption, include, exclude)
        if caption.tag == "position" and rng.random() < 0.7:
            turned = [r for r in RELATIONS if r != include[1]["position"][0]]
            include[1]["position"] = [turned[rng.integers(3)], 0]
            return _retell(caption, include, exclude)
        if caption.tag == "counting" and rng.random() < 0.7:
            n = [k for k in NUMBERS if k != include[0]["count"]][rng.integers(2)]
            include[0]["count"] = n
            return _retell(caption, include, ({"class": include[0]["class"], "count": n + 1},))
        i = int(rng.integers(len(include)))
        key = "color" if "color" in include[i] and rng.random() < 0.5 else "class"
        value = c.include[0][key]
        if any(x.get(key) == value for x in include):
            continue
        include[i][key] = value
        if caption.tag == "counting":
            exclude = ({"class": value, "count": include[0]["count"] + 1},)
        return _retell(caption, include, exclude)
    return None


def _retell(caption: Caption, include: list[dict[str, Any]], exclude: tuple[dict[str, Any], ...]) -> Caption:
    """The caption's own carrier, size and background around changed clauses."""
    carrier = next(c for c in CARRIERS if caption.prompt.startswith(c))
    names = [(x.get("color"), x["class"]) for x in include]
    if caption.tag in ("single_object", "colors"):
        text = _phrase(caption.size, *names[0])
    elif caption.tag == "counting":
        text = f"{NUMBERS[include[0]['count']]} {PLURALS[include[0]['class']]}"
    elif caption.tag == "position":
        text = f"{_phrase(*names[1])} {include[1]['position'][0]} {_phrase(*names[0])}"
    else:
        text = f"{_phrase(*names[0])} and {_phrase(*names[1])}"
    bg = caption.background
    ground = f" on {article(bg)}{bg} background" if bg else ""
    return Caption(carrier + text + ground, caption.tag, tuple(include), exclude, bg, caption.size)


def vocabulary() -> list[str]:
    """Every word that the grammar can produce, sorted."""
    words = {"a", "an", "and", "on", "background", "of", *SIZES, *SHAPES, *PLURALS.values()}
    words |= {*COLORS, *BACKGROUNDS, *NUMBERS.values()}
    words |= {w for text in (*CARRIERS, *RELATIONS) for w in text.split()}
    return sorted(words)
