"""Scorers that ask somebody else: a worker in an environment of its own, or a judge at a URL.

Both speak the protocol of `bench/workers/packages.py`. What is answered is distrusted: a score that is no finite
number, another number of scores than images, silence, a death or anything else that is no answer marks those scores
failed with the reason, and the others continue.
"""

from __future__ import annotations

import base64
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.metrics.base import Value

if TYPE_CHECKING:
    import numpy as np

    from bench.prompts.base import Prompt

PROTOCOL = 1
AT_ONCE = 8
"""Images of a request."""
PATIENCE = 3
"""Requests for one image that may break one after the other before no more requests are sent."""
SECONDS = 60.0
"""That an image may take, unless the suite says otherwise."""
LONGEST = 1_000_000
"""Bytes of an answer that are read; scores need far fewer."""


class Refused(Exception):
    """An answer that gives no scores and says why: the next request may well be answered."""


class Broken(Exception):
    """No answer, or none that can be read: whoever was asked is at fault."""


class Gone(Broken):
    """Nothing answers there, now or later."""


class Outside(ABC):
    """A scorer of images, or of pairs, that asks somebody else for a few at once."""

    def __init__(self, timeout: float | None, *, pairs: bool = False) -> None:
        self.seconds, self.pairs = timeout or SECONDS, pairs
        self.broken = 0
        """Requests for one image that broke since one was answered."""
        self.gone = ""
        """Why no more requests are sent."""
        self.number = 0

    @abstractmethod
    def ask(self, request: dict[str, Any], seconds: float) -> Any:
        """The answer to a request as JSON has it; Broken where there is none within so many seconds."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        """One value an image; failed where none was returned."""
        return self._values([list(images)], prompts)

    def score_pairs(
        self, baseline_images: Sequence[np.ndarray], method_images: Sequence[np.ndarray], prompts: Sequence[Prompt]
    ) -> list[Value]:
        """One preference in [0, 1] a prompt; failed where none was returned."""
        return self._values([list(method_images), list(baseline_images)], prompts)

    def _values(self, images: list[list[np.ndarray]], prompts: Sequence[Prompt]) -> list[Value]:
        found: list[Value] = []
        for begin in range(0, len(prompts), AT_ONCE):
            part = range(begin, min(begin + AT_ONCE, len(prompts)))
            try:
                found += self._asked(images, prompts, part)
            except (Refused, Broken):
                # One image may be the cause: each alone, so that it costs its own score.
                found += [self._alone(images, prompts, i) for i in part]
        return found

    def _alone(self, images: list[list[np.ndarray]], prompts: Sequence[Prompt], i: int) -> Value:
        try:
            (value,) = self._asked(images, prompts, range(i, i + 1))
        except Refused as error:
            self.broken = 0
            return Value.failed(str(error))
        except Broken as error:
            self.broken += 1
            if self.broken == PATIENCE and not self.gone:
                self.gone = f"not asked: {PATIENCE} requests broke one after the other; {error}"
            return Value.failed(str(error))
        self.broken = 0
        return value

    def _asked(self, images: list[list[np.ndarray]], prompts: Sequence[Prompt], part: range) -> list[Value]:
        if self.gone:
            raise Broken(self.gone)
        self.number += 1
        request: dict[str, Any] = {"protocol": PROTOCOL, "id": self.number}
        for key, pictures in zip(("images", "baseline"), images, strict=False):
            request[key] = [png(pictures[i]) for i in part]
        request["prompts"] = [prompts[i].text for i in part]
        try:
            answer = self.ask(request, self.seconds * len(part))
        except Gone as error:
            self.gone = str(error)
            raise
        return [self._value(score) for score in scores(answer, request)]

    def _value(self, score: Any) -> Value:
        if score is None:
            return Value.failed("no score was given")
        try:
            score = float(score)
        except OverflowError:  # JSON has whole numbers of any length
            return Value.failed("its score is larger than any number here")
        if not math.isfinite(score):
            return Value.failed(f"its score is not finite ({score})")
        if self.pairs and not 0 <= score <= 1:
            return Value.failed(f"its score of a pair is {score}, expected 0 to 1")
        return Value(score)


def png(image: np.ndarray) -> str:
    """An image (H, W, 3) uint8 as the base64 text of a PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode()


def parsed(line: bytes) -> Any:
    """An answer's JSON; Broken where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise Broken(f"an answer that is no JSON: {line[:60]!r}") from None


def scores(answer: Any, request: dict[str, Any]) -> list[float | None]:
    """The scores of an answer, one an image; Refused where it says why it has none, Broken where it is no answer."""
    if not isinstance(answer, dict):
        raise Broken("an answer that is no JSON object")
    if answer.get("protocol") != PROTOCOL:
        raise Broken(f"an answer of protocol {answer.get('protocol')!r}, expected {PROTOCOL}")
    if answer.get("id") != request["id"]:
        raise Broken(f"an answer to another request ({answer.get('id')!r})")
    if "error" in answer:
        raise Refused(plain(answer["error"]))
    found, n = answer.get("scores"), len(request["images"])
    if not isinstance(found, list) or len(found) != n:
        given = len(found) if isinstance(found, list) else "no"
        raise Broken(f"{given} scores for {n} image{'s' * (n != 1)}")
    if not all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in found):
        raise Broken("scores that are no numbers")
    return found


def plain(text: Any) -> str:
    """A foreign text as part of a line."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:300]
