"""References of set metrics: folders of images, files of statistics, wrong ones, and how a suite names one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_rows import drawn
from PIL import Image

from bench import registry, suite
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint
from bench.metrics.distances import frechet
from bench.metrics.features import set_entry
from bench.metrics.references import Reference


class Means:
    """A network of three features: the means of the channels."""

    fitting: Any = None

    def __init__(self, *_: Any) -> None:
        self.asked = 0

    def features(self, images: Any, prompts: Any = ()) -> np.ndarray:
        self.asked += len(images)
        return np.stack([image.mean(axis=(0, 1)) for image in images]).astype(np.float32)


ROW = MetricEntry("means", title="", unit="", load=None, identify=str, kind="set", value=frechet, fewest=4)
EMPTY = Checkpoint("means", ())


def entry(**more: Any) -> MetricEntry:
    build: Any = Means
    return set_entry(replace(ROW, **more), build, EMPTY, against=lambda s: s.gaussian())


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    (folder / "n01440764").mkdir(parents=True)
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / "n01440764" / f"{i}.{'JPEG' if i % 2 else 'png'}")
    return folder


def test_a_metric_with_a_reference_is_refused_without_one_and_takes_it(photographs: Path) -> None:
    with pytest.raises(UserError, match=r"'means' compares with a reference: write \{use: means, reference: FOLDER\}"):
        entry().check_built()
    referring = entry().configured(None, "fp32", reference=str(photographs))
    referring.check_here()
    rows = referring.loaded("cpu").features([np.full((5, 5, 3), 9, np.uint8)], [])  # type: ignore[union-attr]
    assert rows.shape == (1, 6)
    assert entry().digest() != referring.digest()


def test_a_metric_without_a_reference_takes_none() -> None:
    with pytest.raises(UserError, match="'hpsv2' takes no reference"):
        registry.get("metrics", "hpsv2").configured(None, "fp32", reference="x")


def test_the_digest_is_of_the_references_content_and_not_of_its_place(photographs: Path) -> None:
    def digest() -> str:
        return entry().configured(None, "fp32", reference=str(photographs)).digest()

    first = digest()
    moved = photographs.rename(photographs.parent / "elsewhere")
    (moved / "n01440764").rename(moved / "named-otherwise")
    assert entry().configured(None, "fp32", reference=str(moved)).digest() == first
    Image.new("RGB", (4, 4)).save(moved / "another.png")
    assert entry().configured(None, "fp32", reference=str(moved)).digest() != first


def test_features_of_a_folder_are_taken_once(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, network = Reference("means", str(photographs), 4), Means()
    first = reference.statistics(network.features, "means-taken-once")
    again = reference.statistics(network.features, "means-taken-once")
    assert network.asked == 6
    np.testing.assert_array_equal(first.features, again.features)
    reference.statistics(network.features, "another-network")
    assert network.asked == 12


def test_clean_fids_files_serve_as_references(photographs: Path, tmp_path: Path) -> None:
    network = Means()
    features = Reference("means", str(photographs), 4).statistics(network.features, "means").features.astype(np.float64)
    np.savez(tmp_path / "fid.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    np.savez(tmp_path / "kid.npz", feats=features)
    folder, fid, kid = (
        Reference("means", str(place), 4).statistics(network.features, "means")
        for place in (photographs, tmp_path / "fid.npz", tmp_path / "kid.npz")
    )
    x = drawn(10, 3, 1)
    expected = frechet(folder.gaussian().rows(x), np.ones(10))
    for other in (fid, kid):
        assert frechet(other.gaussian().rows(x), np.ones(10)) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(UserError, match="has mu and sigma, but this metric needs the features of every image"):
        fid.every()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p, "nothing is there"),
        (lambda p: p.mkdir() or p, "it holds 0 images; expected a folder of images"),
        (lambda p: _text(p.with_suffix(".txt")), "a file .txt; expected a folder of images, or an .npz file"),
        (lambda p: _text(p.with_suffix(".npz")), "it does not load"),
        (lambda p: _saved(p, mu=np.zeros(4), sigma=np.eye(4)), "its mu is of shape (4,)"),
        (lambda p: _saved(p, mu=np.zeros(3)), "it has neither mu and sigma nor feats"),
        (lambda p: _saved(p, feats=np.zeros((2, 3))), "it holds 2 images"),
        (lambda p: _saved(p, mu=np.full(3, np.nan), sigma=np.eye(3)), "not finite"),
        (lambda p: _saved(p, mu=np.array([{}], object), sigma=np.eye(3)), "it does not load"),
        (lambda p: _broken(p), "does not decode"),
    ],
)
def test_a_wrong_reference_is_one_line(make: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    place = make(tmp_path / "reference")
    reference = Reference("means", str(place), 4)
    with pytest.raises(UserError) as caught:
        reference.statistics(Means().features, "means-wrong")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _text(path: Path) -> Path:
    path.write_text("no statistics")
    return path


def _saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    return path.with_suffix(".npz")


def _broken(path: Path) -> Path:
    path.mkdir()
    for i in range(4):
        (path / f"{i}.png").write_bytes(b"\x89PNG\r\n")
    return path


# Suites --------------------------------------------------------------------------------------------------------------

TEXT = """\
name: fishes
models: [shapes-sdxl]
prompts: [shapes-geneval]
samplers: [ddim]
steps: 2
baseline: standard
methods: [standard, reseed]
metrics:
  - {use: fid, reference: photographs}
"""


def test_a_suite_names_the_reference_and_keeps_its_id_without() -> None:
    made = suite.parse(TEXT, file="fishes.yaml")
    assert made.scorers["fid"].reference == "photographs"
    assert suite.Suite.model_validate(made.model_dump(mode="json")) == made
    plain = suite.parse(TEXT.replace(", reference: photographs", ", dtype: bf16"), file="fishes.yaml")
    assert "reference" not in plain.canonical()
    assert plain.id != made.id
    assert suite.parse(TEXT, file="fishes.yaml", twin=True).metrics == ("shapes-fid",)
    with pytest.raises(UserError, match=r"fishes.yaml:9: metric 'vendi' takes no reference"):
        suite.parse(TEXT.replace("use: fid", "use: vendi"), file="fishes.yaml")


def test_the_papers_numbers_of_images_are_enough_and_fewer_are_not() -> None:
    fewest = {name: registry.get("metrics", name).fewest for name in ("fid", "fd_dinov2", "kid", "cmmd")}
    assert fewest == {"fid": 2048, "fd_dinov2": 1024, "kid": 100, "cmmd": 100}
    assert all(not registry.get("metrics", name).higher_is_better for name in fewest)
