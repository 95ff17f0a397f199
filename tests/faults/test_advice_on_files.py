"""What messages about files advise is done here and helps: models, scorers, networks, noise pairs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from noise_pairs import collection, protocol

from bench.errors import UserError
from bench.metrics.checkpoint import Checkpoint, Part
from bench.models.base import check_folder
from npnet import NPNet, NPNetConfig
from npnet.network.checkpoint import read
from npnet.pairs import dataset
from npnet.pairs.select import Rule, read_selection, select, write_selection
from npnet.training.data import choose
from npnet.training.settings import SelectionSettings


def said(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as raised:
        act()
    return str(raised.value)


# Models and scorers --------------------------------------------------------------------------------------------------


def test_a_model_that_is_put_back_is_whole(tmp_path: Path) -> None:
    """As it is by installing or training it again."""
    weights, card = tmp_path / "model.safetensors", tmp_path / "card.json"
    weights.write_bytes(b"weights")
    card.write_text(json.dumps({"files": {weights.name: hashlib.sha256(b"weights").hexdigest()}}))
    whole = card.read_text()
    for file, content in ((weights, b"others"), (weights, None), (card, b"{")):
        before = file.read_bytes()
        file.unlink() if content is None else file.write_bytes(content)
        assert re.search("reinstall or train (it|the model) again", said(lambda: check_folder(tmp_path)))
        file.write_bytes(before)
        check_folder(tmp_path)
    assert card.read_text() == whole


def test_the_file_that_is_to_be_deleted_is_the_one_behind_the_hubs_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the link alone the hub's library would link the same file again."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit, good = "f" * 40, b"weights as published"
    blob = tmp_path / "models--someone--scorer" / "blobs" / "b10b"
    link = blob.parents[1] / "snapshots" / commit / "w.bin"
    for folder in (blob.parent, link.parent):
        folder.mkdir(parents=True)
    blob.write_bytes(b"others")
    link.symlink_to(blob)
    part = Part("w.bin", source="someone/scorer", revision=commit, sha256=hashlib.sha256(good).hexdigest())
    scorer = Checkpoint("mine", (part,))
    line = said(lambda: scorer.path("w.bin"))
    assert "is not the published w.bin" in line
    assert "delete it and fetch it again" in line
    named = Path(line.split(": ", 1)[1].split(" is not ")[0])
    assert named == blob.resolve()
    named.unlink()
    assert "is not on this machine and cannot be fetched" in said(lambda: scorer.path("w.bin")), "it is looked for"
    named.write_bytes(good)
    assert scorer.path("w.bin").read_bytes() == good


# NPNet's networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [lambda data: data[:-100], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:300]],
    ids=["cut", "a bit", "the beginning"],
)
def test_a_network_that_is_copied_or_made_again_is_read(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    network = NPNet(NPNetConfig.small(width=8, depth=1))
    file = network.save_pretrained(tmp_path / "net.safetensors")
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    assert "copy or make it again" in said(lambda: read(file))
    file.write_bytes(whole)
    read(file)
    file.write_bytes(whole[:100])
    network.save_pretrained(file)
    read(file)


# Noise pairs ---------------------------------------------------------------------------------------------------------


def kept(folder: Path) -> int:
    return sum(len(shard) for shard in dataset.read(folder)[1])


def test_a_manifest_is_deleted_and_written_again_and_the_shards_are_kept(tmp_path: Path) -> None:
    collection(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text()[:50])
    assert "delete it and run the same npnet collect again" in said(lambda: dataset.read_manifest(tmp_path))
    manifest.unlink()
    dataset.write_manifest(tmp_path, protocol())  # what collecting starts with
    assert kept(tmp_path) == 48


def test_a_shard_under_another_name_is_given_its_own_again_or_deleted(tmp_path: Path) -> None:
    collection(tmp_path, only=[0])
    own = dataset.shard_path(tmp_path, 0)
    wrong = own.rename(dataset.shard_path(tmp_path, 1))
    assert "give it its own name again, or delete it" in said(lambda: kept(tmp_path))
    wrong.rename(own)
    assert kept(tmp_path) == 16
    wrong.write_bytes(own.read_bytes())
    wrong.unlink()
    assert kept(tmp_path) == 16


def test_of_two_shards_that_differ_one_is_kept(tmp_path: Path) -> None:
    collection(tmp_path / "a", only=[0])
    collection(tmp_path / "b", only=[0], seed=1)
    out = tmp_path / "all"
    dataset.merge([tmp_path / "a"], out)
    assert "keep the one you trust and delete the other" in said(lambda: dataset.merge([tmp_path / "b"], out))
    dataset.shard_path(out, 0).unlink()
    assert dataset.merge([tmp_path / "b"], out) == 1


def test_pairs_that_are_not_finite_are_left_out_by_a_selection(tmp_path: Path) -> None:
    collection(tmp_path, broken={5: float("nan")})
    line = said(lambda: choose([tmp_path], None))
    assert "train with a selection, which drops such pairs, or delete the shard" in line
    (chosen,) = choose([tmp_path], SelectionSettings(metrics=("taste",)))
    assert len(chosen.places)
    assert 5 not in chosen.scores.index[chosen.places]
    dataset.shard_path(tmp_path, 0).unlink()
    assert len(choose([tmp_path], None)[0].places) == 32


def test_a_selection_that_does_not_fit_is_made_again(tmp_path: Path) -> None:
    collection(tmp_path / "c")
    file = tmp_path / "selected.json"
    settings = SelectionSettings(file=(file,))
    again = lambda: write_selection(file, select(tmp_path / "c", [Rule(metric="taste", threshold=0.0)]))  # noqa: E731
    assert "make one with npnet select --out" in said(lambda: read_selection(file))
    file.write_text("{}")
    assert "make one with npnet select --out" in said(lambda: read_selection(file))
    again()
    before = len(choose([tmp_path / "c"], settings)[0].places)
    dataset.shard_path(tmp_path / "c", 2).unlink()
    assert "select again" in said(lambda: choose([tmp_path / "c"], settings))
    again()
    assert 0 < len(choose([tmp_path / "c"], settings)[0].places) < before
