"""Training: it learns, it resumes where it was killed, its settings are the paper's ablations, its errors one line."""

from __future__ import annotations

import csv
import importlib
import json
import mmap
import os
import pickle
import resource
import shutil
import signal
import time
import weakref
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import done_in_a_fork
from forks import server
from noise_pairs import PROMPTS, collection

from bench.errors import UserError
from npnet import NPNet, NPNetConfig, config
from npnet.network import checkpoint
from npnet.pairs import dataset, mapped
from npnet.pairs.select import Rule, select, write_selection
from npnet.training import loop, state
from npnet.training.caches import World, embeddings, singular_values
from npnet.training.data import Pairs, SelectionSettings, choose, gather, split
from npnet.training.loop import Data, Loop
from npnet.training.settings import TrainConfig
from npnet.training.train import run

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"width": 16, "depth": 1, "heads": 2}
"""A network that makes a step in a few milliseconds."""


def settings(folder: Path, **changes: Any) -> TrainConfig:
    """Two fast epochs in fp32 on a collection."""
    fields: dict[str, Any] = {
        "pairs": folder,
        "selection": "none",
        "network": SMALL,
        "epochs": 2,
        "batch": 8,
        "learning_rate": 3e-3,
    }
    return TrainConfig(**{**fields, **changes})


def train(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    start = changes.pop("start", None)
    return run(settings(folder, **changes), out=out, start=start, device="cpu", say=lambda _line: None)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path).tensors


def farthest(a: Path, b: Path) -> float:
    """Largest difference between two checkpoints' weights."""
    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pairs of 24 prompts."""
    folder = tmp_path_factory.mktemp("pairs")
    collection(folder)
    return folder


@pytest.fixture(scope="module")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs without a break; it is never changed."""
    out = tmp_path_factory.mktemp("trained")
    train(pairs, out, epochs=4)
    return out


# What it learns


def test_a_network_learns_what_neither_the_source_nor_its_multiple_predicts(tmp_path: Path) -> None:
    collection(tmp_path / "pairs", pairs=192, chunk=64)
    summary = train(tmp_path / "pairs", tmp_path / "out", epochs=12, network={"residual": False})
    # The move is 0.2^2 from shrinking and 0.3^2 from the prompt's shift; a constant factor explains the first only.
    assert summary["identity_mse"] == pytest.approx(0.04 + 0.09, rel=0.1)
    assert summary["scaled_mse"] == pytest.approx(0.09, rel=0.1)
    assert summary["validation_mse"] < 0.5 * summary["scaled_mse"]
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


def test_conditioning_changes_what_is_learnt(pairs: Path, trained: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path, epochs=4, conditioning="first_of_batch")
    assert farthest(tmp_path / "last.safetensors", trained / "last.safetensors") > 1e-5


@pytest.mark.parametrize(
    "network",
    [{"svd": False}, {"residual": False}, {"text": "none"}, {"text": "cross_attention"}, {"attention": False}],
)
def test_every_ablation_is_a_setting(pairs: Path, tmp_path: Path, network: dict[str, Any]) -> None:
    summary = train(pairs, tmp_path, network={**SMALL, **network}, epochs=1)
    made = NPNet.from_pretrained(tmp_path / "best.safetensors")
    assert {name: getattr(made.config, name) for name in network} == network
    assert summary["epochs"] == 1


def test_parts_of_a_batch_add_up_to_the_batch(pairs: Path, trained: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path, epochs=4, accumulation=3)
    assert farthest(tmp_path / "last.safetensors", trained / "last.safetensors") < 1e-4


# Killed and gone on


def same(one: Path, other: Path) -> None:
    """Two trainings left the same networks and losses."""
    for name in ("last.safetensors", "best.safetensors"):
        assert farthest(one / name, other / name) == 0
    assert losses_of(one) == losses_of(other)


def test_two_epochs_and_two_more_are_four(pairs: Path, trained: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path, epochs=2)
    train(pairs, tmp_path, epochs=4)
    same(trained, tmp_path)


def test_an_average_of_weights_resumes_too(pairs: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"ema": 0.9, "clip": 1.0}
    train(pairs, tmp_path / "straight", epochs=2, **more)
    train(pairs, tmp_path / "twice", epochs=1, **more)
    train(pairs, tmp_path / "twice", epochs=2, **more)
    same(tmp_path / "straight", tmp_path / "twice")


