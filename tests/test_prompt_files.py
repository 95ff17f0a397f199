"""Prompt sets straight from a file: CSV, TSV, JSONL, TXT and Parquet, whoever wrote them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Bench
from facts import missing
from suite_texts import ANY_PROMPTS, suite_text

from bench import registry, suite
from bench.errors import UserError
from bench.prompts import own, rows
from bench.prompts.base import Prompt
from bench.runner.plan import make_plan

SHARED = Path(__file__).parents[2] / "shared" / "prompts"
CLAUSES = {"tag": "counting", "include": [{"class": "dog", "count": 2}], "exclude": [{"class": "dog", "count": 3}]}


def read(name: str) -> list[Prompt]:
    return list(registry.get("prompts", name).read())


def stored(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, column: str = "") -> str:
    with pytest.raises(UserError) as caught:
        own.read(path, column)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.TXT", "\ufeffa red car\r\n\r\n  ein Bär, zwei\u2028Katzen \nlast")
    assert read(f"file:{path}") == [Prompt(0, "a red car"), Prompt(1, "ein Bär, zwei\u2028Katzen"), Prompt(2, "last")]


def test_a_csv_has_columns_by_name(tmp_path: Path) -> None:
    path = stored(
        tmp_path / "a.csv",
        "\ufeffid,prompt,category,seed,control,control_depth,metadata\r\n"
        '7,"a dog, a cat",pets,3,edges/1.png,d.png,"{""tag"": ""x""}"\r\n\r\n'
        '8,"two\nlines",,"[1, 2]",,,\r\n',
    )
    dog, two = read(f"file:{path}")
    assert (dog.text, dog.category, dog.seeds, dog.metadata) == ("a dog, a cat", "pets", (3,), {"tag": "x"})
    assert dog.control_image("depth").path == tmp_path / "d.png"
    assert dog.control_image("canny").path == tmp_path / "edges" / "1.png"
    assert two == Prompt(1, "two\nlines", seeds=(1, 2))


def test_the_column_of_the_prompts_may_be_named(tmp_path: Path) -> None:
    path = stored(tmp_path / "a:b.tsv", "Prompts\tx\na dog\t1\n")
    assert read(f"file:{path}:Prompts") == [Prompt(0, "a dog")]
    assert "no column 'Prompt'; did you mean 'Prompts'?" in refused(path, "Prompt")


def test_parquet_is_read_without_unpacking_its_images(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": ["a dog", "two dogs"],
            "image": [{"bytes": b"x", "path": "x.png"}, None],
            "seed": [[4, 5], None],
            "tag": [None, CLAUSES["tag"]],
            "include": [None, CLAUSES["include"]],
            "exclude": [None, CLAUSES["exclude"]],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    dog, two = read(f"file:{tmp_path / 'a.parquet'}")
    assert dog == Prompt(0, "a dog", seeds=(4, 5))
    assert two == Prompt(1, "two dogs", "counting", {**CLAUSES, "prompt": "two dogs"})


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder `shared/prompts` beside the checkout")
def test_public_files_are_what_their_sets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata is part of a job's id, so GenEval's own file must give the very same."""
    monkeypatch.setenv("BENCH_DATA", str(SHARED))
    assert read(f"file:{SHARED / 'geneval_metadata.jsonl'}") == read("geneval")
    assert read(f"file:{SHARED / 'drawbench.csv'}:Prompts") == read("drawbench")
    # A set of T2I-CompBench also says which of its scorers judges it.
    lines, named = read(f"file:{SHARED / 't2i_compbench_color_val.txt'}"), read("t2i-compbench_color")
    assert named == [replace(p, metadata={"compbench": "color"}) for p in lines]
    assert "; quote a prompt that has commas in it" in refused(SHARED / "HPD_prompt.csv", "caption")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "caption\nx\n", ":2: no column 'prompt' (columns: caption); name the one with the prompts"),
        ("a.csv", "promt,n\nx,1\n", ":2: unknown key 'promt'; did you mean 'prompt'?"),
        ("a.csv", "prompt,categories\nx,y\n", ":2: unknown key 'categories'; did you mean 'category'?"),
        ("a.csv", "prompt,prompt\nx,y\n", ":1: two columns are named 'prompt'"),
        ("a.csv", "prompt,n\na,b,c\n", ":2: 3 fields, and the header has 2; quote a prompt that has commas"),
        ("a.csv", "prompt,n\n,1\n", ":2: 'prompt' should be text that is not empty, got null"),
        ("a.csv", 'prompt\n"a\nb"\n\n"open', ":5: not CSV (unexpected end of data)"),
        ("a.csv", "prompt\n" + "x" * 200_000, ":2: not CSV (field larger than field limit"),
        ("a.csv", "prompt,seed\nx,-1\n", ":2: 'seed' should be a whole number from 0"),
        ("a.csv", 'prompt,seed\nx,"[1, 1]"\n', ":2: 'seed' has one number twice"),
        ("a.csv", "prompt,metadata\nx,{oops\n", ":2: 'metadata' should be a JSON object"),
        ("a.csv", "prompt,control_canny\nx,../up.png\n", ":2: 'control' '../up.png' leads out of the folder"),
        ("a.csv", "prompt\n", ": no prompts there"),
        ("a.txt", "", ": no prompts there"),
        ("a.txt", b"fine\nB\xe4r\n", ":2: not UTF-8 text (byte 0xe4); save it as UTF-8"),
        ("a.txt", "a dog".encode("utf-16"), ":1: UTF-16 text; save it as UTF-8"),
        ("a.txt", "a\nb\n\na\nb\n", ":4: the same prompt as line 1, and 1 more repeat others"),
        ("a.txt", "x" * 20_001, ":1: 'prompt' has 20,001 characters; expected at most 20,000"),
        ("a.txt", "a\0b", ":1: 'prompt' has a NUL character in it"),
        ("a.jsonl", '{"prompt": "\\ud800"}', ":1: 'prompt' has half of a surrogate pair"),
        ("a.jsonl", '{"prompt": "x", "metadata": {"a": NaN}}', ":1: not JSON (NaN is no JSON number)"),
        ("a.jsonl", '{"prompt": "x", "seed": true}', ":1: 'seed' should be a whole number"),
        ("a.jsonl", '{"prompt": "x", "tag": "t", "include": [{"class": "dog"}]}', ":1: a clause of 'include' should"),
        ("a.jsonl", '{"prompt": "x", "metadata": {"include": []}}', ":1: GenEval's metadata needs a 'tag'"),
        ("a.parquet", b"PAR1 no", ": cannot be read: "),
        ("a.xlsx", "x", ": unknown kind of file '.xlsx'; expected one of .csv, .tsv, .jsonl, .txt, .parquet"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(name: str, content: bytes | str, said: str, tmp_path: Path) -> None:
    path = stored(tmp_path / name, content)
    assert refused(path).startswith(f"{path}{said}")


def test_repeated_prompts_are_advised_how_several_images_of_one_are_asked_for(tmp_path: Path) -> None:
    """For `score`, leaving a prompt out of the file would leave its further images without one."""
    message = refused(stored(tmp_path / "a.txt", "a\na\nb\nb\n"))
    assert "`images_per_prompt` in a suite; for `score`, --images-per-prompt N" in message
    assert "or a table with the columns path, prompt and seed" in message


@pytest.mark.parametrize(
    "position", [[], ["left of"], ["left of", 1], ["left of", -1], [3, 0], "left of", ["left of", True]]
)
def test_a_position_names_an_earlier_clause(position: Any, tmp_path: Path) -> None:
    """The rules would look the place up in a list, and fail or take the wrong object, when images are there."""
    dog = {"class": "dog", "count": 1}
    good = {"tag": "position", "prompt": "x", "include": [dog, {**dog, "position": ["left of", 0]}]}
    assert len(own.read(stored(tmp_path / "a.jsonl", json.dumps(good)))) == 1
    bad = {**good, "include": [dog, {**dog, "position": position}]}
    assert ":1: the 'position' of a clause of 'include'" in refused(stored(tmp_path / "a.jsonl", json.dumps(bad)))


def test_prompts_that_carry_different_things_are_not_the_same(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.csv", "prompt,control\nx,1.png\nx,2.png\n")
    assert len(own.read(path)) == 2


def test_what_could_be_read_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "folder.txt").mkdir()
    for name in ("pipe.txt", "zero.csv", "folder.txt"):
        assert "not a regular file" in refused(tmp_path / name)
    path = stored(tmp_path / "a.txt", "a\nb\nc\n")
    monkeypatch.setattr(rows, "MAX_ROWS", 2)
    assert f"{path}:3: more than 2 rows" in refused(path)
    monkeypatch.setattr(rows, "MAX_BYTES", 5)
    assert "MiB; expected at most" in refused(path)


def test_a_suite_takes_a_file_and_says_where_a_mistake_is(tmp_path: Path) -> None:
    path = stored(tmp_path / "mine.csv", "prompt\na red circle\ntwo blue squares\n")

    def parse(prompts: str) -> suite.Suite:
        return suite.parse(suite_text(ANY_PROMPTS, prompts=[prompts]), file="s.yaml")

    plan = make_plan(parse(f"file:{path}"))
    assert {c.prompt.text for c in plan.cells} == {"a red circle", "two blue squares"}
    with pytest.raises(UserError, match=r"^s.yaml:4: 'file:mine.xls': expected file:PATH or file:PATH:COLUMN"):
        parse("file:mine.xls")
    stored(tmp_path / "bad.csv", "prompt,n\nx\n")
    with pytest.raises(UserError, match=rf"^s.yaml:4: {tmp_path}/bad.csv:2: 1 fields, and the header has 2"):
        parse(f"file:{tmp_path}/bad.csv")


# Seeds of the prompts' own -------------------------------------------------------------------------------------------


def seeded(tmp_path: Path, **changes: Any) -> str:
    path = stored(tmp_path / "seeds.csv", 'prompt,seed\na red circle,"[3, 4]"\na blue square,\na star,9\n')
    return suite_text(ANY_PROMPTS, **{"prompts": [f"file:{path}"], "seeds": "own", **changes})


def test_own_seeds_are_those_of_each_prompt(tmp_path: Path) -> None:
    made = suite.parse(seeded(tmp_path), file="s.yaml")
    (note,) = made.notes
    assert missing(note, "2 of 3 prompts", f"'file:{tmp_path}/seeds.csv'", "left out") == []
    cells = [(c.prompt.index, c.seed) for c in make_plan(made).cells if c.arm.method == "standard"]
    assert cells == [(0, 3), (0, 4), (2, 9)]
    assert made.id != suite.parse(seeded(tmp_path, seeds=0), file="s.yaml").id


def test_a_run_with_own_seeds_has_their_images_and_no_table_of_single_images(tmp_path: Path, bench: Bench) -> None:
    (tmp_path / "own.yaml").write_text(seeded(tmp_path, steps=2))
    done = bench("run", tmp_path / "own.yaml", "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "runs").iterdir()
    found = json.loads((folder / "results.json").read_text())
    assert {(pair["index"], pair["seed"]) for pair in found["pairs"]} == {(0, 3), (0, 4), (2, 9)}
    assert any("2 of 3 prompts" in note for note in found["notes"])
    assert found["seeds"] == []


def test_own_seeds_of_prompts_without_any_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s.yaml:4: no prompt of 'drawbench' has seeds of its own.*hpd"):
        suite.parse(suite_text(prompts=["drawbench"], seeds="own"), file="s.yaml")
    with pytest.raises(UserError, match=r"'images_per_prompt' has no say over 'seeds: own'"):
        suite.parse(seeded(tmp_path, images_per_prompt=2), file="s.yaml")
    with pytest.raises(UserError, match="'seeds' is empty"):
        suite.parse(suite_text(seeds=[]), file="s.yaml")


def test_on_the_twin_own_seeds_are_exchanged_like_the_prompts() -> None:
    text = suite_text(prompts=["hpd"], seeds="own")
    made = suite.parse(text, file="s.yaml", twin=True)
    assert (made.seeds, made.prompts) == ((0,), ("shapes-hpd",))
    assert any("seeds are 0" in note for note in made.notes)
