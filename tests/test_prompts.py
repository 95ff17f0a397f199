"""The public prompt sets, read as the paper's released code reads them (PROTOCOL 3)."""

from __future__ import annotations

from collections import Counter

import pytest
from stored_prompts import CATEGORIES, SHARED, needs_files, read
from stored_prompts import public as public

from bench import registry


@needs_files
@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    ("name", "size", "first"),
    [
        ("drawbench", 200, "A red colored car."),
        ("hpd", 100, "Dwayne the Rock Johnson wrestles Jesus Christ in a WWE match in a hell in a cell."),
        ("hpd_full", 100, "Dwayne the Rock Johnson wrestles Jesus Christ in a WWE match in a hell in a cell."),
        ("hpd_all", 371, "Dwayne the Rock Johnson wrestles Jesus Christ in a WWE match in a hell in a cell."),
        ("geneval", 553, "a photo of a bench"),
        ("t2i-compbench", 2400, "a green bench and a blue bowl"),
        *((f"t2i-compbench_{c}", 300, None) for c in CATEGORIES),
    ],
)
def test_sizes_and_first_rows(name: str, size: int, first: str | None) -> None:
    prompts = read(name)
    assert len(prompts) == size == registry.get("prompts", name).size
    assert [p.index for p in prompts] == list(range(size))
    assert first in (None, prompts[0].text)
    assert all(p.text and p.text == p.text.strip() for p in prompts)


@needs_files
@pytest.mark.usefixtures("public")
def test_drawbench_categories() -> None:
    """The public file writes "Gary Marcus et al. " with a space behind it."""
    assert Counter(p.category for p in read("drawbench")) == {
        "Reddit": 38,
        "Colors": 25,
        "Text": 21,
        "DALL-E": 20,
        "Descriptions": 20,
        "Positional": 20,
        "Counting": 19,
        "Conflicting": 10,
        "Gary Marcus et al.": 10,
        "Misspellings": 10,
        "Rare Words": 7,
    }


@needs_files
@pytest.mark.usefixtures("public")
def test_the_paper_cut_31_of_its_100_hpd_prompts_at_their_first_comma() -> None:
    cut, full = read("hpd"), read("hpd_full")
    differ = [a.index for a, b in zip(cut, full, strict=True) if a.text != b.text]
    assert len(differ) == 31
    assert differ[:7] == [1, 14, 16, 17, 18, 19, 25]
    for a, b in zip(cut, full, strict=True):
        assert b.text.split(",")[0].strip() == a.text
        assert ("," in b.text) == (a.index in differ)
    assert full[1].text == (
        "An anime man in flight uniform with hyper detailed digital artwork and an art style inspired by Klimt, "
        "Nixeu, Ian Sprigger, Wlop, and Krenz Cushart."
    )


@needs_files
@pytest.mark.usefixtures("public")
def test_geneval_carries_its_metadata() -> None:
    prompts = read("geneval")
    assert Counter(p.category for p in prompts) == {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    for p in prompts:
        assert p.metadata is not None
        assert (p.metadata["tag"], p.metadata["prompt"]) == (p.category, p.text)
        assert all({"class", "count"} <= set(clause) for clause in p.metadata["include"])
        assert ("exclude" in p.metadata) == (p.category == "counting")
    # The protocol makes four images a prompt.
    assert registry.get("prompts", "geneval").images_per_prompt == 4


@needs_files
@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("category", CATEGORIES)
def test_compbench_lines_lose_their_ends_and_the_last_one_is_not_lost(category: str) -> None:
    """Most of the files end their lines with CRLF and the last one not at all, so that `wc -l` says 299."""
    raw = (SHARED / f"t2i_compbench_{category}_val.txt").read_bytes()
    prompts = read(f"t2i-compbench_{category}")
    assert not any({"\r", "\n"} & set(p.text) for p in prompts)
    assert [p.text.encode() for p in prompts] == [line.strip() for line in raw.strip().split(b"\n")]


@needs_files
@pytest.mark.usefixtures("public")
def test_compbench_color_is_the_case_of_crlf_and_an_unterminated_last_line() -> None:
    raw = (SHARED / "t2i_compbench_color_val.txt").read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == 299
    assert not raw.endswith(b"\n")
    last = read("t2i-compbench_color")[-1]
    assert (last.index, last.text) == (299, "a black bathroom with a black and white shower curtain")


@needs_files
@pytest.mark.usefixtures("public")
def test_compbench_whole_is_its_eight_categories() -> None:
    prompts = read("t2i-compbench")
    assert Counter(p.category for p in prompts) == dict.fromkeys(CATEGORIES, 300)
    assert [p.text for p in prompts[300:600]] == [p.text for p in read("t2i-compbench_shape")]


@needs_files
@pytest.mark.usefixtures("public")
def test_the_whole_hpd_file_continues_where_the_papers_hundred_end() -> None:
    whole = read("hpd_all")
    assert [p.text for p in whole[:100]] == [p.text for p in read("hpd_full")]
    assert len({p.text for p in whole}) > 360


@needs_files
@pytest.mark.usefixtures("public")
def test_hpd_has_the_seeds_that_the_paper_prints() -> None:
    """PROTOCOL 3, figure 18: prompt 0 with seed 8, prompt 4 without, prompt 18 with 65."""
    for name in ("hpd", "hpd_full", "hpd_all"):
        assert {i: read(name)[i].seeds for i in (0, 4, 18)} == {0: (8,), 4: (), 18: (65,)}
        assert sum(bool(p.seeds) for p in read(name)) == 17 == len(registry.get("prompts", name).seeds)


def test_pick_a_pics_own_seeds_are_known_without_its_file() -> None:
    """PROTOCOL 3, figure 18; all before row 87, so that rows and prompts have the same numbers."""
    seeds = registry.get("prompts", "pick-a-pic").seeds
    assert (seeds[0], seeds[19], len(seeds), max(seeds)) == ((54,), (68,), 17, 19)
    assert 8 not in seeds
