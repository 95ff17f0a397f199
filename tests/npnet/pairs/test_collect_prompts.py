"""Which prompts a collection may take: the public training captions, a set, a place, a text file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import registry
from bench.errors import UserError
from bench.prompts import hub
from npnet import config as configs
from npnet.pairs import prompting
from npnet.pairs.collection import CollectConfig, plan, twin

PRESETS = Path(__file__).parents[3] / "npnet" / "configs"


@pytest.mark.parametrize("preset", ["sdxl", "dreamshaper", "hunyuan-dit"])
def test_the_papers_collections_start_on_the_public_training_captions(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once fetched they are planned without the hub; and the first pairs are of prompts in random order."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    texts = [f"caption {i}" for i in range(60)]
    hub.TRAINING.kept.parent.mkdir(parents=True)
    hub.TRAINING.kept.write_text(json.dumps({"texts": texts, "sha256": hub._digest(texts)}))
    config = configs.load(PRESETS / f"{preset}.yaml", CollectConfig, overrides=["pairs=120", "metrics=[]"])
    planned = plan(config)
    assert planned.protocol.prompts == "pick-a-pic-train"
    pairs = [planned.pair(k) for k in range(120)]
    first, second = pairs[:60], pairs[60:]
    assert sorted(p.text for p, _ in first) == sorted(texts) != [p.text for p, _ in first]
    assert all(a == b and s != t for (a, s), (b, t) in zip(first, second, strict=True))
    assert twin(config)[0].prompts == "shapes-train"


def test_test_sets_are_no_training_captions() -> None:
    assert registry.twin("prompts", "pick-a-pic-train") == "shapes-train"
    assert registry.twin("prompts", "pick-a-pic") != "shapes-train"


def test_a_collection_takes_what_a_suite_takes_and_text_files(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("caption,n\na dog,1\n")
    lines = tmp_path / "a.txt"
    lines.write_text("a dog\na dog\n")
    named = f"file:{table}:caption"
    assert [p.text for p in prompting.read(prompting.checked(named))] == ["a dog"]
    assert prompting.recorded(named) == "file:a.csv:caption", "no path of this machine"
    assert [p.text for p in prompting.read(prompting.checked(str(lines)))] == ["a dog", "a dog"]
    assert prompting.recorded(str(lines)) == "a.txt"
    settings = f"model: shapes-sdxl\npairs: 1\nsteps: 2\nprompts: file:{table}\n"
    with pytest.raises(UserError, match=rf"^c.yaml:4: {table}:2: no column 'prompt' \(columns: caption, n\)"):
        configs.parse(settings, CollectConfig, file="c.yaml")
