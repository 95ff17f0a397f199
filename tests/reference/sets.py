"""Vectors of the set metrics: what clean-fid, torch-fidelity and the published codes say of small random networks.

    python tests/reference/sets.py --dinov2 CHECKOUT --dgm CHECKOUT --cmmd CHECKOUT [--seed N] [--out DIR]

It needs clean-fid, torch-fidelity, vendi-score and scikit-learn beside torchvision and open-clip-torch. Checkouts are
work trees of facebookresearch/dinov2, layer6ai-labs/dgm-eval and sayakpaul/cmmd-pytorch. Networks and images are
`small_sets` and `small_clips`, so each file holds features or values only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import small_clips as small
import small_sets as sets
import torch
from PIL import Image
from public_code import VECTORS, write

N, M, D = 300, 260, 24
"""Images of the two sets that distances are of, and features."""


def inception(case: str, folder: Path, _given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """clean-fid's extractor of mode `clean` on a TorchScript file, which is its own other network with our weights."""
    import cleanfid.inception_pytorch as public
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    # Its constructor downloads; what it would download is what is exchanged.
    public.load_state_dict_from_url = lambda *_, **__: sets.inception_state(case, sets.inception_shapes())
    net = public.InceptionV3([3], resize_input=False, normalize_input=False).eval()

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(*(layer for block in net.blocks for layer in block))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    torch.jit.trace(Whole().eval(), torch.zeros(1, 3, 299, 299)).save(str(folder / sets.NVIDIA))
    extractor = InceptionV3W(str(folder), download=False)
    resize = build_resizer("clean")
    found = [
        extractor(torch.from_numpy(resize(image).transpose(2, 0, 1))[None])[0].numpy() for image in small.images(case)
    ]
    return {"features": np.stack(found)[:, sets.KEPT]}, package("clean-fid", "MIT", "InceptionV3W, build_resizer")


def dino(case: str, _folder: Path, given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """DINOv2's own class, on what dgm-eval's transform makes of the images."""
    sys.path.insert(0, str(given.dinov2))
    sys.path.insert(0, str(given.dgm / "dgm_eval"))
    from dinov2.models.vision_transformer import DinoVisionTransformer

    d = sets.DINO
    net = DinoVisionTransformer(
        img_size=d["patch"] * d["places"], patch_size=d["patch"], embed_dim=d["width"], depth=d["layers"],
        num_heads=d["heads"], init_values=1.0, block_chunks=0, interpolate_offset=0.1, interpolate_antialias=False,
    ).eval()  # fmt: skip
    net.load_state_dict(sets.dino_state(case))
    transform = transform_of(given.dgm / "dgm_eval" / "models" / "dinov2.py")
    found = [net(transform(Image.fromarray(image))[None].float())[0].numpy() for image in small.images(case)]
    return {"features": np.stack(found)}, checkout(given.dinov2, "dinov2/models/vision_transformer.py", "Apache-2.0")


def transform_of(file: Path) -> Any:
    """dgm-eval's `DINOv2Encoder.transform`, out of its package, which imports much else."""
    import ast

    tree = ast.parse(file.read_text())
    method = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "transform")
    import torchvision.transforms as transforms

    names: dict[str, Any] = {"np": np, "TF": transforms}
    exec(compile(ast.Module([method], []), file.name, "exec"), names)

    class Plain:
        clean_resize = False

    return lambda picture: names["transform"](Plain(), picture)


def clip(case: str, folder: Path, given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """cmmd-pytorch's embeddings, its own reading of images before them."""
    sys.path.insert(0, str(given.cmmd))
    import embedding
    import io_util

    sets.clip_folder(folder, case)
    place = folder / "clip-vit-large-patch14-336"
    size = {"height": small.SIDE, "width": small.SIDE}
    from transformers import CLIPImageProcessor

    CLIPImageProcessor(crop_size=size, size={"shortest_edge": small.SIDE}).save_pretrained(place)
    embedding._CLIP_MODEL_NAME = str(place)
    model = embedding.ClipEmbeddingModel()
    found = []
    for i, image in enumerate(small.images(case)):
        alone = folder / f"images{i}"
        alone.mkdir()
        Image.fromarray(image).save(alone / "0.png")
        found.append(io_util.compute_embeddings_for_dir(str(alone), model, 1)[0])
    return {"features": np.stack(found)}, checkout(given.cmmd, "embedding.py, io_util.py", "Apache-2.0")


def distances(case: str, _folder: Path, given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Distances of two sets of features: each package's own function."""
    from cleanfid import fid
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd
    from vendi_score import vendi

    sys.path.insert(0, str(given.cmmd))
    import distance

    ours, theirs = sets.features(case, "ours", N, D), sets.features(case, "theirs", M, D)
    wide = [x.astype(np.float64) for x in (ours, theirs)]
    mu, sigma = [x.mean(axis=0) for x in wide], [np.cov(x, rowvar=False) for x in wide]
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in wide]
    cubic = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None,
             "kid_kernel_poly_coef0": 1.0}  # fmt: skip
    same = wide[0][:M]  # torch-fidelity compares sets of one size
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in wide]
    return {
        "frechet_clean_fid": fid.frechet_distance(mu[0], sigma[0], mu[1], sigma[1]),
        "frechet_torch_fidelity": fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"],
        "kid_torch_fidelity": kernel_mmd(same, wide[1], **cubic),
        # A subset as large as the sets is the sets: no draw is left in it.
        "kid_clean_fid": fid.kernel_distance(same, wide[1], num_subsets=1, max_subset_size=M),
        "cmmd": float(distance.mmd(unit[0], unit[1])),
        "vendi": vendi.score_dual(wide[0]),
    }, package("clean-fid", "MIT", "frechet_distance, kernel_distance") | {
        "and": "torch-fidelity 0.4.0 (Apache-2.0), vendi-score 0.0.3 (MIT), cmmd-pytorch (Apache-2.0)"
    }  # fmt: skip


def package(name: str, licence: str, function: str) -> dict[str, Any]:
    return {"repository": name, "commit": version(name), "file": name, "licence": licence, "function": function}


def checkout(folder: Path, file: str, licence: str) -> dict[str, Any]:
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    commit = done.stdout.strip() or (folder / "COMMIT").read_text().strip()
    return {"repository": folder.name, "commit": commit, "file": file, "licence": licence, "function": "features"}


MADE = {"inception": inception, "dino": dino, "clip": clip, "distances": distances}


def main(argv: list[str] | None = None) -> None:
    """Write one file a network, and one of distances."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("dinov2", "dgm", "cmmd"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", choices=MADE, action="append", help="these alone")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other networks and images")
    parser.add_argument("--out", type=Path, default=VECTORS, metavar="DIR", help="where the .npz files go")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name in given.only or MADE:
        case = f"sets-{name}/{given.seed}"
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            arrays, origin = MADE[name](case, Path(folder), given)
        origin |= {"seed": given.seed, "transformers": version("transformers"), "pillow": version("pillow")}
        origin["torchvision"] = version("torchvision").split("+")[0]
        write(given.out, f"sets-{name}-seed{given.seed}", origin, {**arrays, "case": np.array(case)})


if __name__ == "__main__":
    main()
