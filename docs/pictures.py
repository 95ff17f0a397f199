"""README's picture from the reference report's committed images: `python docs/pictures.py`.

The report's own four prompts: of the change in CLIPScore by `best_of_4` the largest gain, the median, the largest loss,
and one at random. Columns are methods; all images of a row began from the same prompt, seed and latent.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports" / "sdxl_main_twin"
OUT = ROOT / "docs" / "pictures.png"
IMAGE = re.compile(r"!\[(?P<method>[^\]]+)\]\((?P<file>images/\w+\.png)\)")


def rows() -> list[tuple[list[str], dict[str, Path]]]:
    """Each row of the report's strip: what it is, its prompt and its change; and the file by method."""
    text = (REPORT / "report.md").read_text()
    table = text[text.index("## Four prompts") :].split("\n\n")[1]
    found = []
    for row in table.split("\n")[2:]:
        words = row.removeprefix("| ").split(" | ")[0].split("<br>")
        found.append((words, {one["method"]: REPORT / one["file"] for one in IMAGE.finditer(row)}))
    return found


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    shown = rows()
    methods = list(shown[0][1])
    figure, axes = plt.subplots(len(shown), len(methods), figsize=(8.4, 6.6), layout="constrained")
    for line, ((kind, prompt, change), images) in zip(axes, shown, strict=True):
        for ax, name in zip(line, methods, strict=True):
            ax.imshow(Image.open(images[name]), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        words = prompt.split()
        half = (len(words) + 1) // 2
        label = "\n".join([kind, " ".join(words[:half]), " ".join(words[half:]), change])
        line[0].set_ylabel(label, fontsize=7, rotation=0, ha="right")
    for ax, name in zip(axes[0], methods, strict=True):
        ax.set_title(name.replace("_as_", "\nas "), fontsize=9)
    figure.savefig(OUT, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
