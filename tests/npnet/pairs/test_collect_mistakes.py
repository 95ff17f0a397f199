"""What cannot be collected is one line; pairs that are not finite are kept, counted and not selected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Plug

from bench import registry
from bench.errors import UserError
from bench.methods.inversion import Inversion
from bench.models.base import ModelEntry
from npnet import config as configs
from npnet.pairs import dataset
from npnet.pairs.collect import run
from npnet.pairs.collection import CollectConfig
from npnet.pairs.select import Rule, select

from .collecting import quiet, settings_of, together

pytestmark = pytest.mark.usefixtures("kept_models")


def empty_file(folder: Path) -> dict[str, Any]:
    (folder / "empty.txt").write_text("\n  \n")
    return {"prompts": str(folder / "empty.txt")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (empty_file, r"empty\.txt: holds no prompt; expected one a line"),
        (lambda f: {"prompts": str(f / "none.txt")}, r"none\.txt: no such prompt file"),
        (lambda f: {"pairs": 51}, r"51 pairs of 5 prompts need 11 seeds of a prompt, and seeds \[0, 9\] are 10"),
        (lambda f: {"metrics": ["shapes-geneval"]}, "metric 'shapes-geneval' needs prompts with metadata"),
        (lambda f: {"teacher": [{"use": "best_nearby"}, "inversion"]}, "'best_nearby' starts from the source noise"),
        (lambda f: {"metrics": ["human"]}, "metric 'human' is not computed"),
        (lambda f: {"steps": 1}, "inversion moves between a sampler's first two timesteps"),
        (lambda f: {"sampler": "tcd", "steps": 51}, "sampler 'tcd' takes 1 to 50 steps, not 51"),
    ],
)
def test_what_cannot_be_collected_is_one_line(
    prompts: Path, tmp_path: Path, change: Callable[[Path], dict[str, Any]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(settings_of(**{"prompts": prompts, **change(tmp_path)}), out=tmp_path / "out", device="cpu", say=quiet)


def test_another_protocol_in_out_is_refused(whole: Path, prompts: Path) -> None:
    with pytest.raises(UserError, match=r"holds a collection of another protocol \(steps 2 there, 4 here\)"):
        run(settings_of(prompts, steps=4), out=whole, device="cpu", say=quiet)


def test_a_model_whose_latent_does_not_fit_is_refused(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    plug("models", **{"shapes-sdxl": replace(entry, latent=(4, 16, 16))})
    monkeypatch.setattr(ModelEntry, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match=r"have latents \(4, 8, 8\) by its networks, and its entry says \(4, 16, 16\)"):
        run(settings_of(prompts), out=tmp_path, device="cpu", say=quiet)


def test_a_collection_of_which_no_pair_is_finite_stops_at_once(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inversion, "noise", lambda self, s, x: x * float("nan"))
    with pytest.raises(UserError, match=r"none of the first 2 pairs .* \(pair 0: 'a red circle', seed \d\)"):
        run(settings_of(prompts), out=tmp_path, device="cpu", say=quiet)
    assert not dataset.shards(tmp_path)


def test_a_pair_that_is_not_finite_is_kept_counted_and_not_selected(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN in the first batch; in the second 1e6, which is finite, but not in the half precision of the disk."""
    values = [float("nan"), 1e6]

    def noise_with_a_hole(self: Inversion, s: Any, x: torch.Tensor) -> torch.Tensor:
        target = x.clone()
        for i, prompt in enumerate(s.prompts):
            if prompt == "two squares":
                target[i, 0, 0, 0] = values.pop(0)
        return target

    monkeypatch.setattr(Inversion, "noise", noise_with_a_hole)
    said: list[str] = []
    made = settings_of(prompts, pairs=7)
    assert run(made, out=tmp_path, device="cpu", say=said.append) == 7
    assert not values
    assert [k for k, x in enumerate(together(tmp_path).target) if not np.isfinite(x).all()] == [1, 6]
    assert [line for line in said if "pair 1: 'two squares'" in line] == said[:1]
    assert said[-1].startswith("2 of them with NaN or infinity")
    kept = select(tmp_path, [Rule(metric="shapes-clipscore", threshold=-100)]).kept
    assert kept == (0, 2, 3, 4, 5)
    assert run(made, out=tmp_path, device="cpu", say=quiet) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: shapes-sdx\n", r"c\.yaml:1: unknown model 'shapes-sdx'; did you mean 'shapes-sdxl'\?"),
        ("prompts: shapes-trian\n", r"c\.yaml:2: unknown prompt set 'shapes-trian'; did you mean 'shapes-train'\?"),
        ("teacher: best_nearbi\n", r"c\.yaml:6: unknown teacher 'best_nearbi'; did you mean 'best_nearby'\?"),
        ("teacher: {use: best_nearby, angel: 1}\n", r"c\.yaml:6: unknown key 'angel'; did you mean 'angle'\?"),
        ("teacher: [inversion, {use: best_of_n, n: 1}]\n", r"c\.yaml:6: parameter 'n' of method 'best_of_n' should be"),
        ("metrics: [shapes-clip]\n", r"c\.yaml:6: unknown metric 'shapes-clip'; did you mean 'shapes-clipscore'\?"),
        ("seeds: [9, 0]\n", r"c\.yaml:6: 'seeds' should be \[lowest, highest\], got \[9, 0\]"),
        ("seeds: [0]\n", r"c\.yaml:6: 'seeds' should be \[lowest, highest\], got \[0\]"),
        ("teacher: {chain: [inversion], n: 2}\n", r"c\.yaml:6: unknown key 'n' beside 'chain'; a parameter belongs to"),
        ("teacher: {chain: inversion}\n", r"c\.yaml:6: 'chain' should be a list of methods, got 'inversion'"),
        ("teacher: {chain: []}\n", r"c\.yaml:6: 'chain' should be a list of methods, got \[\]"),
        ("pairs:\n", r"c\.yaml:3: missing key 'pairs'"),
        ("keep_image: true\n", r"c\.yaml:6: unknown key 'keep_image'; did you mean 'keep_images'\?"),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_line(text: str, said: str) -> None:
    lines = {"model": "shapes-sdxl", "prompts": "shapes-train", "pairs": "4", "sampler": "ddim", "steps": "3"}
    written = {k: f"{k}: {v}\n" for k, v in lines.items()}
    key = text.partition(":")[0]
    whole_text = "".join(text if k == key else line for k, line in written.items())
    with pytest.raises(UserError, match=said):
        configs.parse(whole_text if key in lines else whole_text + text, CollectConfig, file="c.yaml")
