"""What spaCy finds in T2I-CompBench's validation prompts, as places in their texts, for `bench/metrics/`.

    python tests/reference/compbench_words.py --checkout DIR [--model en_core_web_sm]

Runs in an environment with spaCy 3 and its small English model, without this project; DIR is a checkout of
Karine-Huang/T2I-CompBench. The public scorers ask spaCy at every image; its answers for the published prompts are
facts, kept once, so that a score needs no spaCy and does not depend on which one is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

SKIPPED = ("top", "the side", "the left", "the right")
BEFORE = ("on top of", "on bottom of", "on the left", "on the right", "next to", "on side of", "near")
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
ATTRIBUTES = ("color", "shape", "texture")
PLACED = ("spatial", "3d_spatial")


def span(token: Any) -> list[int]:
    return [token.idx, token.idx + len(token.text)]


def chunks(doc: Any) -> list[list[int]]:
    """The first eight noun chunks."""
    return [[c.start_char, c.end_char] for c in doc.noun_chunks if c.text not in SKIPPED][:8]


def related(doc: Any) -> list[list[int]] | None:
    """The two things on both sides of a preposition; None unless there are exactly two."""
    found = []
    for i in range(len(doc)):
        length = next((k for k in (3, 2, 1) if doc[i : i + k].text in BEFORE), None)
        if length is None:
            continue
        found += [span(t) for t in reversed(doc[:i]) if t.pos_ in ("NOUN", "PROPN")][:1]
        behind = doc[i + length :]
        after = [span(t) for t in behind if t.pos_ == "NOUN"][:1]
        if not after:
            names = [
                t for t, following in zip(behind, list(behind)[1:], strict=False)
                if t.pos_ == "PROPN" and following.pos_ != "PROPN"
            ]  # fmt: skip
            after = [span(t) for t in names][:1]
        found += after
    return found if len(found) == 2 else None


def counted(doc: Any, singular: list[str], plural: list[str]) -> list[list[Any]]:
    """(thing in the singular, how many) for every number before a known thing."""
    found: list[list[Any]] = []
    for i, token in enumerate(doc):
        if token.text not in NUMBERS or i + 1 >= len(doc):
            continue
        one, two = doc[i + 1].text, doc[i + 1 : i + 3].text if i < len(doc) - 2 else ""
        several = token.text not in ("a", "an", "one")
        if two and (two in singular or two in plural):
            if two in plural and several:
                found.append([singular[plural.index(two)], NUMBERS[token.text]])
            else:
                found.append([two, 1])
        elif one in singular and not several:
            found.append([one, 1])
        elif one in plural:
            found.append([singular[plural.index(one)], NUMBERS[token.text]])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--model", default="en_core_web_sm")
    parser.add_argument("--out", type=Path, default=Path("bench/metrics/compbench_words.json"))
    options = parser.parse_args()
    import spacy

    nlp, home = spacy.load(options.model), options.checkout / "examples" / "dataset"

    def lines(name: str) -> list[str]:
        return [text.strip() for text in (home / f"{name}.txt").read_text().splitlines() if text.strip()]

    pairs = [[part.strip().lower() for part in line.split(" - ")] for line in lines("new_objects")]
    singular, plural = [p[0] for p in pairs], [p[1] for p in pairs]
    rows: dict[str, Any] = {}
    parts = {kind: {t.split(".")[0].lower() for t in lines(f"complex_val_{kind}")} for kind in ("spatial", "action")}
    for category in (*ATTRIBUTES, *PLACED, "numeracy", "complex"):
        for text in lines(f"{category}_val"):
            doc = nlp(text)
            row: dict[str, Any] = {}
            if category in (*ATTRIBUTES, "complex"):
                row["chunks"] = chunks(doc)
            if category in PLACED:
                nouns = [span(t) for t in doc if t.pos_ == "NOUN"]
                row["things"] = [nouns[0], nouns[-1]]
            if category == "numeracy":
                row["counted"] = counted(doc, singular, plural)
            if category == "complex":
                named = text.split(".")[0].lower()
                row["things"] = related(doc)
                row["adjectives"] = [span(t) for t in doc if t.pos_ == "ADJ"]
                row["of"] = next((kind for kind, some in parts.items() if named in some), "both")
            rows.setdefault(category, {})[hashlib.sha256(text.encode()).hexdigest()[:12]] = row
    facts = {
        "about": "spaCy's words in T2I-CompBench's validation prompts, as [start, end) in each text, by sha256",
        "spacy": spacy.__version__,
        "model": f"{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}",
    }
    body = ",\n".join(
        f'"{category}": {{\n'
        + ",\n".join(f'"{key}": {json.dumps(row, separators=(",", ":"))}' for key, row in some.items())
        + "\n}"
        for category, some in rows.items()
    )
    head = json.dumps(facts)[:-1]
    options.out.write_text(f"{head},\n{body}\n}}\n")


if __name__ == "__main__":
    main()
