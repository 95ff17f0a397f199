"""Which pairs a training takes: sides of prompts, limits, selections, several collections, shards read from disk."""

from __future__ import annotations

import importlib
import mmap
import os
import resource
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from noise_pairs import PROMPTS, collection
from own_forks import done_in_a_fork

from bench.errors import UserError
from npnet.pairs import dataset, mapped
from npnet.pairs.select import Rule, select, write_selection
from npnet.training.caches import World, embeddings, singular_values
from npnet.training.data import Pairs, SelectionSettings, choose, gather, split

from .small import train

pytestmark = pytest.mark.usefixtures("one_thread", "no_figures")


def sides(data: Pairs, validation: float = 0.25) -> tuple[set[str], set[str]]:
    """The prompts to train on and those to validate on."""
    training, other = split(data, validation=validation, seed=0)
    assert sorted([*training, *other]) == list(range(len(data)))
    return {data.prompts[data.prompt[i]] for i in training}, {data.prompts[data.prompt[i]] for i in other}


def test_no_prompt_is_on_both_sides_and_it_keeps_its_side(pairs: Path) -> None:
    """Whatever the limit and the selection are; here every subset is drawn by another seed of the limit."""
    chosen = choose([pairs], None)
    training, validation = sides(gather(chosen, limit=None, seed=0))
    assert not training & validation
    assert training | validation == set(PROMPTS)
    moved = 0
    for seed in range(30):
        for limit in (2, 3, 5, 10, 20, 40):
            fewer_training, fewer_validation = sides(gather(chosen, limit=limit, seed=seed))
            if len(fewer_training | fewer_validation) == 1:
                continue  # one prompt's pairs are split, so it is on both sides
            assert not fewer_training & fewer_validation
            assert fewer_training
            assert fewer_validation
            strays = len(fewer_training & validation) + len(fewer_validation & training)
            assert strays <= 1, "only to fill an empty side"
            assert not strays or 1 in (len(fewer_training), len(fewer_validation))
            moved += strays
    assert moved, "small subsets had an empty side to fill"


def test_about_the_share_of_the_prompts_validates(tmp_path: Path) -> None:
    many = tuple(f"a prompt {i}" for i in range(2000))
    collection(tmp_path, prompts=many, scores={}, pairs=2000, chunk=2000)
    training, validation = sides(gather(choose([tmp_path], None), limit=None, seed=0), validation=0.1)
    assert len(validation) == pytest.approx(200, abs=4 * (2000 * 0.1 * 0.9) ** 0.5), "four standard deviations"
    assert len(training) + len(validation) == 2000


def test_the_pairs_of_a_single_prompt_are_split(tmp_path: Path) -> None:
    collection(tmp_path, prompts=PROMPTS[:1])
    data = gather(choose([tmp_path], None), limit=None, seed=0)
    training, validation = split(data, validation=0.25, seed=0)
    assert (len(training), len(validation)) == (36, 12)
    assert not set(training.tolist()) & set(validation.tolist())


def test_the_same_pairs_twice_are_refused_and_shares_of_a_collection_are_not(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hold the same pair 0 \(48 pairs in all\); merge them with npnet merge"):
        choose([pairs, pairs], None)
    collection(tmp_path / "a", only=[0, 1])
    collection(tmp_path / "b", only=[1, 2])
    with pytest.raises(UserError, match=r"hold the same pair 16 \(16 pairs in all\)"):
        choose([tmp_path / "a", tmp_path / "b"], SelectionSettings(metrics=("taste",)))
    collection(tmp_path / "c", only=[2])
    assert len(gather(choose([tmp_path / "a", tmp_path / "c"], None), limit=None, seed=0)) == 48


def read_with_few_files(folder: Path) -> None:
    """Read all of a collection where 60 more files may be opened; `mapped` asks at its import how many may be."""
    free = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 60, free + 60))
    importlib.reload(mapped)
    with ExitStack() as stack, pytest.raises(OSError, match="Too many open files"):
        _ = [stack.enter_context(path.open("rb")) for path in dataset.shards(folder)]
    data = gather(choose([folder], None), limit=None, seed=0)
    world = World(say=lambda _line: None)
    rows = [data.source, data.target, *singular_values(data, folder, dtype="float32", world=world)]
    prompts = embeddings(data, folder, cached=True, world=world)
    ids = np.random.default_rng(0).permutation(len(data))
    assert [len(some[ids]) for some in rows] == [100] * 5
    assert prompts[data.prompt[ids]].shape == (100, 24, 128)


def test_a_collection_may_have_more_shards_than_a_process_may_open(tmp_path: Path) -> None:
    collection(tmp_path, pairs=100, chunk=1)
    done_in_a_fork(partial(read_with_few_files, tmp_path))


def test_a_shard_that_is_replaced_while_it_is_read_is_one_line(tmp_path: Path) -> None:
    collection(tmp_path)
    data = gather(choose([tmp_path], None), limit=None, seed=0)
    collection(tmp_path, seed=1)
    with pytest.raises(UserError, match=r"pairs-000000\.safetensors: was replaced while it was being read"):
        data.source[np.arange(3)]


def test_fewer_pairs_are_a_subset_of_more(pairs: Path) -> None:
    chosen = choose([pairs], None)
    few, more = (gather(chosen, limit=n, seed=0) for n in (10, 30))
    rows = [set(zip(data.source.part.tolist(), data.source.row.tolist(), strict=True)) for data in (few, more)]
    assert (len(rows[0]), len(rows[1])) == (10, 30)
    assert rows[0] < rows[1]


def test_pairs_are_read_from_disk_when_asked_for_and_belong_together(pairs: Path) -> None:
    data = gather(choose([pairs], SelectionSettings(metrics=("taste",))), limit=None, seed=0)
    assert len(data) == 36
    mapped = data.source.parts[0][:]
    while isinstance(mapped.base, np.ndarray):
        mapped = mapped.base
    assert isinstance(mapped.base, mmap.mmap)
    shards = list(dataset.read(pairs)[1])
    kept = [i for i in range(48) if i % 4 != 3]
    for at in (0, 17, 35):
        shard, row = shards[kept[at] // 16], kept[at] % 16
        assert np.array_equal(data.source[np.array([at])][0], shard.source[row])
        assert np.array_equal(data.target[np.array([at])][0], shard.target[row])
        assert data.prompts[data.prompt[at]] == shard.prompts[row]


def test_a_selection_file_and_several_collections_train(pairs: Path, tmp_path: Path) -> None:
    collection(tmp_path / "more", seed=1, guidance=1.0)
    for name, folder in (("a", pairs), ("b", tmp_path / "more")):
        write_selection(tmp_path / f"{name}.json", select(folder, [Rule(metric="taste")]))
    files = [tmp_path / "b.json", tmp_path / "a.json"]
    summary = train(pairs, tmp_path / "out", pairs=[pairs, tmp_path / "more"], selection=files, epochs=1)
    assert summary["pairs"] == 72
    with pytest.raises(UserError, match="0 of the selection files"):
        train(pairs, tmp_path / "other", selection=files[:1])
