"""Which pair is which: prompts, seeds, the presets and their twins, and the training captions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry
from bench.errors import UserError
from npnet import config as configs
from npnet.pairs import prompting
from npnet.pairs.collection import CollectConfig, nth_seed, plan, twin

from .collecting import CONFIGS, PROMPTS, settings_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_seeds_are_in_range_and_no_prompt_has_one_twice(prompts: Path) -> None:
    """Fifty pairs of five prompts and ten seeds are all that there are."""
    planned = plan(settings_of(prompts, pairs=50, seeds=[100, 109]))
    found = [(p.text, seed) for p, seed in map(planned.pair, range(50))]
    assert Counter(found) == Counter((text, seed) for text in PROMPTS for seed in range(100, 110))
    assert [text for text, _ in found] == list(PROMPTS) * 10
    assert found[:12] == [(p.text, s) for p, s in map(plan(settings_of(prompts, seeds=[100, 109])).pair, range(12))]


@given(st.text(max_size=5), st.integers(0, 2000), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_a_prompts_seeds_are_a_shuffle(prompt: str, low: int, size: int) -> None:
    assert sorted(nth_seed(prompt, n, (low, low + size - 1)) for n in range(size)) == list(range(low, low + size))


def test_every_seed_is_as_likely_as_another() -> None:
    """Chi-square over the first seeds of 4,000 prompts: 9 degrees of freedom, 27.9 at p = 0.001."""
    counts = Counter(nth_seed(str(i), 0, (0, 9)) for i in range(4000))
    assert sum((counts[k] - 400) ** 2 / 400 for k in range(10)) < 27.9


def test_a_prompt_that_stands_twice_in_the_list_gets_other_seeds(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("a ring\na star\na ring\n")
    planned = plan(settings_of(path, pairs=9, seeds=[0, 5]))
    assert len({(p.text, seed) for p, seed in map(planned.pair, range(9))}) == 9
    with pytest.raises(UserError, match="9 pairs of 3 prompts need 6 seeds of a prompt, and seeds \\[0, 4\\] are 5"):
        plan(settings_of(path, pairs=9, seeds=[0, 4]))


PRESETS = [path for path in sorted(CONFIGS.glob("*.yaml")) if not path.stem.endswith("_train")]


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_is_of_a_known_model_and_has_a_twin(path: Path) -> None:
    """A4: the paper collects at 10 steps for SDXL and at 4 for DreamShaper; table 14: seeds 0 to 1024."""
    made, _ = twin(configs.load(path, CollectConfig))
    planned = plan(made)
    steps = 4 if path.stem == "dreamshaper" else 10
    model = "shapes-turbo" if path.stem == "dreamshaper" else "shapes-sdxl"
    assert (planned.protocol.model, planned.protocol.steps, planned.protocol.seeds) == (model, steps, (0, 1024))
    assert planned.protocol.guidance == registry.get("models", model).guidance
    assert planned.protocol.prompts == "shapes-train"


def test_the_training_preset_is_one() -> None:
    from npnet.training.settings import TrainConfig

    made = configs.load(CONFIGS / "shapes_train.yaml", TrainConfig, overrides=["pairs=there"])
    assert made.selection is not None
    assert [rule.metric for rule in made.selection.rules()] == ["shapes-preference"]


@pytest.mark.parametrize(
    ("name", "steps", "guidance", "pairs"),
    [("sdxl", 10, 5.5, 100_000), ("dreamshaper", 4, 3.5, 80_000), ("hunyuan-dit", 10, 5.0, 600)],
)
def test_the_papers_presets(prompts: Path, name: str, steps: int, guidance: float, pairs: int) -> None:
    """A.4 and table 1; a preset is of the model that it is named after."""
    made = configs.load(CONFIGS / f"{name}.yaml", CollectConfig)
    assert (made.model, made.steps, made.guidance, made.pairs) == (name, steps, guidance, pairs)
    assert made.metrics == ("hpsv2",)
    assert [link.use for link in made.teacher] == ["inversion"]
    planned = plan(made.model_copy(update={"prompts": str(prompts), "pairs": 1}))
    pair_bytes = 2 * 2 * int(np.prod(planned.protocol.latent))
    assert 2e6 < planned.protocol.chunk * pair_bytes < 32e6


def test_a_twin_keeps_what_was_set_by_hand() -> None:
    given = configs.load(CONFIGS / "sdxl.yaml", CollectConfig, overrides=["guidance=2.5"])
    made, notes = twin(given, overridden={"guidance"})
    assert made.guidance == 2.5
    assert not notes
    assert twin(given)[0].guidance is None


def test_training_captions_are_of_no_evaluation_set() -> None:
    from bench.shapes.captions import SPLITS, bucket, held_out, sample

    training = prompting.read("shapes-train")
    texts = {p.text for p in training}
    assert len(training) == registry.get("prompts", "shapes-train").size == 20_000
    assert {bucket(t) for t in texts} <= set(SPLITS["train"])
    others = [n for n in registry.names("prompts") if n.startswith("shapes-") and n != "shapes-train"]
    assert len(others) == 6
    for name in others:
        assert not texts & {p.text for p in prompting.read(name)}
    assert Counter(p.category for p in training)["position"] == 4000
    assert all(p.metadata and p.metadata["prompt"] == p.text for p in training)
    rng = np.random.default_rng(1)
    assert not any(held_out(sample(rng, "train")) for _ in range(100))