def test_a_training_stopped_inside_an_epoch_makes_the_same_steps(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(pairs, tmp_path / "straight", epochs=3, schedule="cosine")
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    step, made = Loop.advance, []

    def stopping(self: Loop, ids: np.ndarray) -> torch.Tensor:
        made.append(len(ids))
        if len(made) == 9:
            raise KeyboardInterrupt
        return step(self, ids)

    monkeypatch.setattr(Loop, "advance", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(pairs, tmp_path / "stopped", epochs=3, schedule="cosine")
    train(pairs, tmp_path / "stopped", epochs=3, schedule="cosine")
    assert len(made) == 3 * 6 + 1, "46 pairs are 6 batches of 8; none but the interrupted one was made again"
    assert farthest(tmp_path / "straight/last.safetensors", tmp_path / "stopped/last.safetensors") == 0
    assert losses_of(tmp_path / "straight") == losses_of(tmp_path / "stopped")


def train_slowly(chosen: TrainConfig, out: Path) -> None:
    """In a process of its own, which would otherwise be done before it is noticed."""
    torch.set_num_threads(1)
    step = Loop.advance
    loop.STATE_SECONDS = 0.0
    Loop.advance = lambda self, ids: (time.sleep(0.2), step(self, ids))[1]  # type: ignore[method-assign]
    run(chosen, out=out, device="cpu")


@pytest.mark.slow
def test_kill_9_and_the_same_command_resumes(pairs: Path, trained: Path, tmp_path: Path) -> None:
    child = server().Process(target=train_slowly, args=(settings(pairs, epochs=4), tmp_path), daemon=True)
    child.start()
    until = time.monotonic() + 120
    while not (tmp_path / "best.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.05)
    child.kill()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL, "it was killed, and had neither failed nor finished"
    assert (tmp_path / "state.pt").exists()
    assert not (tmp_path / "last.safetensors").exists()
    train(pairs, tmp_path, epochs=4)
    assert farthest(tmp_path / "last.safetensors", trained / "last.safetensors") < 1e-6


def test_a_finished_training_is_left_as_it_is(trained: Path, pairs: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir() if path.name != "lock"}
    said: list[str] = []
    again = run(settings(pairs, epochs=4), out=trained, device="cpu", say=said.append)
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir() if path.name != "lock"} == before
    assert any("nothing to do" in line for line in said)
    assert again["epochs"] == 4


def test_another_training_does_not_go_on_from_a_state(trained: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match=r"other settings \(batch 8 there, 4 here\); give another --out"):
        train(pairs, trained, epochs=4, batch=4)


_EXECUTES = b"\x80\x02cos\nsystem\n(S'touch ran'\ntR."


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "truncated, or not a PyTorch file"),
        (b"PK\x03\x04 cut short", "truncated, or not a PyTorch file"),
        (b".", "truncated, or not a PyTorch file"),
        (_EXECUTES, "holds objects other than tensors, .* nothing was executed"),
    ],
)
def test_a_broken_state_is_one_line_and_nothing_runs(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(UserError, match=rf"state\.pt: {found}.*; expected a training's state: delete it") as raised:
        train(pairs, tmp_path)
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value), "what torch advises is how to be attacked"
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / "state.pt").read_bytes() == content


