"""Prompt sets whose files are not here: how they are read, what they are pinned to, and what is said without them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from stored_prompts import CATEGORIES, HERE, SHARED, needs_files, read

from bench import registry
from bench.errors import UserError
from bench.prompts import compbench, files, fish, hub
from bench.prompts import public as sets
from bench.prompts.base import Prompt
from bench.prompts.files import PromptFile


def test_geneval2_carries_its_questions_and_may_not_be_used_for_money() -> None:
    row = {"prompt": " two dogs ", "atom_count": 3, "vqa_list": [["How many dogs?", "two"]], "skills": ["count"]}
    (prompt,) = sets.geneval2(json.dumps(row) + "\n")
    assert (prompt.text, prompt.category, prompt.metadata) == ("two dogs", "3 atoms", row)
    assert registry.get("prompts", "geneval2").license.startswith("CC BY-NC 4.0")


def test_dpg_is_a_folder_of_files_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"dpg: missing; download .*/archive/3c228f1.* folder dpg_bench/prompts"):
        read("dpg")
    (tmp_path / "dpg").mkdir()
    found = {"a.txt": b"a long prompt.\n", "b.txt": b"another"}
    for name, data in found.items():
        (tmp_path / "dpg" / name).write_bytes(data)
    with pytest.raises(UserError, match=r"dpg: sha256 is .*, expected f276e68dcadd0c9e"):
        read("dpg")
    monkeypatch.setattr(sets, "DPG", replace(sets.DPG, sha256=files.digest(found)))
    assert sets.dpg() == [Prompt(0, "a long prompt."), Prompt(1, "another")]


def test_fishes_are_drawn_five_thousand_times() -> None:
    """PROTOCOL 2, FID set: 18 labels of 7 classes, drawn evenly among the labels."""
    prompts = read("imagenet-fish")
    assert (len(prompts), len({p.category for p in prompts})) == (18, 7)
    assert prompts[3] == Prompt(3, "Carassius auratus a class in ImageNet", "n01443537", seeds=prompts[3].seeds)
    assert sorted(seed for p in prompts for seed in p.seeds) == list(range(fish.DRAWS))
    counts = [len(p.seeds) for p in prompts]
    assert sum((n - fish.DRAWS / 18) ** 2 / (fish.DRAWS / 18) for n in counts) < 33  # chi-square, 17 degrees, 1 %
    assert prompts[0].seeds[:3] == fish.draws()[0][:3], "the same draws every time"


def test_every_category_of_compbench_has_prompts_to_train_on() -> None:
    for category in ("", *(f"_{c}" for c in CATEGORIES)):
        entry = registry.get("prompts", f"t2i-compbench{category}_train")
        assert entry.size == 700 * len(entry.files)
        assert all(one.url.endswith("_train.txt") for one in entry.files)
    assert not {f.sha256 for f in compbench_files("train")} & {f.sha256 for f in compbench_files("val")}


def compbench_files(split: str) -> list[PromptFile]:
    return [compbench.file(category, split) for category in CATEGORIES]


def test_training_captions_come_in_an_order_of_their_own() -> None:
    texts = [f"prompt {i}" for i in range(20)]
    found = hub.shuffled([Prompt(i, t) for i, t in enumerate(texts)])
    assert [p.index for p in found] == list(range(20))
    assert [p.text for p in found] != texts == sorted((p.text for p in found), key=lambda t: int(t.split()[1]))
    assert found == hub.shuffled([Prompt(i, t) for i, t in enumerate(reversed(texts))])


def test_what_is_fetched_is_pinned() -> None:
    for name in registry.names("prompts"):
        entry = registry.get("prompts", name)
        for one in entry.files:
            if not isinstance(one, PromptFile):
                continue  # the user's own, or rows of a data set on the hub, whose commit is in the name
            assert len(entry.revision) == 40
            assert entry.revision in one.url
            assert len(one.sha256) == 64
            assert entry.license


# Pick-a-Pic, whose file is not among those stored -------------------------------------------------------------------


def pickscore(empty: int = 87) -> bytes:
    """A file in the public one's form: BOM, Chinese header, quoted commas, one empty caption, 500 rows."""
    rows = ["序号,caption,caption_zh,备注"]
    for i in range(500):
        caption = "" if i == empty else f'"prompt {i}, with a comma"' if i % 2 else f" prompt {i} "
        rows.append(f"{i},{caption},提示,")
    return ("\ufeff" + "\r\n".join(rows) + "\r\n").encode()


def stored(folder: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> PromptFile:
    monkeypatch.setenv("BENCH_DATA", str(folder))
    (folder / "pickscore.csv").write_bytes(data)
    return PromptFile("pickscore.csv", "https://example.org/p.csv", hashlib.sha256(data).hexdigest())


def test_pick_a_pic_is_the_first_101_rows_without_the_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PROTOCOL 3: `prompts[0:101]`, then empty ones are dropped; exactly 100 remain, 0 to 100 without 87."""
    prompts = sets.pickapic(stored(tmp_path, pickscore(), monkeypatch).text())
    assert [p.index for p in prompts] == [i for i in range(101) if i != 87]
    assert [p.text for p in prompts[:2]] == ["prompt 0", "prompt 1, with a comma"]
    assert registry.get("prompts", "pick-a-pic").size == len(prompts) == 100


def test_the_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = "\ufeffa bench\r\nein Bär".encode()
    file = stored(tmp_path, data, monkeypatch)
    assert sets.lines(file.text()) == [Prompt(0, "a bench"), Prompt(1, "ein Bär")]


# Files that are not there, or not the same --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pick-a-pic", *HERE])
def test_a_missing_file_is_reported_with_its_place_and_where_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    with pytest.raises(UserError) as caught:
        read(name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/")
    assert "missing; download https://github.com/" in message
    assert "BENCH_DATA" in message


@needs_files
@pytest.mark.parametrize("change", [b"\n", b"x"])
def test_another_file_is_refused(change: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    data = (SHARED / "drawbench.csv").read_bytes() + change
    (tmp_path / "drawbench.csv").write_bytes(data)
    with pytest.raises(UserError) as caught:
        read("drawbench")
    found = hashlib.sha256(data).hexdigest()[:16]
    assert f"drawbench.csv: sha256 is {found}, expected e120fd4d8aa8f6c4" in str(caught.value)


def test_prompt_files_lie_in_the_cache_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DATA", raising=False)
    assert files.folder() == Path.home() / ".cache" / "bench" / "prompts"
    monkeypatch.setenv("BENCH_DATA", "/elsewhere")
    assert files.folder() == Path("/elsewhere")


def test_the_docs_name_every_set_with_its_size_and_licence() -> None:
    """Each category of T2I-CompBench alone is described in one sentence."""
    text = (Path(__file__).parents[1] / "docs" / "prompts.md").read_text()
    rows = {cells[1].strip("` "): cells for line in text.splitlines() if len(cells := line.split("|")) == 7}
    ours = [n for n in registry.names("prompts") if registry.source("prompts", n) == "bench"]
    for name in ours:
        if name.startswith("t2i-compbench_") and name != "t2i-compbench_train":
            continue
        entry = registry.get("prompts", name)
        assert rows[name][2].strip() == (str(entry.size) if entry.size else "")
        assert entry.license.split(":")[0] == rows[name][4].strip()
