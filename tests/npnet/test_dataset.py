"""Noise pairs on disk: what is written is read, and what was damaged is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from noise_pairs import PROMPTS, collection, protocol, shrunk

from bench.errors import UserError
from npnet import dataset


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = collection(tmp_path, pairs=40)
    found, shards = dataset.read(tmp_path)
    assert found == written
    shards = list(shards)
    assert [len(shard) for shard in shards] == [16, 16, 8]
    assert np.concatenate([shard.index for shard in shards]).tolist() == list(range(40))
    assert shards[1].prompts == tuple(PROMPTS[i % 24] for i in range(16, 32))
    expected = shrunk(shards[0].source.astype(np.float32), shards[0].prompts)
    assert np.abs(shards[0].target - expected).max() < 2e-3, "half precision"
    assert shards[0].scores["taste"][:4].tolist() == [[0, 1], [0, 1], [0, 1], [1, 0]]


def test_every_field_of_the_protocol_decides_its_digest() -> None:
    plain = protocol()
    changes = {"guidance": 1.0, "steps": 5, "seeds": (0, 9), "teacher": ({"use": "reseed"},), "pairs": 9}
    digests = {protocol(**{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {plain.digest()}) == len(changes) + 1


@pytest.mark.parametrize("at", [20, 4000, -1])
def test_a_damaged_shard_is_named_and_never_read(tmp_path: Path, at: int) -> None:
    collection(tmp_path, pairs=16)
    path = dataset.shard_path(tmp_path, 0)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError) as raised:
        list(dataset.read(tmp_path)[1])
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_another_collection_does_not_begin_in_the_same_folder(tmp_path: Path) -> None:
    collection(tmp_path, pairs=16)
    with pytest.raises(UserError, match=r"another protocol \(guidance 5\.0 there, 1\.0 here\)"):
        dataset.write_manifest(tmp_path, protocol(pairs=16, guidance=1.0))


def test_folders_of_one_collection_merge_and_those_of_two_do_not(tmp_path: Path) -> None:
    collection(tmp_path / "a", only=[0, 1])
    collection(tmp_path / "b", only=[1, 2])
    assert dataset.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all") == 3
    assert [len(shard) for shard in dataset.read(tmp_path / "all")[1]] == [16, 16, 16]
    collection(tmp_path / "c", only=[2], seed=1)
    with pytest.raises(UserError, match="differ; keep the one you trust"):
        dataset.merge([tmp_path / "c"], tmp_path / "all")


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": 9, "protocol": {}}'])
def test_a_manifest_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: ") as raised:
        dataset.read(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_folder_without_pairs_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a collection of noise pairs \(no manifest.json\)"):
        dataset.read(tmp_path)
    dataset.write_manifest(tmp_path, protocol())
    with pytest.raises(UserError, match="no pairs there yet"):
        dataset.read(tmp_path)