def test_what_the_broken_state_would_execute_is_executed_where_it_is_let(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(_EXECUTES)
    assert (tmp_path / "ran").exists()


def test_a_state_of_plain_containers_that_is_no_trainings_is_one_line(
    trained: Path, pairs: Path, tmp_path: Path
) -> None:
    good = torch.load(trained / "state.pt", weights_only=True)
    for odd, said in (
        ([1, 2], "holds something else"),
        ({"identity": {}}, "holds something else"),
        ({**good, "epoch": "4"}, "holds something else"),
        ({**good, "network": {"w": torch.zeros(1)}}, "not of this network"),
        ({**good, "optimizer": {}}, "not of this network"),
    ):
        torch.save(odd, tmp_path / "state.pt")
        with pytest.raises(UserError, match=rf"state\.pt: {said}.*; expected a training's state") as raised:
            train(pairs, tmp_path, epochs=5)
        assert "\n" not in str(raised.value)


def test_an_unfinished_training_with_prompts_split_otherwise_does_not_go_on(
    trained: Path, pairs: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["identity"]["split"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"other settings \(split None there, 2 here\)"):
        train(pairs, tmp_path, epochs=5)
    assert train(pairs, tmp_path, epochs=4)["epochs"] == 4, "finished, it is left as it is"


def test_a_finished_training_whose_best_network_was_moved_says_so(trained: Path, pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "best.safetensors").rename(tmp_path / "kept.safetensors")
    said: list[str] = []
    run(settings(pairs, epochs=4), out=tmp_path, device="cpu", say=said.append)
    assert any("nothing to do" in line for line in said)
    assert "best.safetensors (no longer there; last.safetensors is of epoch 4)" in said[-1]


# What it leaves


def losses_of(out: Path) -> list[tuple[str, ...]]:
    with open(out / "losses.csv") as file:
        return [(row["epoch"], row["train_mse"], row["validation_mse"]) for row in csv.DictReader(file)]


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


# Which pairs


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
    assert [len(some[ids]) for some in rows] == [200] * 5
    assert prompts[data.prompt[ids]].shape == (200, 24, 128)


def test_a_collection_may_have_more_shards_than_a_process_may_open(tmp_path: Path) -> None:
    collection(tmp_path, pairs=200, chunk=1)
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


# The caches


def test_cached_values_train_as_those_computed_in_every_step(pairs: Path, trained: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path / "neither", epochs=4, cache_svd=False, cache_embeddings=False)
    train(pairs, tmp_path / "both", epochs=4, svd_dtype="float32")
    assert farthest(tmp_path / "neither/last.safetensors", tmp_path / "both/last.safetensors") < 1e-4
    # Adam makes steps of one size of the smallest gradients, so half precision shows in some weight; not in the loss.
    exact, half = ([float(row[2]) for row in losses_of(out)] for out in (tmp_path / "neither", trained))
    assert half == pytest.approx(exact, rel=1e-2)
    assert half != exact


def test_caches_are_made_once_and_put_noise_together_again(pairs: Path, tmp_path: Path) -> None:
    from npnet.network.blocks import recompose

    data = gather(choose([pairs], SelectionSettings(metrics=("taste",))), limit=None, seed=0)
    said: list[str] = []
    world = World(say=said.append)
    u, s, vh = singular_values(data, tmp_path, dtype="float32", world=world)
    # 48 decompositions of 16 x 16 matrices: the whole shards, as more than half of each is used.
    assert said == [f"singular values of 48 source noises: 101 kB in {tmp_path / 'svd'}"]
    ids = np.array([35, 2])
    factors = tuple(torch.from_numpy(rows[ids]) for rows in (u, s, vh))
    source = torch.from_numpy(data.source[ids]).float()
    assert (recompose(factors, factors[1], (4, 8, 8)) - source).abs().max() < 1e-4  # type: ignore[arg-type]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    embeddings(data, tmp_path, cached=True, world=world)
    other = gather(choose([pairs], None), limit=None, seed=0)
    singular_values(other, tmp_path, dtype="float32", world=world)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert said[1:] == [f"embeddings of 24 prompts: 295 kB in {tmp_path / 'embeddings'}"]


def test_the_model_is_let_go_once_its_embeddings_are_there(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline of SDXL takes 7 GB of the memory that the training needs."""
    from bench.models.base import Family, ModelEntry

    loaded: list[weakref.ref[Family]] = []
    load = ModelEntry.load

    def watched(self: ModelEntry, device: str) -> Family:
        model = load(self, device)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(ModelEntry, "load", watched)
    data = gather(choose([pairs], None), limit=None, seed=0)
    world = World(say=lambda _line: None)
    kept = [embeddings(data, tmp_path, cached=True, world=world)]
    assert [model() for model in loaded] == [None]
    kept.append(embeddings(data, tmp_path, cached=False, world=world))
    assert loaded[1]() is not None
    ids = np.array([3, 1, 2])
    assert torch.equal(kept[0][ids], kept[1][ids])


@pytest.mark.parametrize(
    ("text", "said"),
    [("none", "101 kB for singular values of 48 source noises"), ("modulation", "295 kB for embeddings of 24 prompts")],
)
def test_a_disk_without_room_is_said_before_anything_is_computed(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    network = {**SMALL, "text": text}
    with pytest.raises(UserError, match=rf"{said}, and 1 kB are free; give another cache folder"):
        train(pairs, tmp_path / "out", cache=tmp_path / "cache", svd_dtype="float32", network=network)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


# Another model's network


def test_fine_tuning_replaces_the_text_layer_of_another_width_and_says_so(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    other = NPNet(NPNetConfig.small(prompt=(7, 64), **SMALL))
    other.save_pretrained(tmp_path / "other.safetensors", provenance={"model": "other"})
    said: list[str] = []
    start = tmp_path / "other.safetensors"
    reads: list[Path] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (reads.append(path), read(path))[1])
    tiny = settings(pairs, network={}, epochs=1, learning_rate=1e-9)
    run(tiny, out=tmp_path / "out", start=start, device="cpu", say=said.append)
    assert reads.count(start) == 1, "a file of gigabytes is read and checked once"
    line = next(line for line in said if "replaced" in line)
    assert "text.linear.weight" in line
    assert "residual" not in line
    assert "svd" not in line
    before, after = weights(start), weights(tmp_path / "out/last.safetensors")
    assert after["text.linear.weight"].shape == (8, 24 * 128)
    for name in set(before) - {"text.linear.weight", "text.linear.bias"}:
        assert torch.allclose(before[name], after[name], atol=1e-6), name
    origin = checkpoint.read_provenance(tmp_path / "out/last.safetensors")["from"]
    assert (origin["file"], origin["model"]) == ("other.safetensors", "other")
    assert origin["digest"] == checkpoint.read_provenance(start)["digest"]


class _Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_a_checkpoint_that_would_execute_code_does_not_begin_a_training(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"unet_svd": _Runs()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth: "):
        train(pairs, tmp_path / "out", start=tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


def test_a_network_of_other_latents_is_not_fine_tuned(pairs: Path, tmp_path: Path) -> None:
    NPNet(NPNetConfig.small(latent=(4, 16, 16), **SMALL)).save_pretrained(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"for latents \(4, 16, 16\), and the pairs have \(4, 8, 8\)"):
        train(pairs, tmp_path / "out", start=tmp_path / "other.safetensors")


# What is said where it cannot train


def test_pairs_that_are_not_finite_are_dropped_by_selection_and_named_without(tmp_path: Path) -> None:
    collection(tmp_path / "pairs", broken={20: float("nan")})
    with pytest.raises(UserError, match=r"pairs-000001\.safetensors: pair 20 holds NaN or infinity \(1 of 48"):
        train(tmp_path / "pairs", tmp_path / "out")
    assert train(tmp_path / "pairs", tmp_path / "out", selection={"metrics": ["taste"]}, epochs=1)["pairs"] == 35


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_digest": "old"}, "were made with 'shapes-sdxl' of digest old"),
        ({"model": "shapes-sdxxl"}, "unknown model 'shapes-sdxxl'; did you mean 'shapes-sdxl'"),
    ],
)
def test_prompts_without_embeddings_are_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    collection(tmp_path / "pairs", **changes)
    with pytest.raises(UserError, match=said):
        train(tmp_path / "pairs", tmp_path / "out")
    assert train(tmp_path / "pairs", tmp_path / "out", network={**SMALL, "text": "none"}, epochs=1)["epochs"] == 1


def test_an_encoder_without_prompt_embeds_is_one_line(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.models.base import ModelEntry

    silent = type("Silent", (), {"encode": lambda self, texts: {}})()
    monkeypatch.setattr(ModelEntry, "load", lambda self, device: silent)
    with pytest.raises(UserError, match=r"gives no embedding a prompt \(prompt_embeds: none"):
        train(pairs, tmp_path / "out", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": {**SMALL, "text": "nonsense"}}, "'network.text' should be"),
        ({"network": {**SMALL, "heads": 5}}, "heads=5 does not divide width=16"),
        ({"network": {**SMALL, "svd": "false"}}, "'network.svd' should be true or false, got 'false'"),
        ({"network": {"svd": False, "residual": False, "text": "none"}}, "all off, which leaves nothing to train"),
        ({"selection": {"metrics": ["taste"], "threshold": [0.0, 1.0]}}, "1 metrics, 2 thresholds and 0 files"),
        ({"selection": "nowhere.json"}, r"nowhere\.json"),
    ],
)
def test_settings_that_do_not_fit_are_said_before_a_shard_is_read(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    def unread(*_given: Any) -> None:
        raise AssertionError("a shard was read")

    monkeypatch.setattr(dataset, "read_shard", unread)
    with pytest.raises(UserError, match=said):
        train(pairs, tmp_path / "out", **changes)


def test_collections_of_two_models_do_not_train_together(pairs: Path, tmp_path: Path) -> None:
    collection(tmp_path / "other", model_digest="old")
    with pytest.raises(UserError, match=r"other: model_digest old, but .* has"):
        train(pairs, tmp_path / "out", pairs=[pairs, tmp_path / "other"])


def test_a_truncated_or_foreign_shard_is_named_and_nothing_is_lost(pairs: Path, trained: Path, tmp_path: Path) -> None:
    collection(tmp_path / "pairs", seed=2)
    path = dataset.shard_path(tmp_path / "pairs", 2)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"pairs-000002\.safetensors: not a whole shard"):
        train(tmp_path / "pairs", tmp_path / "out")
    collection(tmp_path / "foreign", steps=9)
    path.write_bytes(dataset.shard_path(tmp_path / "foreign", 2).read_bytes())
    with pytest.raises(UserError, match=r"pairs-000002\.safetensors: a shard of another collection"):
        train(tmp_path / "pairs", tmp_path / "out")


def test_nothing_left_to_train_on_is_one_line(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pair of 48 is left after selection by taste > \+1; .* below 1 keeps some"):
        train(pairs, tmp_path / "out", selection={"metrics": ["taste"], "threshold": 1.0})


def test_a_training_that_diverges_says_so_and_keeps_its_state(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the training diverged in epoch 1 .* lower learning_rate"):
        train(pairs, tmp_path / "out", learning_rate=1e30)
    assert not (tmp_path / "out" / "best.safetensors").exists()


@pytest.mark.parametrize("name", ["losses.csv", "losses.png", "best.safetensors"])
def test_an_output_that_cannot_be_written_is_one_line(pairs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=rf"out/{name}: cannot be written \(Is a directory\)"):
        train(pairs, tmp_path / "out", epochs=1)


def test_a_state_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/state\.pt: cannot be written"):
        state.write(tmp_path / "file", {"epoch": 1})


def test_a_second_training_in_a_folder_waits(pairs: Path, tmp_path: Path) -> None:
    from bench.store import exclusive

    with exclusive(tmp_path / "out"), pytest.raises(UserError, match="another training runs there"):
        train(pairs, tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("network: {residul: false}", "unknown key 'network.residul'; did you mean 'residual'"),
        ("network: {latent: [4, 8, 8]}", "'network.latent' follows from the pairs"),
        ("epochs: 0", "'epochs' should be greater than or equal to 1"),
        ("learning_rat: 1", "unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ("conditioning: first", "'conditioning' should be 'per_sample' or 'first_of_batch'"),
        ("seed: -1", "'seed' should be greater than or equal to 0, got -1"),
        ("batch: true", "'batch' should be a whole number, got true"),
        ("accumulation: 2.0", "'accumulation' should be a whole number, got 2.0"),
        ("learning_rate: true", "'learning_rate' should be a number, got true"),
        ("cache_svd: 1", "'cache_svd' should be true or false, got 1"),
        ("cache: 7", "'cache' should be a path, got 7"),
        ("selection:", "missing key 'selection'"),
        ("selection: {metrics: [x], thresholds: 0}", "unknown key 'thresholds'; did you mean 'threshold'?"),
        ("selection: {metrics: [x], threshold: much}", "'threshold' should be a number, or a list of one for each"),
        ("selection: {metrics: [x], threshold: [0, true]}", "'threshold' should be a number, or a list of one for"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_place(line: str, said: str) -> None:
    others = "pairs: there\n" + ("\n" if line.startswith("selection") else "selection: none\n")
    with pytest.raises(UserError) as raised:
        config.parse(f"{others}{line}\n", TrainConfig, file="t.yaml")
    assert str(raised.value).startswith("t.yaml:3: ")
    assert said in str(raised.value)


def test_settings_read_as_they_are_written() -> None:
    text = "pairs: [a, b]\nselection: {metrics: [x, y], threshold: [0, 0.1], mode: any}\n"
    read = config.parse(text, TrainConfig, file="t.yaml", overrides=["epochs=3", "network.svd=false"])
    assert read.selection is not None
    assert read.selection.rules() == [Rule(metric="x"), Rule(metric="y", threshold=0.1)]
    assert (read.epochs, read.batch, read.learning_rate, read.network) == (3, 64, 1e-4, {"svd": False})
    assert config.parse("pairs: a\nselection: none", TrainConfig, file="t.yaml").selection is None
    small = "pairs: a\nselection: {metrics: [x], threshold: 1e-3}\nlearning_rate: 2E-5"
    read = config.parse(small, TrainConfig, file="t.yaml", overrides=["weight_decay=1e-2"])
    assert read.selection is not None
    assert (read.selection.threshold, read.learning_rate, read.weight_decay) == (1e-3, 2e-5, 1e-2)
    assert config.parse("pairs: a\nselection: s.json", TrainConfig, file="t.yaml").selection == SelectionSettings(
        file=(Path("s.json"),)
    )
