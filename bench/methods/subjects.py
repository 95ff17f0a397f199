"""Which words of a prompt are its subjects, and at which tokens they stand.

Methods that read attention maps (InitNO, Attend-and-Excite) are given the tokens that matter by hand; a benchmark of
hundreds of prompts needs a rule. Three sources, the first that is there decides: words named in the suite, the
classes of the prompt's GenEval metadata, and nouns found by `nouns`, a heuristic.

The words need the text alone and can be checked while planning; the positions need the tokenizer. The words depend
on nothing that is installed, so neither do the images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import nearest
from bench.prompts.base import Prompt

_UNIT = re.compile(r"['’]s\b|[^\W_]+(?:[-'’](?!s\b)[^\W_]+)*|[^\w\s]")
_WORD_END = "</w>"
"""How CLIP's tokenizer marks the last token of a word."""


class Word(str):
    """A word as a prompt has it, which knows where it begins in the text: "fish" may stand in "fish tank" before."""

    start: int


def subject_words(prompt: Prompt, words: Sequence[str] | None = None) -> list[Word]:
    """The prompt's subjects as they are written in it, in its order, each whole occurrence once; never empty.

    `words` (of the suite) may hold phrases, such as "teddy bear", which stand for all their words; case is ignored,
    and a word named n times means its first n occurrences. Of a GenEval class of several words ("hot dog") the last
    one is taken, in singular or plural: it names the thing, CLIP's text encoder is causal so that its token has read
    the words before it, and a modifier of its own would be a second subject in the same place, which the
    conflict loss would drive out.

    Raises ValueError, one line, for a word or class that the prompt does not have, an empty `words`, and a prompt in
    which no noun is found.
    """
    units = _units(prompt.text)
    if words is not None:
        if not words:
            raise ValueError("no subject words are named; name at least one, or leave `words` out to have them found")
        places = _named(prompt.text, units, words)
    elif classes := _classes(prompt):
        places = _of_classes(prompt.text, units, classes)
    else:
        places = [(i, i + 1) for i in nouns(units)]
        if not places:
            raise ValueError(f"no subject word is found in the prompt {prompt.text!r}; name some with `words`")
    return [_word(prompt.text, units, place) for place in sorted(set(places))]


def positions(words: Sequence[str], text: str, tokenizer: Any) -> list[list[int]]:
    """The token positions of each of the prompt's `words` in the padded ids of `text`; the start token is 0.

    `tokenizer` is CLIP's (transformers) or another with the same call and `convert_ids_to_tokens`. A word of
    several tokens has all of theirs. A `Word` is looked up where it begins; the n-th mention of any other string in
    `words` is its n-th occurrence in the text. Raises ValueError for a word that is not among the tokens, most likely
    cut off at the tokenizer's length.
    """
    length = tokenizer.model_max_length
    ids = list(tokenizer(text, padding="max_length", truncation=True, max_length=length).input_ids)
    ids = ids[: end_of_text(text, tokenizer)]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    seen: Counter[tuple[int, ...]] = Counter()
    found = []
    for word in words:
        wanted = tuple(tokenizer(word, add_special_tokens=False).input_ids)
        places = range(1, len(ids) - len(wanted) + 1)
        starts = [i for i in places if tuple(ids[i : i + len(wanted)]) == wanted and _starts_word(pieces, i)]
        if isinstance(word, Word):
            begins = 1 + len(tokenizer(text[: word.start], add_special_tokens=False).input_ids)
            starts = [i for i in starts if i == begins]
        else:
            starts = starts[seen[wanted] :]
            seen[wanted] += 1
        if not wanted or not starts:
            raise ValueError(
                f"subject word {word!r} is not among the first {length - 2} tokens of the prompt {text!r}; "
                "shorten the prompt or name other words"
            )
        found.append(list(range(starts[0], starts[0] + len(wanted))))
    return found


def end_of_text(text: str, tokenizer: Any) -> int:
    """The position of the end-of-text token that closes `text`, cut at the tokenizer's length."""
    return len(tokenizer(text, truncation=True, max_length=tokenizer.model_max_length).input_ids) - 1


