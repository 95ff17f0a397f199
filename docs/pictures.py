"""README's picture from the reference report's committed images: `python docs/pictures.py`.

Four of the prompts that the report shows, by a rule: of the change in CLIPScore by `best_of_4` the largest, the two in
the middle and the smallest. Columns are methods; all images of a row began from the same prompt, seed and latent.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports" / "sdxl_main_twin"
OUT = ROOT / "docs" / "pictures.png"
METHODS = ("standard", "inversion", "npnet", "best_of_4", "reseed")
CHOSEN_BY = "best_of_4"
METRIC = "shapes-clipscore"


def pairs() -> list[tuple[str, dict[str, tuple[Path, float]]]]:
    """Each prompt of the report's table of images: its text, and by method the file and the score."""
    text = (REPORT / "report.md").read_text()
    table = text[text.index("| prompt | set | seed |") :].split("\n\n")[0]
    head, _, *rows = table.strip().split("\n")
    names = [name.strip() for name in head.strip("|").split("|")]
    found = []
    for row in rows:
        cells = dict(zip(names, row.strip("|").split(" | "), strict=True))
        images = {}
        for name in METHODS:
            file, score = (
                re.search(r"\((images/\w+\.png)\)", cells[name]),
                re.search(rf"{METRIC} (-?[\d.]+)", cells[name]),
            )
            assert file is not None
            assert score is not None
            images[name] = REPORT / file[1], float(score[1])
        found.append((cells["prompt"].strip(), images))
    return found


def shown() -> list[tuple[str, dict[str, tuple[Path, float]]]]:
    """The four prompts of the picture."""
    ranked = sorted(pairs(), key=lambda pair: pair[1]["standard"][1] - pair[1][CHOSEN_BY][1])
    middle = len(ranked) // 2
    return [ranked[0], ranked[middle - 1], ranked[middle], ranked[-1]]


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    rows = shown()
    figure, axes = plt.subplots(len(rows), len(METHODS), figsize=(8.4, 7.0), layout="constrained")
    for line, (prompt, images) in zip(axes, rows, strict=True):
        for ax, name in zip(line, METHODS, strict=True):
            ax.imshow(Image.open(images[name][0]), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(f"CLIPScore {images[name][1]:.2f}", fontsize=8)
        words = prompt.split()
        half = (len(words) + 1) // 2
        line[0].set_ylabel(" ".join(words[:half]) + "\n" + " ".join(words[half:]), fontsize=8)
    for ax, name in zip(axes[0], METHODS, strict=True):
        ax.set_title(name, fontsize=10)
    figure.savefig(OUT, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
