"""What cannot be trained on, with or into is one line, before anything is computed where that can be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from noise_pairs import collection

from bench.errors import UserError
from bench.models.base import ModelEntry
from bench.store import exclusive
from npnet import config
from npnet.pairs import dataset
from npnet.pairs.select import Rule
from npnet.training import state
from npnet.training.data import SelectionSettings
from npnet.training.settings import TrainConfig

from .small import SMALL, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.usefixtures("no_figures")
def test_pairs_that_are_not_finite_are_dropped_by_selection_and_named_without(tmp_path: Path) -> None:
    collection(tmp_path / "pairs", broken={20: float("nan")})
    with pytest.raises(UserError, match=r"pairs-000001\.safetensors: pair 20 holds NaN or infinity \(1 of 48"):
        train(tmp_path / "pairs", tmp_path / "out")
    assert train(tmp_path / "pairs", tmp_path / "out", selection={"metrics": ["taste"]}, epochs=1)["pairs"] == 35


@pytest.mark.usefixtures("no_figures")
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
