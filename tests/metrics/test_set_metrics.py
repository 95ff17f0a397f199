"""Set metrics by closed forms, their references, and their settings in a suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cleanfid.fid import frechet_distance
from PIL import Image

from bench import registry, suite
from bench.analysis.sets import Sets, exchange_p
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint
from bench.metrics.distances import (
    Gaussian,
    KernelDistance,
    Kernelled,
    OverPrompts,
    cubic,
    frechet,
    radial,
    spread,
    vendi,
)
from bench.metrics.features import set_entry
from bench.metrics.fid import CleanFid
from bench.metrics.references import Reference

KID, CMMD = KernelDistance(cubic, unbiased=True), KernelDistance(radial, unbiased=False, scale=1000)


def drawn(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def rows_of(which: str, features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rows beside a reference, by metric."""
    placing: dict[str, Callable[[], Any]] = {
        "frechet": lambda: Gaussian.of(reference),
        "kid": lambda: Kernelled(reference, cubic, unbiased=True),
        "cmmd": lambda: Kernelled(reference, radial, unbiased=False),
    }
    return placing[which]().rows(features)


VALUES: dict[str, Callable[..., float]] = {"frechet": frechet, "kid": KID, "cmmd": CMMD}


# Closed forms --------------------------------------------------------------------------------------------------------


def test_the_frechet_distance_of_gaussians_that_share_axes_is_that_of_their_deviations() -> None:
    """||m - m'||² + Σ (s - s')² where both covariances are diagonal; of a sample, by its own mean and covariance."""
    x = drawn(400, 3, 0)
    x = np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(399)  # mean 0 and covariance 1, exactly
    features = x * [3.0, 1.0, 0.5] + [1.0, 2.0, 0.0]
    rows = Gaussian(np.zeros(3), np.diag([1.0, 4.0, 0.25])).rows(features)
    assert frechet(rows, np.ones(400)) == pytest.approx(5 + 4 + 1 + 0, rel=1e-9)


def test_a_set_is_at_no_distance_from_itself() -> None:
    x = drawn(200, 6, 1)
    assert frechet(rows_of("frechet", x, x), np.ones(200)) == pytest.approx(0, abs=1e-9)
    assert CMMD(rows_of("cmmd", x, x), np.ones(200)) == pytest.approx(0, abs=1e-9)


