"""Reference cards: the shipped ones are whole and hold here, and `doctor --metrics` says where a scorer differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call
from reference import card_images, small_blip
from reference import small_clips as small

from bench import registry
from bench.catalogue import cards
from bench.store.images import read_png

pytestmark = pytest.mark.usefixtures("one_thread")
EMBEDDED = ("shapes-aesthetic", "shapes-clipscore", "shapes-geneval", "shapes-preference")
SEEDED: dict[str, Callable[[Path, str], Path]] = {"hpsv2": small.hps_folder, "imagereward": small_blip.reward_folder}


def test_the_images_are_small_and_follow_from_their_script() -> None:
    made = card_images.made()
    assert len(made) == len(cards.shown()) >= 8
    for (pixels, row), one in zip(made, cards.shown(), strict=True):
        assert (row["prompt"], row["kind"]) == (one.prompt.text, one.kind)
        if one.kind == cards.SCENES:
            np.testing.assert_array_equal(pixels, one.pixels)
        else:
            # Another processor's sine may round a grey level the other way.
            assert np.abs(pixels.astype(int) - one.pixels).max() <= 1
    assert sum(path.stat().st_size for path in cards.IMAGES.iterdir()) < 200_000


def test_every_shipped_card_is_of_these_images_and_tells_them_apart() -> None:
    shipped = {path.stem for path in cards.FOLDER.glob("*.json")}
    assert shipped >= {*EMBEDDED, *SEEDED}
    for name in shipped:
        for card in cards.read(name):
            assert card.images == cards.images_digest(), f"{name}: python -m bench doctor --metrics {name} --record"
            values = [v for v in card.values if v is not None]
            assert len(card.values) == len(cards.shown())
            assert np.isfinite(values).all()
            assert np.ptp(values) > 100 * card.tolerance


def test_the_embedded_scorers_hold_their_cards() -> None:
    done = call("doctor", "--metrics", *EMBEDDED)
    assert done.code == 0, done.out
    assert [line.split()[:2] for line in done.out.splitlines()] == [["ok", f"{name}:"] for name in EMBEDDED]


@pytest.mark.parametrize("name", SEEDED)
def test_our_scorer_says_what_the_original_package_said(name: str, tmp_path: Path) -> None:
    (card,) = (c for c in cards.read(name) if c.digest is None)
    assert card.by.startswith("the package ")
    folder = SEEDED[name](tmp_path, card.checkpoint.rpartition(" ")[2])
    found = cards.values(registry.get("metrics", name).configured(str(folder), "fp32"), "cpu")
    # A batch moves the last bits, and the package takes one image at a time.
    assert cards.apart(card, found) <= 2e-6 < card.tolerance


def test_a_value_that_differs_is_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "shapes-clipscore.json"
    shutil.copy(cards.FOLDER / path.name, path)
    written = json.loads(path.read_text())
    written["cards"][0]["values"][2] += 3 * written["cards"][0]["tolerance"]
    path.write_text(json.dumps(written))
    done = call("doctor", "--metrics", "shapes-clipscore", "shapes-geneval", "--cards", tmp_path)
    assert done.code == 1
    first, second = done.out.splitlines()
    assert first.startswith("differs  shapes-clipscore: ")
    assert "largest difference 0.0006" in first
    assert second.startswith("note     shapes-geneval: no card for this checkpoint")
    written["cards"][0]["values"][2] = None
    path.write_text(json.dumps(written))
    assert call("doctor", "--metrics", "shapes-clipscore", "--cards", tmp_path).code == 1, "a value that is missing"
    written["cards"][0]["images"] = "other"
    path.write_text(json.dumps(written))
    done = call("doctor", "--metrics", "shapes-clipscore", "--cards", tmp_path)
    assert done.code == 3, "nothing was compared"
    assert "its card is of other images" in done.out
    path.write_text('{"metric": "shapes-clipscore", "cards": [{}]}')
    done = call("doctor", "--metrics", "shapes-clipscore", "--cards", tmp_path)
    assert done.code == 2
    assert "not a file of reference cards" in done.error


def test_a_card_is_recorded_for_the_users_own_checkpoint(tmp_path: Path) -> None:
    folder = small.hps_folder(tmp_path / "hps", "recorded")
    command = ("doctor", "--metrics", f"hpsv2={folder}", "--cards", tmp_path / "cards")
    assert call(*command).code == 3
    done = call(*command, "--record")
    assert (done.code, done.out.split()[0]) == (0, "wrote"), done.err
    assert call(*command).code == 0
    assert call(*command, "--dtype", "bf16").code == 3, "another precision has a card of its own"
    assert call(*command, "--dtype", "bf16", "--record").code == 0
    kept = cards.read("hpsv2", tmp_path / "cards")
    assert [card.precision for card in kept] == ["fp32", "bf16"]
    assert cards.apart(kept[0], kept[1].values) > kept[0].tolerance, "precisions differ by more than machines do"
    assert call(*command, "--record").code == 0
    assert len(cards.read("hpsv2", tmp_path / "cards")) == 2, "the same checkpoint's card is replaced"
    other = small.hps_folder(tmp_path / "other", "another")
    assert call("doctor", "--metrics", f"hpsv2={other}", "--cards", tmp_path / "cards").code == 3
    together = call("doctor", "--metrics", "shapes-clipscore", "mps")
    assert together.code == 3, "one of the named was not compared"
    assert together.out.startswith("ok ")


def test_scorers_that_are_not_here_are_one_line_each_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("BENCH_ENVIRONMENTS", str(tmp_path))
    done = call("doctor", "--metrics", "hpsv2", "imagereward")
    assert done.code == 3
    lines = done.out.splitlines()
    assert [line.split()[:2] for line in lines] == [["missing", "hpsv2:"], ["missing", "imagereward:"]]
    assert all("python -m bench fetch" in line and "=FOLDER" in line for line in lines)
    done = call("doctor", "--metrics", "hpsv2", "--implementation", "package")
    assert "python -m bench env make hpsv2" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metrics", "hpsv9"], "unknown metric 'hpsv9'"),
        (["--metrics", "hpsv2=/no/such"], "no such folder"),
        (["--metrics", "shapes-clipscore", "--cards", __file__], "give another --cards FOLDER"),
        (["--metrics", "--record"], "name the metrics"),
        (["--record"], "are of doctor --metrics"),
        (["--metrics", "shapes-clipscore", "--dtype", "bf16"], "takes neither checkpoint nor dtype"),
    ],
)
def test_what_cannot_be_checked_is_reported(arguments: list[str], said: str) -> None:
    done = call("doctor", *arguments)
    assert done.code == 2
    assert said in done.error


def test_a_metric_of_pairs_compares_an_image_with_the_next(tmp_path: Path) -> None:
    entry: Any = registry.get("metrics", "mps").configured(str(small.mps_folder(tmp_path, "cards")), "fp32")
    found = cards.values(entry, "cpu")
    pixels, prompts = [s.pixels for s in cards.shown()], [s.prompt for s in cards.shown()]
    (expected,) = entry.loaded("cpu").score_pairs([pixels[3]], [pixels[2]], [prompts[2]])
    assert found[2] == pytest.approx(expected.value, abs=1e-6)
    assert read_png(cards.IMAGES / "02.png", advice="").shape == (64, 64, 3)
