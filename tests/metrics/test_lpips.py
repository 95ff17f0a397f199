"""LPIPS diversity: features whose squared distances are LPIPS's, by the public package; files that are others."""

from __future__ import annotations

import itertools
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference.small_clips import drawn

from bench import registry
from bench.analysis.sets import Sets
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.lpips import mean_squared_distance
from bench.metrics.networks.alexnet import CHANNELS, AlexNet, channel_weights, vectors

pytestmark = pytest.mark.usefixtures("one_thread")
ALEXNET, WEIGHTS = "alexnet-owt-7be5be79.pth", "alex.pth"
PUBLIC = [0.81316555, 0.75927281, 1.22758722, 0.96711248, 0.9286108, 1.35648155]
"""lpips 0.1.4 (v0.1, `net="alex"`) of all pairs of `pictures()` at 64 pixels, with the weights of `folder`."""


def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Random weights by the names of both published files; about half of the channels have weight 0."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in AlexNet().state_dict().items()}
    net = {name: drawn("lpips", name, s) * (2**0.5 if len(s) > 1 else 1) for name, s in shapes.items()}
    net["classifier.6.bias"] = torch.zeros(1000)  # not asked for, and not the only one of its layers
    rows = {
        f"lin{i}.model.1.weight": drawn("lpips", f"lin{i}", (1, c, 1, 1)).clamp(min=0) * c**0.5
        for i, c in enumerate(CHANNELS)
    }
    return net, rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lpips")
    for name, state in zip((ALEXNET, WEIGHTS), states(), strict=True):
        torch.save(state, place / name)
    return place


def pictures() -> list[np.ndarray]:
    """Noise, smooth colours at other sizes and shapes, and black, of which some places have no active channel."""
    rng = np.random.default_rng(5)
    coarse = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(2)]
    sizes = ((64, 64), (200, 130))
    smooth = [np.asarray(c.resize(s, Image.Resampling.BICUBIC)) for c, s in zip(coarse, sizes, strict=True)]
    return [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), *smooth, np.zeros((64, 64, 3), np.uint8)]


def metric(folder: Path, dtype: str = "fp32") -> MetricEntry:
    entry: MetricEntry = registry.get("metrics", "lpips_diversity").configured(str(folder), dtype)
    return entry


def features(entry: MetricEntry, images: list[np.ndarray]) -> np.ndarray:
    scorer: Any = entry.loaded("cpu")
    found: np.ndarray = scorer.features(images, [])
    return found


def distances(rows: np.ndarray) -> list[float]:
    """Of all pairs, one by one."""
    wide = rows.astype(np.float64)
    return [float(((wide[i] - wide[j]) ** 2).sum()) for i, j in itertools.combinations(range(len(wide)), 2)]


def test_distances_are_those_of_the_public_package(folder: Path) -> None:
    assert distances(features(metric(folder), pictures())) == pytest.approx(PUBLIC, rel=0, abs=1e-6)


def test_distances_are_the_papers_equation_at_any_size(folder: Path) -> None:
    """Σ over layers of the mean over places of Σ_c w_c (f_c - f'_c)², in double precision."""
    net, rows = states()
    network, weights = AlexNet.of(net, folder / ALEXNET), channel_weights(rows, folder / WEIGHTS)
    x = drawn("lpips", "pixels", (2, 3, 70, 99)) * 100
    with torch.no_grad():
        layers = network(x)
        a, b = vectors(layers, weights)
    assert [layer.shape[1] for layer in layers] == list(CHANNELS)
    total = 0.0
    for layer, weight in zip(layers, weights, strict=True):
        unit = torch.nn.functional.normalize(layer.double(), dim=1)
        total += float(((unit[0] - unit[1]) ** 2 * weight.double()[:, None, None]).sum(0).mean())
    assert total > 0.1
    assert float(((a - b) ** 2).sum()) == pytest.approx(total, rel=1e-5)