def subjects(prompt: Prompt, tokenizer: Any, *, words: Sequence[str] | None = None) -> list[list[int]]:
    """The token positions of each of the prompt's subjects; raises what `subject_words` and `positions` raise."""
    return positions(subject_words(prompt, words), prompt.text, tokenizer)


def plurals(word: str) -> set[str]:
    """The forms a plural of `word` may have, GenEval's own ("benchs", "knifes", "persons") among them."""
    endings = {"": "s", "y": "ies", "f": "ves", "fe": "ves", "man": "men"}
    forms = {word.removesuffix(end) + plural for end, plural in endings.items() if word.endswith(end)}
    return forms | {word + "es", _IRREGULAR.get(word, word + "s")}


_IRREGULAR = {
    "person": "people",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "child": "children",
}


@dataclass(frozen=True)
class Unit:
    """A word or a punctuation mark of a prompt: its lower-case form and its place in the text."""

    form: str
    start: int
    end: int

    @property
    def is_word(self) -> bool:
        return self.form[0].isalnum()


def _units(text: str) -> list[Unit]:
    return [Unit(m.group().casefold(), m.start(), m.end()) for m in _UNIT.finditer(text)]


def _word(text: str, units: Sequence[Unit], place: tuple[int, int]) -> Word:
    first, behind = place
    word = Word(text[units[first].start : units[behind - 1].end])
    word.start = units[first].start
    return word


def _starts_word(pieces: Sequence[str], i: int) -> bool:
    """Whether a word begins at token i: behind the start token or behind a word's end, if the tokenizer marks ends."""
    return i == 1 or pieces[i - 1].endswith(_WORD_END) or not any(p.endswith(_WORD_END) for p in pieces)


def _occurrences(units: Sequence[Unit], phrase: Sequence[str]) -> list[tuple[int, int]]:
    n = len(phrase)
    return [(i, i + n) for i in range(len(units) - n + 1) if [u.form for u in units[i : i + n]] == list(phrase)]


def _named(text: str, units: Sequence[Unit], words: Sequence[str]) -> list[tuple[int, int]]:
    seen: Counter[tuple[str, ...]] = Counter()
    places = []
    for word in words:
        phrase = tuple(u.form for u in _units(word))
        found = _occurrences(units, phrase) if phrase else []
        if not found:
            known = {u.form for u in units if u.is_word}
            raise ValueError(f"the prompt {text!r} has no word {word!r}{nearest(word.casefold(), known)}")
        if seen[phrase] >= len(found):
            raise ValueError(f"`words` names {word!r} more often than the prompt {text!r} has it ({len(found)})")
        places.append(found[seen[phrase]])
        seen[phrase] += 1
    return places


def _classes(prompt: Prompt) -> list[str]:
    """The distinct classes that the prompt's GenEval metadata wants in the image."""
    include = (prompt.metadata or {}).get("include") or ()
    return list(dict.fromkeys(str(clause["class"]) for clause in include))


def _of_classes(text: str, units: Sequence[Unit], classes: Sequence[str]) -> list[tuple[int, int]]:
    """The last word of every class; longer classes choose first, so that "bear" is not found in "teddy bear"."""
    taken: set[int] = set()
    places = []
    for name in sorted(classes, key=lambda name: -len(_units(name))):
        *before, last = [u.form for u in _units(name)]
        found = [
            place
            for form in (last, *sorted(plurals(last)))
            for place in _occurrences(units, [*before, form])
            if taken.isdisjoint(range(*place))
        ]
        if not found:
            raise ValueError(f"the prompt {text!r} does not name its GenEval class {name!r}; name its word in `words`")
        taken.update(range(*found[0]))
        places.append((found[0][1] - 1, found[0][1]))
    return places


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DETERMINERS = _set(
    "a an the this that these those some any each every another both several many few no all one two three four five "
    "six seven eight nine ten eleven twelve my your his her its our their"
)
_BE = _set("is are was were be been being am")
_BREAKS = _BE | _set(
    "'s ’s of in on at by for with without from to into onto over under above below near beside beneath between behind "
    "through across along around against inside outside upon within next during before after while as like than and or "
    "but nor so if when where who whose which what has have had do does did can could will would should may might must "
    "not there here it he she they we you i him them me us left right top bottom front back side sides middle center "
    "centre up down off out away very"
)
_FRAMES = _set(
    "photo photos photograph picture image painting drawing sketch illustration rendering render portrait depiction "
    "view shot closeup close-up background scene style version"
)
_PLACES = _set("on next near above below beside behind left right")
_MEASURES = _set("pair group bunch set piece pieces couple kind type number lot lots row dozen")
_VERBS = _set(
    "sits stands holds rides wears looks runs walks plays eats jumps flies lies sleeps swims carries drives watches "
    "sit stand hold ride wear sat stood held rode wore looked ran walked played ate jumped flew lay slept swam "
    "says say reads written made stuck"
)
_ADJECTIVES = _set(
    "red orange yellow green blue purple pink brown black white gray grey golden silver dark bright big large small "
    "little tiny huge long short tall round square old new young soft smooth rough fluffy bold dull wooden metallic "
    "beautiful cute shiny glossy intricate ancient modern"
)
_ING_NOUNS = _set(
    "building king ring wing string ceiling evening morning wedding clothing railing swing sling spring earring thing "
    "pudding dumpling duckling sibling"
)
_ED_NOUNS = _set("bed shed seed weed sled reed speed feed steed breed")
_LY_NOUNS = _set("fly butterfly dragonfly firefly family lily jelly")


