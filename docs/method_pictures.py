"""The pictures of docs/methods: what each method does to the same four images of the embedded world.

    python docs/method_pictures.py [--runs FOLDER]

Columns are the first four prompts of the suite; all images of a column began from the same prompt, seed and latent.
Rows are the plain image, the method's, and by how much they differ (white: not at all; black: 64 grey levels or more).
Methods that the embedded world leaves out have no picture.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "methods" / "pictures"
PROMPTS = 4
FULL = 64
"""The difference, in grey levels, that is drawn black."""
LABELS = {"best_of_4": "best_of_n"}
"""Arms whose label is not the method's name, and the name."""
CONTROLNET = {
    "name": "controlnet_picture",
    "models": ["shapes-sdxl"],
    "prompts": ["shapes-controlnet"],
    "samplers": ["ddim"],
    "steps": 20,
    "guidance": 5.0,
    "seeds": [0],
    "baseline": "standard",
    "methods": ["standard", {"use": "controlnet", "kind": "canny"}],
    "metrics": ["shapes-clipscore"],
}


def pictures(suite: Path | dict[str, Any], runs: Path) -> list[Path]:
    """Run a suite on the embedded world and draw each of its arms."""
    import bench
    from bench import registry

    twin = isinstance(suite, Path)
    run = bench.run(suite, twin=twin, limit=PROMPTS, runs=runs, device="cpu", threads=1)
    images = run.images.drop_duplicates(["method", "index"])
    first = images["prompts"].iloc[0]
    images = images[(images["prompts"] == first) & images["file"].notna()]
    baseline = run.results.suite.baseline
    plain = images[images["method"] == baseline].sort_values("index")
    made = []
    for arm in dict.fromkeys(images["method"]):
        name = LABELS.get(arm, arm)
        if arm == baseline or name not in registry.names("methods"):
            continue
        own = images[images["method"] == arm].sort_values("index")
        path = OUT / f"{name}.png"
        draw(baseline, name, list(plain["prompt"]), list(plain["file"]), list(own["file"]), path)
        made.append(path)
    return made


def draw(baseline: str, name: str, prompts: list[str], plain: list[str], own: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt
    from PIL import Image

    figure, axes = plt.subplots(3, len(prompts), figsize=(6.4, 5.4), layout="constrained")
    for column, (prompt, before, after) in enumerate(zip(prompts, plain, own, strict=True)):
        a, b = (np.asarray(Image.open(file).convert("RGB"), dtype=np.float64) for file in (before, after))
        # Networks of other sizes have no difference to draw.
        difference = np.abs(a - b).mean(axis=-1) if a.shape == b.shape else np.zeros(b.shape[:2])
        axes[0, column].imshow(a.astype(np.uint8), interpolation="nearest")
        axes[1, column].imshow(b.astype(np.uint8), interpolation="nearest")
        axes[2, column].imshow(difference, cmap="Greys", vmin=0, vmax=FULL, interpolation="nearest")
        words = prompt.split()
        half = (len(words) + 1) // 2
        axes[0, column].set_title(" ".join(words[:half]) + "\n" + " ".join(words[half:]), fontsize=8)
    for row, label in zip(axes[:, 0], (baseline, name, "difference"), strict=True):
        row.set_ylabel(label, fontsize=9)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw docs/methods/pictures.")
    parser.add_argument("--runs", type=Path, help="keep the runs there; default: a folder that is removed")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        for suite in (ROOT / "suites" / "methods.yaml", CONTROLNET):
            for path in pictures(suite, options.runs or Path(scratch)):
                print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