def test_fewer_images_than_features_are_no_trouble_to_the_root() -> None:
    """The trace of the root of a singular product, by the nuclear norm; scipy's root of it is no help here."""
    few, many = drawn(5, 40, 2), drawn(300, 40, 3)
    a, b = np.cov(few, rowvar=False), np.cov(many, rowvar=False)
    w, v = np.linalg.eigh(b)
    half = v @ np.diag(np.sqrt(w)) @ v.T
    root = np.sqrt(np.linalg.eigvalsh(half @ a @ half).clip(0)).sum()
    expected = ((few.mean(0) - many.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root
    assert frechet(rows_of("frechet", few, many), np.ones(5)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # clean-fid's
def test_fid_is_clean_fids_own_distance_and_by_weights_that_of_repeated_images() -> None:
    features, reference = drawn(60, 12, 30) * 1.3, drawn(80, 12, 31) + 0.2
    mean, spread = reference.mean(axis=0), np.cov(reference, rowvar=False)
    weights = np.random.default_rng(32).integers(0, 4, 60).astype(np.float64)
    rows = rows_of("frechet", features, reference)
    for times in (np.ones(60), weights):
        set_ = np.repeat(features, times.astype(int), axis=0)
        theirs = frechet_distance(set_.mean(axis=0), np.cov(set_, rowvar=False), mean, spread)
        assert frechet(rows, times) == pytest.approx(theirs, rel=1e-6)
        assert CleanFid()(rows, times) == pytest.approx(theirs, rel=1e-6)
    singular = rows_of("frechet", drawn(7, 12, 33), drawn(7, 12, 34))  # a root may have an imaginary part
    assert CleanFid()(singular, np.ones(7)) == pytest.approx(frechet(singular, np.ones(7)), abs=1e-3)


@pytest.mark.parametrize(("n", "d", "step"), [(60, 8, 1e-4), (9, 20, 2e-3)])
def test_an_images_influence_is_the_derivative_of_the_distance_by_its_weight(n: int, d: int, step: float) -> None:
    rows = rows_of("frechet", drawn(n, d, 40), 1.5 * drawn(80, d, 41) + 0.2)
    found = frechet.influence(rows)
    steps = step * np.eye(n)
    slopes = np.array([(frechet(rows, 1 + s) - frechet(rows, 1 - s)) / (2 * step) for s in steps])
    np.testing.assert_allclose(
        found, n * (slopes - slopes.mean()), atol=(1e-6 if n > d else 1e-4) * np.abs(found).max()
    )
    assert found.mean() == pytest.approx(0, abs=1e-12 * np.abs(found).max())


def test_kid_is_unbiased_and_cmmd_is_not() -> None:
    """Over many pairs of sets of one distribution, KID's mean is zero within its error; a biased one is above."""
    kid, biased = [], []
    plain = KernelDistance(cubic, unbiased=False)
    for seed in range(200):
        x, y = drawn(20, 4, 2 * seed + 10_000), drawn(20, 4, 2 * seed + 10_001)
        kid.append(KID(rows_of("kid", x, y), np.ones(20)))
        biased.append(plain(Kernelled(y, cubic, unbiased=False).rows(x), np.ones(20)))
    assert abs(np.mean(kid)) < 4 * np.std(kid) / 200**0.5
    assert np.mean(biased) > 10 * np.std(biased) / 200**0.5
    assert min(kid) < 0, "an unbiased estimate of nothing is below zero half the time"


def test_cmmd_of_two_points_is_the_kernels_closed_form() -> None:
    x, y = np.zeros((4, 2)), np.full((3, 2), 10.0)
    expected = 1000 * (2 - 2 * np.exp(-200 / 200))
    assert CMMD(rows_of("cmmd", x, y), np.ones(4)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", VALUES)
def test_weights_are_repeated_rows(name: str) -> None:
    features, reference = drawn(30, 5, 4), drawn(50, 5, 5) + 0.3
    weights = np.random.default_rng(6).integers(0, 4, 30).astype(np.float64)
    rows = rows_of(name, features, reference)
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    one, other = VALUES[name](rows, weights), VALUES[name](repeated, np.ones(len(repeated)))
    assert one == pytest.approx(other, rel=1e-9)
    assert one != pytest.approx(VALUES[name](rows, np.ones(30)), rel=1e-3)


@pytest.mark.parametrize("name", VALUES)
def test_rows_in_single_precision_keep_the_value(name: str) -> None:
    rows = rows_of(name, drawn(300, 16, 7), drawn(280, 16, 8) + 0.2)
    kept = rows.astype("<f4").astype(np.float64)
    exact = VALUES[name](rows, np.ones(300))
    assert VALUES[name](kept, np.ones(300)) == pytest.approx(exact, rel=1e-5)


# Diversity -----------------------------------------------------------------------------------------------------------


def test_vendi_counts_what_differs() -> None:
    assert vendi(np.tile([[1.0, 2.0, 3.0]], (5, 1))) == pytest.approx(1)
    assert vendi(np.eye(6) * 7) == pytest.approx(6)
    assert vendi(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3), "copies add nothing"
    assert np.isnan(vendi(np.ones((1, 3))))


def test_spread_is_the_mean_of_all_pairs() -> None:
    x = drawn(7, 4, 9)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for i in range(7) for j in range(i)]
    assert spread(x) == pytest.approx(np.mean(pairs))
    assert spread(np.eye(2)) == pytest.approx(1)


def test_diversity_is_of_each_prompt_and_a_prompt_drawn_twice_counts_twice() -> None:
    features = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1], [1, 0]])  # equal; at right angles; alone
    groups = np.array([7, 7, 3, 3, 5])
    of = OverPrompts(spread)
    assert of(features, np.ones(5), groups) == pytest.approx(0.5), "a prompt with one image says nothing"
    assert of(features, np.array([1.0, 1, 2, 2, 1]), groups) == pytest.approx(2 / 3)
    assert of(features, np.array([3.0, 3, 0, 0, 0]), groups) == pytest.approx(0)
    assert np.isnan(of(features[4:], np.ones(1), groups[4:]))
    copies = np.repeat(features, 2, axis=0), np.repeat([0, 1], 5)
    assert of(copies[0][:4], np.ones(4), np.zeros(4, int)) == 0, "other features are not answered from memory"


