"""Which words are the subjects, and where they stand.

`python tests/methods/test_subjects.py [geneval_metadata.jsonl]` prints precision and recall of the found nouns: on
GenEval's prompts, whose classes are the truth, and on `BY_HAND`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.methods.subjects import end_of_text, plurals, positions, subject_words, subjects
from bench.prompts.base import Prompt
from bench.prompts.files import folder
from bench.shapes.prompt_sets import reader
from bench.shapes.tokenizer import MAX_LENGTH, build_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "prompts"

BY_HAND = {
    "The rough square was nestled between the smooth rectangle and the bumpy sphere.": "square rectangle sphere",
    "The soft pink rose petal fell onto the rough grey sidewalk.": "petal sidewalk",
    "The delicious ice cream melted on the crispy cone and the soft sprinkles.": "cream cone sprinkles",
    "The red mug was on top of the green coaster.": "mug coaster",
    "The black pencil was next to the green notebook.": "pencil notebook",
    "The plump, red cherries hung low on the branches, ripe and ready for picking by eager hands.": (
        "cherries branches hands"
    ),
    "The yellow pencil was next to the blue pen.": "pencil pen",
    "The flickering candle cast shadows on the smooth wall and the textured rug.": "candle shadows wall rug",
    "The cool, refreshing breeze blew through the open window, carrying the sweet scent of blooming flowers.": (
        "breeze window scent flowers"
    ),
    "The green plant is on top of the silver nightstand.": "plant nightstand",
    "The vibrant, swirling colors of the tie-dye shirt burst with energy and personality, a unique expression of "
    "individuality and creativity.": "colors shirt energy personality expression individuality creativity",
    "The prickly green cactus contrasted with the smooth white walls.": "cactus walls",
    "A child is playing with a toy train and making it chug along.": "child train",
    "A horse is galloping in a meadow.": "horse meadow",
    "A child is playing with a toy boat at the beach.": "child boat beach",
    "A river is flowing through a canyon.": "river canyon",
    "A child is playing with a toy airplane and pretending to fly.": "child airplane",
    "A person is wearing a backpack and walking on a hiking trail.": "person backpack trail",
    "A dog is playing fetch with its owner and bringing back a ball.": "dog fetch owner ball",
    "A child is running through a sprinkler and getting soaked.": "child sprinkler",
    "A group of friends are playing frisbee in the park.": "friends frisbee park",
    "A man is holding a briefcase and rushing to catch a train.": "man briefcase train",
    "A man is holding a telescope and observing a comet in the night sky.": "man telescope comet sky",
    "A person is running on a treadmill and working up a sweat.": "person treadmill sweat",
}
"""24 prompts of T2I-CompBench (complex, non-spatial), drawn by seed after the heuristic was written and labelled by
hand; it was not changed after them."""


def found(text: str) -> list[str]:
    try:
        return subject_words(Prompt(0, text))
    except ValueError:
        return []


def precision_recall(cases: Iterable[tuple[str, list[str]]]) -> tuple[float, float, int]:
    """Of found words: the share that is right, the share of the truth that is found, prompts that are all right."""
    right = said = true = whole = 0
    for text, truth in cases:
        words = found(text)
        right += len(set(words) & set(truth))
        said, true, whole = said + len(set(words)), true + len(set(truth)), whole + (set(words) == set(truth))
    return right / said, right / true, whole


def from_geneval(path: Path) -> list[tuple[str, list[str]]]:
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [(row["prompt"], subject_words(Prompt(0, row["prompt"], row["tag"], row))) for row in rows]


# Words of the suite


def test_named_words_come_in_the_prompts_order_and_spelling():
    prompt = Prompt(0, "A Cat and a rabbit, near a teddy bear")
    assert subject_words(prompt, ["rabbit", "cat", "Teddy Bear"]) == ["Cat", "rabbit", "teddy bear"]


def test_named_words_need_not_be_nouns_and_come_before_metadata():
    prompt = Prompt(0, "a photo of a dog", metadata={"include": [{"class": "dog", "count": 1}]})
    assert subject_words(prompt, ["photo"]) == ["photo"]


@pytest.mark.parametrize("text", ["a dog's ball", "a DOG, and a ball!", "(dog) ball", '"dog"—ball', "dog’s ball"])
def test_punctuation_and_case_do_not_hide_a_word(text):
    assert [w.lower() for w in subject_words(Prompt(0, text), ["Dog", "ball"])] == ["dog", "ball"]


def test_a_word_inside_a_longer_one_is_another_word():
    with pytest.raises(ValueError, match="no word 'cat'"):
        subject_words(Prompt(0, "a photo of cattle"), ["cat"])


def test_a_word_named_twice_means_two_occurrences():
    prompt = Prompt(0, "a red dog and a blue dog")
    assert subject_words(prompt, ["dog"]) == ["dog"]
    assert subject_words(prompt, ["dog", "dog"]) == ["dog", "dog"]
    with pytest.raises(
        ValueError, match=r"names 'dog' more often than the prompt 'a red dog and a blue dog' has it \(2\)"
    ):
        subject_words(prompt, ["dog"] * 3)


def test_an_unknown_word_is_named_with_the_nearest_of_the_prompt():
    with pytest.raises(ValueError, match=r"the prompt 'two cats and a dog' has no word 'cat'; did you mean 'cats'\?"):
        subject_words(Prompt(0, "two cats and a dog"), ["cat"])
    with pytest.raises(ValueError, match="has no word 'zebra'; known: a, and, cats, dog, two"):
        subject_words(Prompt(0, "two cats and a dog"), ["zebra"])
    with pytest.raises(ValueError, match="has no word '!'"):
        subject_words(Prompt(0, "two cats"), ["!"])


def test_no_words_are_refused():
    with pytest.raises(ValueError, match="no subject words are named"):
        subject_words(Prompt(0, "a cat"), [])


@pytest.mark.parametrize(("words", "text"), [(["zebra"], "a cat"), ([], "a cat"), (None, "of the"), (None, "")])
def test_every_refusal_is_one_line(words, text):
    with pytest.raises(ValueError, match=r"prompt|named") as refusal:
        subject_words(Prompt(0, text), words)
    assert "\n" not in str(refusal.value)


# GenEval metadata


@pytest.mark.parametrize(
    ("text", "classes", "expected"),
    [
        ("a photo of four hot dogs", ["hot dog"], ["dogs"]),
        ("a photo of three benchs", ["bench"], ["benchs"]),
        ("a photo of four knifes", ["knife"], ["knifes"]),
        ("two mice and three people", ["person", "mouse"], ["mice", "people"]),
        ("a photo of a bear left of a teddy bear", ["bear", "teddy bear"], ["bear", "bear"]),
        ("a photo of a teddy bear left of a bear", ["bear", "teddy bear"], ["bear", "bear"]),
        ("a photo of a dog above a cow", ["cow", "dog"], ["dog", "cow"]),
        ("a TV remote and a cup", ["tv remote", "cup", "cup"], ["remote", "cup"]),
    ],
)
def test_classes_give_their_last_word_in_the_prompts_order(text, classes, expected):
    include = [{"class": name, "count": 1} for name in classes]
    assert subject_words(Prompt(0, text, metadata={"include": include})) == expected


def test_a_class_that_the_prompt_does_not_name_is_refused():
    prompt = Prompt(0, "a fluffy animal", metadata={"include": [{"class": "dog", "count": 1}]})
    with pytest.raises(ValueError, match="does not name its GenEval class 'dog'; name its word in `words`"):
        subject_words(prompt)


def test_metadata_without_classes_fall_back_to_nouns():
    assert subject_words(Prompt(0, "a photo of a dog", metadata={"tag": "x"})) == ["dog"]


def test_every_embedded_prompt_names_its_classes():
    for name in ("geneval", "drawbench", "pick-a-pic", "hpd"):
        for prompt in reader(name)():
            assert prompt.metadata is not None
            classes = {clause["class"] for clause in prompt.metadata["include"]}
            words = subject_words(prompt)
            assert len(words) == len(classes)
            assert all(any(w == c or w in plurals(c) for c in classes) for w in words)


# Nouns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat and a rabbit", "cat rabbit"),
        ("a photo of a purple suitcase and an orange pizza", "suitcase pizza"),
        ("a toothbrush left of a carrot", "toothbrush carrot"),
        ("A woman is holding a yoga mat and heading to a class.", "woman mat class"),
        ("a dog running on the beach", "dog beach"),
        ("a dog chases a cat", "dog cat"),
        ("a cat, highly detailed, 8k, artstation, by Greg Rutkowski", "cat"),
        ("There are horses in a pair of red shoes", "horses shoes"),
        ("a castle in the style of Monet", "castle"),
        ("a kitchen with yellow and white floor tiles", "kitchen tiles"),
        ("Jentacular.", "Jentacular"),
    ],
)
def test_nouns(text, expected):
    assert subject_words(Prompt(0, text)) == expected.split()


@pytest.mark.parametrize("text", ["", "  ", "...", "of the", "running quickly", "a photo of", "4k, 8k"])
def test_a_prompt_without_nouns_is_refused(text):
    with pytest.raises(ValueError, match="no subject word is found in the prompt"):
        subject_words(Prompt(0, text))


def test_nouns_of_prompts_labelled_by_hand():
    precision, recall, _ = precision_recall((text, words.split()) for text, words in BY_HAND.items())
    assert precision > 0.85
    assert recall > 0.85


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder `shared/prompts` beside the checkout")
def test_nouns_of_geneval():
    precision, recall, whole = precision_recall(from_geneval(SHARED / "geneval_metadata.jsonl"))
    assert (precision, recall, whole) == (1.0, 1.0, 553)


@given(st.text())
def test_any_text_gives_words_of_its_own_or_a_refusal(text):
    assert all(word in text and word for word in found(text))


# Token positions


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_positions_count_the_start_token(tokenizer):
    assert positions(["circle", "squares"], "a red circle, and Two squares", tokenizer) == [[3], [7]]
    assert end_of_text("a red circle, and Two squares", tokenizer) == 8


def test_case_and_punctuation_do_not_move_a_word(tokenizer):
    assert positions(["Circle"], 'A "CIRCLE"!', tokenizer) == [[3]]
    assert positions(["circle"], "a circle's ring", tokenizer) == [[2]]


def test_a_word_of_several_tokens_has_all_of_them(tokenizer):
    ids = tokenizer("a xylophone and a circle").input_ids
    (xylophone, circle) = positions(["xylophone", "circle"], "a xylophone and a circle", tokenizer)
    assert len(xylophone) > 1
    assert "".join(tokenizer.convert_ids_to_tokens([ids[i] for i in xylophone])) == "xylophone</w>"
    assert circle == [xylophone[-1] + 3]


def test_mentions_are_occurrences_in_turn(tokenizer):
    assert positions(["circle", "circle"], "a circle above a circle", tokenizer) == [[2], [5]]


def test_a_found_word_is_the_one_that_was_found(tokenizer):
    """Where the same word stands before as a modifier, which mentions alone would take it for."""
    text = "a square circle above a square"
    assert positions(subject_words(Prompt(0, text)), text, tokenizer) == [[3], [6]]
    assert subjects(Prompt(0, "two circles, circle-square; a circle"), tokenizer, words=["circle"]) == [[9]]
    assert positions(["square"], text, tokenizer) == [[2]]


def test_the_end_of_a_longer_word_is_not_the_word(tokenizer):
    text = "a xyzs and s"
    (place,) = positions(["s"], text, tokenizer)
    assert place == [end_of_text(text, tokenizer) - 1]


def test_a_word_beyond_the_tokenizers_length_is_refused(tokenizer):
    text = "a red circle and " * 6 + "a square"
    with pytest.raises(ValueError, match=f"'square' is not among the first {MAX_LENGTH - 2} tokens") as refusal:
        positions(["square"], text, tokenizer)
    assert "\n" not in str(refusal.value)
    assert end_of_text(text, tokenizer) == MAX_LENGTH - 1


def test_an_empty_word_is_refused(tokenizer):
    with pytest.raises(ValueError, match="subject word '' is not among"):
        positions([""], "a circle", tokenizer)


def test_subjects_of_every_embedded_prompt(tokenizer):
    for prompt in reader("geneval")():
        ids = tokenizer(prompt.text).input_ids
        for word, places in zip(subject_words(prompt), subjects(prompt, tokenizer), strict=True):
            assert tokenizer.decode([ids[i] for i in places]).strip() == word.lower()


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else folder() / "geneval_metadata.jsonl"
    for title, cases in {
        "GenEval": from_geneval(path),
        "by hand": [(text, words.split()) for text, words in BY_HAND.items()],
    }.items():
        precision, recall, whole = precision_recall(cases)
        print(f"{title}: precision {precision:.3f}, recall {recall:.3f}, {whole} of {len(cases)} prompts all right")
        for text, truth in cases:
            if set(found(text)) != set(truth):
                print(f"  {text!r}: found {found(text)}, true {truth}")