def test_the_value_is_the_mean_of_all_pairs_of_a_prompt_and_then_of_prompts(folder: Path) -> None:
    rows = features(metric(folder), [*pictures(), *pictures()[:2]])
    prompts = np.array([0, 0, 0, 0, 1, 1])
    value: Any = metric(folder).value
    expected = [np.mean(distances(rows[prompts == p])) for p in (0, 1)]
    assert mean_squared_distance(rows[:4]) == pytest.approx(expected[0], rel=1e-9)
    assert value(rows, np.ones(6), prompts) == pytest.approx(np.mean(expected), rel=1e-9)
    found = Sets().value(metric(folder), rows, prompts)
    assert found is not None
    assert found.estimate == pytest.approx(np.mean(expected), rel=1e-9)


def test_equal_images_are_at_no_distance_and_one_image_has_none(folder: Path) -> None:
    one = pictures()[1]
    assert mean_squared_distance(features(metric(folder), [one, one, one])) == 0
    assert np.isnan(mean_squared_distance(features(metric(folder), [one])))


def test_a_row_does_not_depend_on_its_batch_and_has_no_channel_of_weight_zero(folder: Path) -> None:
    together = features(metric(folder), pictures())
    alone = np.concatenate([features(metric(folder), [image]) for image in pictures()])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    sides = (15, 7, 3, 3, 3)
    counted = [int((row > 0).sum()) for row in states()[1].values()]
    assert sum(counted) < 0.7 * sum(CHANNELS)
    assert together.shape[1] == sum(n * side**2 for n, side in zip(counted, sides, strict=True))


def test_half_precision_is_near_and_another_digest(folder: Path) -> None:
    exact, half = (np.array(distances(features(metric(folder, d), pictures()))) for d in ("fp32", "bf16"))
    assert 1e-6 < np.abs(exact - half).max() < 0.02 * exact.max()
    assert metric(folder, "bf16").digest() != metric(folder).digest()


def test_the_digest_follows_the_weights_of_channels(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert metric(copy).digest() == metric(folder).digest() != registry.get("metrics", "lpips_diversity").digest()
    rows = states()[1]
    torch.save({name: 2 * value for name, value in rows.items()}, copy / WEIGHTS)
    assert metric(copy).digest() != metric(folder).digest()
    doubled = distances(features(metric(copy), pictures()))
    assert doubled == pytest.approx(2 * np.array(PUBLIC), rel=0, abs=2e-6)


class Code:
    """What a file that runs code holds."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (Path("ran"), "x"))


def _changed(which: int, name: str, value: torch.Tensor | None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        state = states()[which]
        state.pop(name)
        torch.save(state if value is None else {**state, name: value}, path)

    return write


@pytest.mark.parametrize(
    ("file", "write", "said"),
    [
        (ALEXNET, _changed(0, "features.10.bias", None), "it lacks features.10.bias"),
        (ALEXNET, _changed(0, "features.0.weight", torch.zeros(64, 3, 3, 3)), r"features.0.weight is \(64, 3, 3, 3\)"),
        (WEIGHTS, _changed(1, "lin4.model.1.weight", None), "it lacks lin4"),
        (WEIGHTS, _changed(1, "lin0.model.1.weight", torch.full((1, 64, 1, 1), -1.0)), "0 or more"),
        (WEIGHTS, _changed(1, "lin2.model.1.weight", torch.full((1, 384, 1, 1), float("nan"))), "0 or more"),
        (WEIGHTS, lambda path: path.write_bytes(pickle.dumps(Code())), "nothing in it was executed|not a file of weig"),
        (ALEXNET, lambda path: path.write_bytes(b"PK\x03\x04"), "truncated, or not a file of weights"),
    ],
)
def test_another_file_is_refused_in_one_line(
    file: str, write: Callable[[Path], None], said: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    write(copy / file)
    with pytest.raises(UserError, match=said) as caught:
        metric(copy).loaded("cpu")
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_published_files_are_pinned_by_digest() -> None:
    entry: MetricEntry = registry.get("metrics", "lpips_diversity")
    sources: list[Any] = [need.source for need in entry.needs()]
    assert [source.path.name for source in sources] == [ALEXNET, WEIGHTS]
    assert sources[0].sha256.startswith("7be5be79"), "torchvision's name of the file says it"
    assert all(len(source.sha256) == 64 for source in sources)