def collapsing(name: str = "some-diversity") -> MetricEntry:
    return MetricEntry(
        name, title=name, unit="", load=None, identify=str, kind="set", value=OverPrompts(spread), by_prompt=True,
        resamples=200,
    )  # fmt: skip


def test_a_method_that_makes_one_image_of_a_prompt_is_found_out() -> None:
    rng, texts = np.random.default_rng(3), np.repeat(np.arange(30), 4)
    plain = rng.standard_normal((120, 8))
    collapsed = np.repeat(plain[::4], 4, axis=0) + 0.1 * rng.standard_normal((120, 8))
    found = Sets().compare({"complete": True}, collapsing(), collapsed, plain, texts)
    assert found["n_prompts"] == 30
    assert found["high"] < -0.5
    assert found["p"] < 0.01
    same = rng.standard_normal((120, 8))
    assert exchange_p(collapsing(), same, plain, texts) > 0.05
    once = Sets().value(collapsing(), plain, np.arange(120))
    assert once == "compares the images of one prompt, and no prompt has two"


# Intervals and tests of Fréchet distances ----------------------------------------------------------------------------

DISTANCE = MetricEntry("some-distance", title="", unit="", load=None, identify=str, kind="set", value=frechet, fewest=4)
WIDE = Gaussian(np.zeros(6), np.diag([4.0, 2, 1, 1, 0.5, 0.2]))


def prompts_of_two(k: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Rows of two images for each of k prompts, which share a part; beside `WIDE`."""
    own = np.repeat(drawn(k, 6, 2 * seed), 2, axis=0)
    return WIDE.rows(own + drawn(2 * k, 6, 2 * seed + 1) + shift)


def test_the_interval_of_a_frechet_distance_holds_its_value_at_this_number_of_images_95_times_of_100() -> None:
    texts = np.repeat(np.arange(80), 2)
    found = [Sets().value(DISTANCE, prompts_of_two(80, seed), texts) for seed in range(200)]
    intervals = [f for f in found if f is not None]
    expected = np.mean([f.estimate for f in intervals])
    covered = np.mean([f.low <= expected <= f.high for f in intervals])
    assert len(intervals) == 200
    assert 0.90 <= covered <= 0.99  # 95 % within three errors, and a little for prompts that are few


def test_arms_that_do_not_differ_are_found_to_differ_5_times_of_100_and_others_mostly() -> None:
    texts = np.repeat(np.arange(30), 2)
    p = [exchange_p(DISTANCE, prompts_of_two(30, s), prompts_of_two(30, s + 500), texts) for s in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1
    moved = [exchange_p(DISTANCE, prompts_of_two(30, s, 1.0), prompts_of_two(30, s + 500), texts) for s in range(20)]
    assert np.mean(np.array(moved) <= 0.05) > 0.8
    same = prompts_of_two(30, 1)
    assert exchange_p(DISTANCE, same, same, texts) == 1


class Counted:
    """The mean of the first feature, and how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, features: np.ndarray, weights: np.ndarray) -> float:
        self.asked += 1
        return float(weights @ features[:, 0] / weights.sum())


def test_what_a_named_number_says_of_features_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    value, texts = Counted(), np.arange(12)
    entry = replace(DISTANCE, name="counted", value=value, resamples=100)
    a, b = drawn(12, 2, 50), drawn(12, 2, 51)
    first = Sets().compare({"complete": True}, entry, a, b, texts), Sets().value(entry, a, texts)
    alone = value.asked
    again = Sets().compare({"complete": True}, entry, a, b, texts), Sets().value(entry, a, texts)
    assert (again, value.asked) == (first, 2 * alone), "a value without a name may change its code"
    value.identity = "counted-1"  # type: ignore[attr-defined]
    kept = [(Sets().compare({"complete": True}, entry, a, b, texts), Sets().value(entry, a, texts)) for _ in range(2)]
    assert kept == [first, first]
    named = value.asked
    assert named < 3 * alone
    for path in (tmp_path / "sets").rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:20])  # cut short
    assert Sets().value(entry, a, texts) == first[1]
    assert value.asked > named
    before = value.asked
    Sets().value(entry, a + 1, texts)
    assert value.asked > before, "other features"


# References ----------------------------------------------------------------------------------------------------------


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
