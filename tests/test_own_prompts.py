"""Prompt sets of the user's own, and the control images that their prompts carry."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Bench
from PIL import Image
from suite_texts import ANY_PROMPTS, suite_text, write_suite

from bench import registry, suite
from bench.errors import UserError
from bench.prompts import own
from bench.prompts.control import ControlImage


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_line_is_a_prompt_with_all_that_it_carries(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "set.jsonl",
        {"prompt": " a red car\u2028", "category": "cars", "metadata": {"tag": "colors"}},
        "",
        {"prompt": "a dog", "control": {"canny": "edges/1.png", "depth": "./depth/1.png"}},
        {"prompt": "a cat", "control": "any.png"},
    )
    car, dog, cat = own.read(path)
    assert (car.index, car.text, car.category, car.metadata) == (0, "a red car", "cars", {"tag": "colors"})
    assert (dog.index, dog.control_image("depth").path) == (1, tmp_path / "depth" / "1.png")
    assert cat.control_image("canny") == cat.control_image("pose") == ControlImage(tmp_path / "any.png")
    with pytest.raises(UserError, match="no control image of kind 'pose' \\(it carries canny, depth\\)"):
        dog.control_image("pose")
    with pytest.raises(UserError, match="no control image of kind 'canny' \\(it carries none\\)"):
        car.control_image("canny")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a red car", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "expected a JSON object, got [1]"),
        ({"prompts": "x"}, "unknown key 'prompts'; did you mean 'prompt'?"),
        ({"prompt": "  "}, "'prompt' should be text that is not empty"),
        ({"category": "x"}, "'prompt' should be text that is not empty, got null"),
        ({"prompt": "x", "category": 3}, "'category' should be text, got 3"),
        ({"prompt": "x", "metadata": []}, "'metadata' should be a JSON object, got []"),
        ({"prompt": "x", "control": []}, "'control' should be a path, or paths by kind"),
        ({"prompt": "x", "control": {}}, "'control' should be a path, or paths by kind"),
        ({"prompt": "x", "control": {"canny": 3}}, "'control' should name a file, got 3"),
        ({"prompt": "x", "control": "a\0b"}, "'control' should name a file"),
        ({"prompt": "x", "control": "../secret.png"}, "leads out of the folder of the prompt set"),
        ({"prompt": "x", "control": {"canny": "a/../../secret.png"}}, "leads out of the folder"),
        ({"prompt": "x", "control": "/etc/passwd"}, "leads out of the folder"),
        ({"prompt": "x", "control": "link/secret.png"}, "leads out of the folder"),
    ],
)
def test_a_mistake_is_reported_with_file_and_line(row: Any, said: str, tmp_path: Path) -> None:
    home = tmp_path / "set"
    home.mkdir()
    (home / "link").symlink_to(tmp_path)
    path = lines(home / "set.jsonl", {"prompt": "fine"}, "", row)
    with pytest.raises(UserError) as caught:
        own.read(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"), [(b"\n \n", "no prompts there"), (b"\xff\xfe", ":1: UTF-16 text; save it as UTF-8")]
)
def test_a_file_without_prompts_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_bytes(data)
    with pytest.raises(UserError, match=said):
        own.read(tmp_path / "set.jsonl")
    with pytest.raises(UserError, match="no such file; expected a line for each prompt"):
        own.read(tmp_path / "none.jsonl")


@pytest.mark.usefixtures("whole_report")
def test_a_suite_names_a_file_in_the_place_of_a_set(tmp_path: Path, bench: Bench) -> None:
    path = lines(tmp_path / "mine.jsonl", {"prompt": "a red circle"}, {"prompt": "two blue squares"})
    write_suite(tmp_path / "mine.yaml", ANY_PROMPTS, prompts=[str(path)])
    done = bench("run", tmp_path / "mine.yaml", "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "runs").iterdir()
    found = json.loads((folder / "results.json").read_text())
    assert {a["prompts"] for a in found["arms"]} == {"*", str(path)}
    assert "two blue squares" in (folder / "report.html").read_text()


def test_a_file_with_a_mistake_is_refused_where_the_suite_names_it(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", {"prompt": ""})
    with pytest.raises(UserError, match=rf"^s.yaml:4: {path}:1: 'prompt' should be text"):
        suite.parse(suite_text(prompts=[str(path)]), file="s.yaml")
    with pytest.raises(UserError, match=r"unknown prompt 'mine\.json'"):
        suite.parse(suite_text(prompts=["mine.json"]), file="s.yaml")


def test_the_set_of_control_images_is_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    entry = registry.get("prompts", "controlnet")
    with pytest.raises(UserError, match=r"controlnet/prompts.jsonl: missing, and there is no public file of it"):
        entry.read()
    (tmp_path / "controlnet").mkdir()
    lines(tmp_path / "controlnet" / "prompts.jsonl", {"prompt": "a dog", "control": {"canny": "1.png"}})
    (prompt,) = entry.read()
    assert prompt.control_image("canny").path == tmp_path / "controlnet" / "1.png"


# Images --------------------------------------------------------------------------------------------------------------


def picture(path: Path, mode: str = "RGB", side: int = 8) -> ControlImage:
    Image.fromarray(np.arange(side * side * 3, dtype=np.uint8).reshape(side, side, 3)).convert(mode).save(path)
    return ControlImage(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_an_image_of_the_right_size_is_read_in_rgb(mode: str, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", mode)
    image.check((8, 8), of="it")
    image.check(None, of="it")
    assert (image.read().mode, image.read().size) == ("RGB", (8, 8))


def test_an_image_that_does_not_serve_is_refused_in_one_line(tmp_path: Path) -> None:
    fine = picture(tmp_path / "fine.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(fine.path.read_bytes()[:-30])
    (tmp_path / "text.png").write_text("%!PS-Adobe-3.0 EPSF-3.0")
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    wrong = {
        ControlImage(tmp_path / "none.png"): "no such file; put the image there",
        ControlImage(tmp_path): "not readable; expected one of PNG, JPEG, WEBP",
        ControlImage(tmp_path / "text.png"): "not readable; expected one of PNG, JPEG, WEBP",
        ControlImage(broken): "broken \\(",
        ControlImage(tmp_path / "deep.png"): "mode I;16; save it with 8 bits a channel",
        picture(tmp_path / "alpha.png", "RGBA"): "mode RGBA; save it .* without transparency",
        picture(tmp_path / "wide.png", side=16): r"is 16x16 \(height x width\), and it makes 8x8; give one",
    }
    for image, said in wrong.items():
        with pytest.raises(UserError, match=said) as caught:
            image.check((8, 8), of="it")
        assert str(caught.value).startswith(f"control image {image.path}")
        assert "\n" not in str(caught.value)


def test_an_image_is_the_one_that_was_planned_with(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png").pinned()
    assert image == ControlImage(tmp_path / "a.png").pinned()
    assert image.read().size == (8, 8)
    picture(tmp_path / "a.png", "L")
    os.utime(tmp_path / "a.png", ns=(1, 1))
    with pytest.raises(UserError, match="has changed since the run was planned"):
        image.read()
    assert ControlImage(tmp_path / "a.png").pinned().digest != image.digest
