"""Images are matched with prompts by order, by name or by a table, or refused with one line that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.intake.matching import by_name, by_table, in_order, labels, source
from bench.prompts.base import Prompt

PROMPTS = [Prompt(0, "a red cube"), Prompt(1, "a cat / a dog"), Prompt(2, "under_score")]


def folder(home: Path, names: Sequence[str]) -> Path:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"an image")
    return home


def places(found: Sequence[object]) -> list[tuple[str, int, int]]:
    return [(one.path.name, one.prompt.index, one.seed) for one in found]  # type: ignore[attr-defined]


def test_numbers_in_names_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    home = folder(tmp_path, ["img10.png", "img2.png", "img1.jpg", "notes.txt", ".hidden.png"])
    assert places(in_order(home, PROMPTS)) == [("img1.jpg", 0, 0), ("img2.png", 1, 0), ("img10.png", 2, 0)]


def test_several_images_of_a_prompt_stand_in_a_row(tmp_path: Path) -> None:
    home = folder(tmp_path, [f"{i}.png" for i in range(6)])
    assert [(p, s) for _, p, s in places(in_order(home, PROMPTS, per_prompt=2))] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1),
    ]  # fmt: skip
    with pytest.raises(UserError, match="6 images and 3 prompts; give --images-per-prompt 2, or match them"):
        in_order(home, PROMPTS)


def test_prompts_with_seeds_of_their_own_have_as_many_images(tmp_path: Path) -> None:
    home = folder(tmp_path, [f"{i}.png" for i in range(3)])
    own = [Prompt(0, "a", seeds=(7, 9)), Prompt(1, "b", seeds=(7,))]
    assert places(in_order(home, own)) == [("0.png", 0, 7), ("1.png", 0, 9), ("2.png", 1, 7)]


@pytest.mark.parametrize("n", [2, 4, 7])
def test_fewer_or_more_images_than_prompts_are_refused(tmp_path: Path, n: int) -> None:
    home = folder(tmp_path, [f"{i}.png" for i in range(n)])
    with pytest.raises(UserError, match=rf"{n} images and 3 prompts; match them with --match name"):
        in_order(home, PROMPTS)


def test_an_empty_folder_is_refused_and_one_that_is_only_deep_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no images \(expected files ending in \.png"):
        in_order(folder(tmp_path / "a", ["x.txt"]), PROMPTS)
    with pytest.raises(UserError, match="no images at its top; --match name looks below"):
        in_order(folder(tmp_path / "b", ["00000/samples/0000.png"]), PROMPTS)
    with pytest.raises(UserError, match="no such folder"):
        in_order(tmp_path / "c", PROMPTS)


@pytest.mark.parametrize(
    "names",
    [
        ["00000/samples/0001.png", "00001/samples/0001.png", "00002/samples/0001.png", "00000/grid.png"],
        ["0_1.png", "1-seed1.png", "2_seed_1.jpeg"],
        ["0/1.png", "1/1.png", "2/1.png"],
    ],
)
def test_names_of_numbers_say_place_and_seed(tmp_path: Path, names: list[str]) -> None:
    found = by_name(folder(tmp_path, names), PROMPTS)
    assert [(one.prompt.index, one.seed) for one in found] == [(0, 1), (1, 1), (2, 1)]


def test_names_of_texts_are_read_as_file_systems_let_them_be_written(tmp_path: Path) -> None:
    """T2I-CompBench's running number continues from prompt to prompt; a seed here counts within the prompt."""
    names = ["samples/a red cube_000000.png", "samples/a red cube_000001.png", "samples/A cat a dog_000002.png",
             "samples/under_score_000003.png"]  # fmt: skip
    found = by_name(folder(tmp_path, names), PROMPTS)
    assert [(one.prompt.index, one.seed) for one in found] == [(0, 0), (0, 1), (1, 0), (2, 0)]
    assert [one.path.name for one in found][:2] == ["a red cube_000000.png", "a red cube_000001.png"]
    with pytest.raises(UserError, match='1 images of "a cat / a dog", expected 2, and numbers that run through'):
        by_name(tmp_path, PROMPTS, paired=True)


