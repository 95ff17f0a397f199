"""Messages are tested by what they tell a user, and not by their sentences, which may be said better."""

from __future__ import annotations


def missing(text: str, *facts: str) -> list[str]:
    """What a message does not say: the given value, what was expected, what to do."""
    return [fact for fact in facts if fact not in text]
