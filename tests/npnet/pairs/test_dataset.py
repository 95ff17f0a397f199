"""Noise pairs on disk: what is written is read, and what was damaged is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from noise_pairs import PROMPTS, collection, protocol, shrunk

from bench.errors import UserError
from npnet.pairs import dataset


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "no JSON object"),
        ('{"schema": 1}', "no 'protocol'"),
        ('{"schema": 1, "protocol": {"model": "sdxl"}}', "model_digest: Field required"),
        ('{"schema": 9, "protocol": {}}', "schema 9, this version reads 1"),
    ],
)
def test_a_manifest_that_is_none_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=rf"manifest\.json: .*{said}") as raised:
        dataset.read(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_lost_manifest_is_written_again_and_keeps_the_shards(tmp_path: Path) -> None:
    planned = collection(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"delete it and run the same npnet collect again, which keeps the shards"):
        dataset.read(tmp_path)
    (tmp_path / "manifest.json").unlink()
    dataset.write_manifest(tmp_path, planned)
    assert [len(shard) for shard in dataset.read(tmp_path)[1]] == [16, 16, 16]


def test_a_file_is_not_a_collection(tmp_path: Path) -> None:
    (tmp_path / "pairs").touch()
    with pytest.raises(UserError, match=r"pairs: not a collection of noise pairs \(no manifest\.json\)"):
        dataset.read(tmp_path / "pairs")


def test_a_folder_without_pairs_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a collection of noise pairs \(no manifest.json\)"):
        dataset.read(tmp_path)
    dataset.write_manifest(tmp_path, protocol())
    with pytest.raises(UserError, match="no pairs there yet"):
        dataset.read(tmp_path)


def as_before(path: Path) -> None:
    """A shard as schema 1 had it: the digest covers the tensors alone."""
    import hashlib

    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in sorted(file.keys())}
    h = hashlib.sha256()
    for name, tensor in tensors.items():
        h.update(f"{name} {tensor.dtype} {tensor.shape}\0".encode() + tensor.tobytes())
    save_file(tensors, path, {**metadata, "schema": "1", "digest": h.hexdigest()})


def test_shards_of_the_first_schema_are_read_as_they_were(tmp_path: Path) -> None:
    collection(tmp_path, pairs=32)
    path = dataset.shard_path(tmp_path, 0)
    new, written = list(dataset.read(tmp_path)[1]), path.read_bytes()
    as_before(path)
    assert path.read_bytes() != written
    old = list(dataset.read(tmp_path)[1])
    for name in ("prompts", "metric_digests", "calls"):
        assert getattr(old[0], name) == getattr(new[0], name)
    np.testing.assert_array_equal(old[0].target, new[0].target)
    dataset.write_shard(tmp_path, protocol(pairs=32), 0, old[0])
    assert path.read_bytes() == written, "as npnet score leaves it"


@pytest.mark.parametrize(
    ("said", "instead"), [(b"a red circle", b"a red sphere"), (b'taste\\": \\"1', b'taste\\": \\"2')]
)
def test_a_prompt_or_a_scorer_that_was_changed_is_noticed(tmp_path: Path, said: bytes, instead: bytes) -> None:
    collection(tmp_path, pairs=16)
    path = dataset.shard_path(tmp_path, 0)
    assert path.read_bytes().count(said) == 1
    path.write_bytes(path.read_bytes().replace(said, instead))
    with pytest.raises(UserError, match="its content is not what was written"):
        list(dataset.read(tmp_path)[1])


@pytest.mark.parametrize("name", ["pairs-000001.safetensors", "pairs-000009.safetensors", "pairs-0 (copy).safetensors"])
def test_a_shard_under_another_shards_name_is_reported(tmp_path: Path, name: str) -> None:
    collection(tmp_path, only=[0])
    dataset.shard_path(tmp_path, 0).rename(tmp_path / name)
    with pytest.raises(UserError, match=r"holds pairs 0 to 15, and its name says (pairs 16 to 31|none of this)"):
        list(dataset.read(tmp_path)[1])


def test_a_newer_shard_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "SHARD_SCHEMA", 3)
        collection(tmp_path, pairs=16)
    with pytest.raises(UserError, match="shard schema '3', this version reads 1 to 2; use the version that wrote it"):
        list(dataset.read(tmp_path)[1])


def test_a_shard_that_cannot_be_opened_is_not_to_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    collection(tmp_path, pairs=16)
    monkeypatch.setattr("safetensors.safe_open", refuse)
    with pytest.raises(UserError, match=r"pairs-000000\.safetensors: cannot be read \(.*Too many open files\)$"):
        list(dataset.read(tmp_path)[1])


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    collection(tmp_path / "a", only=[0])
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot be written \(.*\); give another --out$"):
            dataset.write_manifest(out, protocol())
        with pytest.raises(UserError, match=r"cannot be written \(.*\); give another --out$"):
            dataset.merge([tmp_path / "a"], out)