def test_a_number_that_stands_behind_two_texts_is_a_seed(tmp_path: Path) -> None:
    """An image that is not there moves no other one to its seed."""
    names = ["a red cube_0.png", "a red cube_2.png", "a cat a dog_0.png", "a cat a dog_1.png", "under_score_2.png"]
    found = by_name(folder(tmp_path, names), PROMPTS, paired=True)
    assert [(one.prompt.index, one.seed) for one in found] == [(0, 0), (0, 2), (1, 0), (1, 1), (2, 2)]


def test_images_of_one_text_in_several_folders_are_counted(tmp_path: Path) -> None:
    names = [f"{at}/{text}.png" for at in "xy" for text in ("a red cube", "a cat a dog", "under_score")]
    found = by_name(folder(tmp_path, names), PROMPTS, paired=True)
    assert [one.seed for one in found] == [0, 1] * 3


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0.png", "1.png", "2.png", "3.png"], r"3\.png: its name says none of 3 prompts \(nor do 0 others\)"),
        (["0.png", "a blue cube.png"], "a blue cube.png: its name says none"),
        (["0.png", "1.png"], 'no image for 1 of 3 prompts, the first "under_score"'),
        (["0.png", "1.png", "2.png", "00002.png"], "the same prompt and seed as"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        by_name(folder(tmp_path, names), PROMPTS)


def test_a_table_gives_one_image_several_prompts_and_numbers_what_it_does_not_say(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "path,prompt,method\nx/1.png,a red cube,new\nx/1.png,a blue cube,new\nx/2.png,a red cube,new\n"
        "x/3.png,a red cube,\n"
    )
    found = by_table(tmp_path, table, method="images")
    assert [(one.path, one.prompt.text, one.prompt.index, one.method, one.seed) for one in found] == [
        (tmp_path / "x/1.png", "a red cube", 0, "new", 0),
        (tmp_path / "x/1.png", "a blue cube", 1, "new", 0),
        (tmp_path / "x/2.png", "a red cube", 0, "new", 1),
        (tmp_path / "x/3.png", "a red cube", 0, "images", 0),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("path,prompt\n../a.png,x", r"table\.csv:2: 'path' \"?'\.\./a\.png'\"? leads out of"),
        ("path,prompt\n/etc/a.png,x", "leads out of"),
        ("path,prompt\n,x", r"table\.csv:2: 'path' should name an image, got null"),
        ("path,prompt,seed\na.png,x,1\nb.png,x,1", r"table\.csv:3: the same prompt, method and seed as .*table\.csv:2"),
        ("path,prompt,seed\na.png,x,one", "'seed' should be a whole number"),
        ('path,prompt,seed\na.png,x,"[1, 2]"', "'seed' should be one whole number"),
        ("path,promt\na.png,x", "unknown key 'promt'; did you mean 'prompt'"),
        ("path,caption\na.png,x", "no column 'prompt'"),
        ("path,prompt\n", "no rows there"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, lines: str, said: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(lines + "\n")
    with pytest.raises(UserError, match=said):
        by_table(tmp_path, table, method="images")


def test_a_path_below_the_folder_may_be_absolute(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"path,prompt\n{tmp_path / 'x' / '1.png'},a\n")
    assert by_table(tmp_path, table, method="m")[0].path == tmp_path / "x" / "1.png"


def test_prompts_are_a_file_a_column_of_one_a_table_or_a_set(tmp_path: Path) -> None:
    table, plain = tmp_path / "t.csv", tmp_path / "p.csv"
    table.write_text("Path,caption\na.png,a red cube\n")
    plain.write_text("caption\na red cube\n")
    assert source(f"{table}:caption").table == table
    assert source(f"{table}:caption").column == "caption"
    assert [p.text for p in source(f"{plain}:caption").prompts] == ["a red cube"]
    assert source(f"{plain}:caption").name == "p.csv"
    assert len(source("shapes-geneval").prompts) > 100
    with pytest.raises(UserError, match="no column 'captoin'; did you mean 'caption'"):
        source(f"{plain}:captoin")
    with pytest.raises(UserError, match="unknown prompt 'shapes-genevall'; did you mean 'shapes-geneval'"):
        source("shapes-genevall")


def test_labels_are_as_long_as_it_takes_to_tell_folders_apart(tmp_path: Path) -> None:
    assert labels(tmp_path / "a", tmp_path / "b") == ("a", "b")
    assert labels(tmp_path / "a" / "images", tmp_path / "b" / "images") == ("a/images", "b/images")
    with pytest.raises(UserError, match="the same folder as --against"):
        labels(tmp_path / "a", tmp_path / "a")
