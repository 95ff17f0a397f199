"""Set metrics against what the published packages said of the same networks and features (sets.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_clips as small
import small_sets as sets
import torch
from cleanfid.inception_torchscript import InceptionV3W
from stored import Vectors, found

from bench import registry
from bench.digests import file_digest
from bench.errors import UserError
from bench.metrics.checkpoint import Checkpoint
from bench.metrics.distances import Gaussian, KernelDistance, Kernelled, cubic, frechet, radial, vendi
from bench.metrics.features import ClipFeatures, DinoFeatures, FeatureScorer, InceptionFeatures, clip, dino, inception
from bench.metrics.fid import CleanFid
from bench.metrics.networks.inception import Inception, translated

pytestmark = pytest.mark.usefixtures("one_thread")

Maker = Callable[[Path, str], Path]
NETWORKS: dict[str, tuple[Maker | None, Callable[[str], Checkpoint], type[FeatureScorer], float]] = {
    "inception": (None, inception, InceptionFeatures, 1e-4),
    "dino": (sets.dino_folder, dino, DinoFeatures, 1e-5),
    "clip": (sets.clip_folder, clip, ClipFeatures, 1e-5),
}
"""By name: who makes the folder (None: `converted`), checkpoint, scorer, largest difference in features' deviations."""
FILES = found("sets")
(INCEPTION,) = (path for path in FILES if path.stem.startswith("sets-inception-"))


@cache
def state() -> dict[str, torch.Tensor]:
    """Inception's tensors, 95 MB, by pytorch-fid's names."""
    return sets.inception_state(str(Vectors(INCEPTION)["case"]), sets.inception_shapes())


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pytorch-fid's file."""
    folder = tmp_path_factory.mktemp("converted")
    torch.save(state(), folder / sets.CONVERTED)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_features_of_the_published_code(name: str, converted: Path, tmp_path: Path) -> None:
    (path,) = (p for p in FILES if p.stem.startswith(f"sets-{name}-"))
    v = Vectors(path)
    make, checkpoint, build, bar = NETWORKS[name]
    place = checkpoint(name).at(str(make(tmp_path, str(v["case"])) if make else converted))
    scorer = build(place, "cpu", "fp32")
    scorer.backoff.first = 1  # the published code is given one image at a time
    some = slice(0, 2) if name == "inception" else slice(None)  # it is of true size
    images, theirs = small.images(str(v["case"]))[some], v["features"]
    ours = scorer.features(images)
    ours = ours[:, sets.KEPT] if name == "inception" else ours
    spread = theirs.std(axis=0).mean()
    assert spread > 0.01 * np.abs(theirs).mean(), "images are distinguished"
    assert np.abs(ours - theirs[some]).max() / spread < bar
    scorer.backoff.first = 3
    together = scorer.features(images)
    together = together[:, sets.KEPT] if name == "inception" else together
    assert np.abs(together - ours).max() / spread < bar, "a row does not depend on its batch"


def test_nvidias_archive_is_read_without_running_it(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {name: value for name, value in translated(state(), of=tmp_path).items() if not name.endswith(".gamma")}
    sets.archive({**kept, "output.weight": torch.zeros(1008, 2048)}, tmp_path / sets.NVIDIA)
    monkeypatch.setattr(torch.jit, "load", None)
    image = [small.images("archive")[0]]
    read = [
        InceptionFeatures(inception("fid").at(str(folder)), "cpu").features(image) for folder in (tmp_path, converted)
    ]
    np.testing.assert_array_equal(*read)


def published(folder: Path) -> Path:
    """A TorchScript file as NVIDIA's: traced layers, of random weights."""
    network = Inception()
    network.load_state_dict(translated(state(), of=folder))

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(*network.layers.values())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    whole = Whole().eval().requires_grad_(False)
    traced: Any = torch.jit.trace(whole, torch.zeros(1, 3, 299, 299), check_trace=False)
    traced.save(str(folder / sets.NVIDIA))
    return folder / sets.NVIDIA


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, as a whole
def test_clean_fid_itself_runs_the_published_file_and_no_other(tmp_path: Path) -> None:
    v = Vectors(INCEPTION)
    file = published(tmp_path)
    given = inception("fid").at(str(tmp_path))
    pinned = replace(given, parts=(replace(given.parts[0], sha256=file_digest(file)),))
    scorer = InceptionFeatures(pinned, "cpu")
    assert isinstance(scorer.model, InceptionV3W)
    scorer.backoff.first = 1  # as clean-fid was asked
    image, theirs = small.images(str(v["case"]))[:1], v["features"]
    ours = scorer.features(image)[:, sets.KEPT]
    assert np.abs(ours - theirs[:1]).max() / theirs.std(axis=0).mean() < 1e-4
    del scorer  # or its network is shared
    with pytest.raises(UserError, match=r"lacks|unknown"):  # its tensors are named otherwise: nothing in it was run
        InceptionFeatures(given, "cpu")


def test_distances_are_those_of_the_packages() -> None:
    (path,) = (p for p in FILES if p.stem.startswith("sets-distances-"))
    v = Vectors(path)
    case = str(v["case"])
    ours, theirs = (sets.features(case, name, n, 24).astype(np.float64) for name, n in (("ours", 300), ("theirs", 260)))
    gaussian = Gaussian.of(theirs)
    found = kept(gaussian.rows(ours))
    value = frechet(found, np.ones(300))
    assert CleanFid()(found, np.ones(300)) == pytest.approx(float(v["frechet_clean_fid"]), rel=1e-6)
    assert value == pytest.approx(float(v["frechet_clean_fid"]), rel=1e-6)
    assert value == pytest.approx(float(v["frechet_torch_fidelity"]), rel=1e-6)
    rows = kept(Kernelled(theirs, cubic, unbiased=True).rows(ours[:260]))
    kid = KernelDistance(cubic, unbiased=True)(rows, np.ones(260))
    assert kid == pytest.approx(float(v["kid_torch_fidelity"]), abs=1e-7)
    assert kid == pytest.approx(float(v["kid_clean_fid"]), abs=1e-7)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs)]
    rows = kept(Kernelled(unit[1], radial, unbiased=False).rows(unit[0]))
    cmmd = KernelDistance(radial, unbiased=False, scale=1000)(rows, np.ones(300))
    assert cmmd == pytest.approx(float(v["cmmd"]), abs=1e-5)
    assert vendi(ours) == pytest.approx(float(v["vendi"]), rel=1e-9)


def kept(rows: np.ndarray) -> np.ndarray:
    """Rows as the ledger gives them back."""
    return rows.astype("<f4").astype(np.float64)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stored_file_says_where_it_comes_from(path: Path) -> None:
    v = Vectors(path)
    keys = {"repository", "commit", "file", "licence", "function", "seed", "torch", "transformers", "pillow"}
    assert keys <= v.origin.keys()
    assert not any(str(value).startswith("/") for value in v.origin.values()), "no path of the machine that made it"
    assert path.stat().st_size < 300_000


def test_every_network_and_metric_is_compared_with_a_file() -> None:
    assert {path.stem.split("-")[1] for path in FILES} >= {*NETWORKS, "distances"}
    assert {"fid", "kid", "fd_dinov2", "cmmd", "diversity", "vendi"} <= set(registry.names("metrics"))
