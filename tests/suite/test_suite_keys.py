"""The one line that a mistake in a key or a value of a suite gets."""

from __future__ import annotations

import pytest
from stand_ins import (
    LINES,
    changed,
    lacks,
    refused,
)
from stand_ins import plugins as plugins

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.mark.parametrize(
    ("old", "new", "at", "facts"),
    [
        ("steps: 50", "setps: 50", 4, ["unknown key 'setps'", "did you mean 'steps'?"]),
        ("steps: 50", "gate: []", 4, ["unknown key 'gate'", "did you mean 'gates'?"]),
        ("models: [sdxl]", "modles: [sdxl]", 1, ["unknown key 'modles'", "did you mean 'models'?"]),
        ("models: [sdxl]\n", "", 1, ["missing", "'models'"]),
        ("models: [sdxl]\nprompts: [drawbench, hpd]\n", "", 1, ["missing", "'models'", "'prompts'"]),
        ("samplers: [ddim]\n", "", 1, ["missing", "'samplers'"]),
        ("metrics: [hpsv2, clipscore]\n", "", 1, ["missing", "'metrics'"]),
        ("baseline: standard\n", "", 1, ["missing", "'baseline'"]),
        ("models: [sdxl]", "models: [sdxk]", 1, ["unknown model 'sdxk'", "did you mean 'sdxl'?"]),
        ("hpd]", "hpb]", 2, ["unknown prompt 'hpb'", "did you mean 'hpd'?"]),
        ("[ddim]", "[dimm]", 3, ["unknown sampler 'dimm'", "did you mean 'ddim'?"]),
        (
            "[hpsv2, clipscore]",
            "\n  - hpsv2\n  - clipscor",
            15,
            ["unknown metric 'clipscor'", "did you mean 'clipscore'?"],
        ),
        ("- inversion", "- inverson", 10, ["unknown method 'inverson'", "did you mean 'inversion'?"]),
        ("use: best_of_n", "use: best_of", 11, ["unknown method 'best_of'", "did you mean 'best_of_n'?"]),
        ("- inversion", "- [ays,\n     inverson]", 11, ["unknown method 'inverson'", "did you mean 'inversion'?"]),
        ("- inversion", "- {chain: [ays, {use: as}]}", 10, ["unknown method 'as'", "did you mean 'ays'?"]),
        ("models: [sdxl]", "models: sdxl", 1, ["'models'", "a list", "got 'sdxl'"]),
        ("models: [sdxl]", "models:", 1, ["'models'", "a list", "got nothing"]),
        ("models: [sdxl]", "models: []", 1, ["'models' is empty", "at least one"]),
        ("models: [sdxl]", "models: [sdxl, 3]", 1, ["'models.1'", "text", "got 3"]),
        ("[hpsv2, clipscore]", "[]", 13, ["'metrics' is empty", "at least one"]),
        ("seeds: [0]", "seeds: []", 6, ["'seeds' is empty", "at least one"]),
        ("steps: 50", "steps: []", 4, ["'steps' is empty", "at least one"]),
        ("models: [sdxl]", "models: [sdxl, sdxl]", 1, ["duplicate", "model 'sdxl'"]),
        ("[hpsv2, clipscore]", "[hpsv2, hpsv2]", 13, ["duplicate", "metric 'hpsv2'"]),
        ("seeds: [0]", "seeds: [0, 1, 0]", 6, ["duplicate", "seed 0"]),
        ("steps: 50", "steps: [50, 50]", 4, ["duplicate", "steps 50"]),
        ("- inversion", "- standard", 10, ["duplicate", "label 'standard'"]),
        ("steps: 50", "steps: twenty", 4, ["'steps'", "whole number", "got 'twenty'"]),
        ("steps: 50", "steps: 2.5", 4, ["'steps'", "whole number", "got 2.5"]),
        ("steps: 50", "steps: yes", 4, ["'steps'", "whole number", "got true"]),
        ("steps: 50", "steps: 0", 4, ["'steps'", "greater than or equal to 1,", "got 0"]),
        ("steps: 50", "steps: [20, 1001]", 4, ["'steps.1'", "less than or equal to 1000,", "got 1001"]),
        ("guidance: 5.5", "guidance: high", 5, ["'guidance'", "a number", "got 'high'"]),
        ("guidance: 5.5", "guidance: 101", 5, ["'guidance'", "less than or equal to 100,", "got 101"]),
        ("seeds: [0]", "seeds: [-1]", 6, ["'seeds.0'", "greater than or equal to 0,", "got -1"]),
        ("seeds: [0]", "seeds: 2147483648", 6, ["'seeds'", "less than or equal to 2147483647,", "got 2147483648"]),
        ("seeds: [0]", "seeds: {from: 3, to: 1}", 6, ["'seeds'", "upwards", "from 3 to 1"]),
        ("seeds: [0]", "seeds: {from: 3}", 6, ["missing", "'to'"]),
        ("seeds: [0]", "seeds: {from: 0, too: 9, to: 9}", 6, ["unknown key 'too'", "did you mean 'to'?"]),
        ("seeds: [0]", "seeds: {from: 0, to: 100000}", 6, ["'seeds'", "at most 100000,", "got 100001"]),
        ("seeds: [0]", "batch_size: 0", 6, ["'batch_size'", "whole number from 1", "auto", "got 0"]),
        ("seeds: [0]", "images_per_prompt: x", 6, ["'images_per_prompt'", "whole number", "got 'x'"]),
        ("seeds: [0]", "name: My Suite", 6, ["'name'", "'^[a-z0-9_-]+$'", "got 'My Suite'"]),
        ("seeds: [0]", "title: 12", 6, ["'title'", "text", "got 12"]),
        (
            "baseline: standard",
            "baseline: standrd",
            7,
            ["baseline 'standrd'", "not a method", "did you mean 'standard'?"],
        ),
    ],
)
def test_one_mistake(old: str, new: str, at: int, facts: list[str]) -> None:
    assert lacks(refused(changed(old, new)), at, *facts) == []


def test_the_first_mistake_by_line_is_reported_and_the_others_are_counted() -> None:
    text = LINES.replace("inversion", "inverson").replace("steps", "setps").replace("hpsv2", "hpsv3") + "seeds: 1\n"
    assert lacks(refused(text), 4, "'setps'", "did you mean 'steps'?", "3 more") == []


def test_a_key_written_twice_does_not_hide_an_earlier_mistake() -> None:
    text = changed("steps", "setps") + "seeds: 1\n"
    assert lacks(refused(text), 4, "'setps'", "did you mean 'steps'?", "1 more") == []


@pytest.mark.parametrize("key", ["limit", "twin", "notes", "source_text"])
def test_what_the_command_line_decides_is_no_key_of_a_file(key: str) -> None:
    assert lacks(refused(f"{LINES}{key}: 1\n"), 14, f"unknown key {key!r}") == []
