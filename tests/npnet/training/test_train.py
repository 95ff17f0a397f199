"""Training: it learns, its settings are the paper's ablations, and what it leaves says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_pairs import collection

from npnet import NPNet
from npnet.network import checkpoint
from npnet.pairs import dataset
from npnet.training.caches import World, embeddings
from npnet.training.data import choose, gather
from npnet.training.loop import Data

from .small import SMALL, farthest, losses_of, train

pytestmark = pytest.mark.usefixtures("one_thread", "no_figures")


def test_a_network_learns_what_neither_the_source_nor_its_multiple_predicts(tmp_path: Path) -> None:
    collection(tmp_path / "pairs", pairs=96, chunk=32)
    summary = train(tmp_path / "pairs", tmp_path / "out", epochs=4, network={"residual": False})
    # The move is 0.2^2 from shrinking and 0.3^2 from the prompt's shift; a constant factor explains the first only.
    assert summary["identity_mse"] == pytest.approx(0.04 + 0.09, rel=0.1)
    assert summary["scaled_mse"] == pytest.approx(0.09, rel=0.1)
    assert summary["validation_mse"] < 0.2 * summary["scaled_mse"]
    assert summary["explained"] == pytest.approx(1 - summary["validation_mse"] / summary["identity_mse"])


def test_the_first_prompt_of_a_batch_is_everybodys_under_the_released_conditioning(pairs: Path) -> None:
    chosen = choose([pairs], None)
    data = gather(chosen, limit=None, seed=0)
    world = World(say=lambda _line: None)
    prompts = embeddings(data, pairs / "cache", cached=True, world=world)
    ids = np.array([5, 6, 7])
    whole = Data(data, prompts, None, ids, ids)
    _, own = whole(ids, ids, torch.device("cpu"))
    _, first = whole(ids, ids[:1], torch.device("cpu"))
    assert own["prompt_embeds"].shape == (3, *prompts.shape)
    assert first["prompt_embeds"].shape == (1, *prompts.shape)
    assert torch.equal(first["prompt_embeds"][0], own["prompt_embeds"][0])
    assert not torch.equal(own["prompt_embeds"][1], own["prompt_embeds"][0])


def test_conditioning_changes_what_is_learnt(pairs: Path, once: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path, epochs=1, conditioning="first_of_batch")
    assert farthest(tmp_path / "last.safetensors", once / "last.safetensors") > 1e-5


@pytest.mark.parametrize(
    "network",
    [{"svd": False}, {"residual": False}, {"text": "none"}, {"text": "cross_attention"}, {"attention": False}],
)
def test_every_ablation_is_a_setting(pairs: Path, tmp_path: Path, network: dict[str, Any]) -> None:
    summary = train(pairs, tmp_path, network={**SMALL, **network}, epochs=1)
    made = NPNet.from_pretrained(tmp_path / "best.safetensors")
    assert {name: getattr(made.config, name) for name in network} == network
    assert summary["epochs"] == 1


def test_parts_of_a_batch_add_up_to_the_batch(pairs: Path, once: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path, epochs=1, accumulation=3)
    assert farthest(tmp_path / "last.safetensors", once / "last.safetensors") < 1e-4


def test_a_training_leaves_two_networks_losses_and_a_figure(trained: Path) -> None:
    rows = losses_of(trained)
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert (trained / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in trained.iterdir() if path.name.endswith(".tmp")]
    best = checkpoint.read_provenance(trained / "best.safetensors")
    assert best["epoch"] == 1 + int(np.argmin([float(row[2]) for row in rows]))
    last = checkpoint.read_provenance(trained / "last.safetensors")
    assert [pair[1] for pair in last["losses"]] == pytest.approx([float(row[2]) for row in rows], rel=1e-6)


def test_a_checkpoint_says_where_its_weights_come_from(pairs: Path, tmp_path: Path) -> None:
    rule = {"metrics": ["taste"], "threshold": 0.5}
    train(pairs, tmp_path, selection=rule, epochs=1, limit=30)
    said = checkpoint.read_provenance(tmp_path / "best.safetensors")
    planned = dataset.read_manifest(pairs)
    assert (said["model"], said["model_digest"]) == ("shapes-sdxl", planned.model_digest)
    assert said["teacher"] == [{"use": "inversion", "version": 1}]
    assert (said["selected_by"], said["thresholds"]) == (["taste"], {"taste": 0.5})
    assert said["collections"][0]["protocol"] == planned.digest()
    counts = {name: said["pairs"][name] for name in ("seen", "kept", "used")}
    assert counts == {"seen": 48, "kept": 36, "used": 30}
    assert said["pairs"]["training"] + said["pairs"]["validation"] == 30
    assert said["settings"]["batch"] == 8
    assert str(pairs.parent) not in json.dumps(said), "no folder of this machine"