def nouns(units: Sequence[Unit]) -> list[int]:
    """Indices of the units that are taken for the heads of a prompt's noun phrases; may be empty.

    A heuristic without a dictionary of nouns: a run of words between closed-class words and punctuation is a noun
    phrase, and its last word is the head once participles, adverbs and common verbs are taken off its end. Words that
    frame a picture ("a photo of") and measures ("a pair of") are none, nor is what follows a form of "to be" bare, nor
    a run behind a comma once a subject is known (such runs are mostly style tags). English only. It errs on verbs
    outside its small list, on nouns in -ing and -ed that it does not know, and counts nouns of the surroundings.
    """
    heads: list[int] = []
    i = 0
    while i < len(units):
        if _breaks(units[i]):
            i += 1
            continue
        end = i
        while end < len(units) and not _breaks(units[end]):
            end += 1
        head = _head(units, i, end)
        if head is not None and not _is_no_subject(units, i, end, head, bool(heads)):
            heads.append(head)
        i = end
    return heads


def _breaks(unit: Unit) -> bool:
    return not unit.is_word or unit.form in _BREAKS or unit.form in _DETERMINERS or unit.form.isdigit()


def _form(units: Sequence[Unit], i: int) -> str:
    return units[i].form if 0 <= i < len(units) else ""


def _head(units: Sequence[Unit], start: int, end: int) -> int | None:
    """The last word of units[start:end] that may be a noun."""
    before = _form(units, start - 1)
    for i in range(end - 1, start - 1, -1):
        form, alone = units[i].form, i == start
        named = alone and before in _DETERMINERS and before != "that"
        participle = form.endswith("ing") and form not in _ING_NOUNS
        past = form.endswith("ed") and form not in _ED_NOUNS
        adverb = form.endswith(("ward", "wards")) or (form.endswith("ly") and form not in _LY_NOUNS)
        if participle or past or adverb or form in _VERBS:
            last = named or (participle and i > start and units[i - 1].form in _ADJECTIVES)
        else:
            governs = i == end - 1 and form.endswith("s") and not form.endswith("ss")
            last = alone or not (governs and _form(units, end) in _DETERMINERS)
        if last and not any(c.isdigit() for c in form):
            return i
    return None


def _is_no_subject(units: Sequence[Unit], start: int, end: int, head: int, known: bool) -> bool:
    form, before, behind = units[head].form, _form(units, start - 1), _form(units, end)
    if form in _FRAMES and not (before in _DETERMINERS and behind in _PLACES):
        return True
    if form in _MEASURES and behind == "of":
        return True
    listed = behind in {"and", "or", ","} and end + 1 < len(units) and _form(units, end + 1) not in _DETERMINERS
    if listed and (form in _ADJECTIVES or form.endswith(("ous", "ful", "less"))):
        return True
    if before in _BE and _form(units, start - 2) != "there":
        return True
    in_style = before == "of" and _form(units, start - 2) == "style"
    return before == "by" or in_style or (known and before in {",", ";", "|", "."})
