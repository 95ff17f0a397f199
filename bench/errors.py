"""The few error types; each becomes one line on the terminal and one exit code."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping

MASK = "***"
"""What stands in the place of a secret."""

_SECRET = r"(?:token|secret|passwd|password|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)"
# Whose end is the user's business ends the value: a space, a quote, the next parameter of an address.
_VALUE = r"[^\s&'\",)}\]]+"
_SHOWN = (
    # https://user:password@host
    re.compile(r"((?<=://))[^\s/?#@'\"]+(?=@)"),
    # hub.token=x, api_key='x', {"password": "x"}; `tokens=4` is another word
    re.compile(rf"(?i)({_SECRET}(?:=['\"]?|['\"]\s*:\s*['\"]?)){_VALUE}"),
    # https://host/file?X-Amz-Signature=x
    re.compile(rf"(?i)([?&][\w.-]*(?:sig|signature|auth|key|token)=){_VALUE}"),
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"),
    # Access tokens by how they start: of the Hugging Face hub, of GitHub, of common judges and stores.
    re.compile(r"()\b(?:hf_|gh[pousr]_|sk-|AKIA)[A-Za-z0-9_-]{16,}"),
)
_SECRET_VARIABLE = re.compile(rf"(?i){_SECRET}$")
_SHORTEST = 8
"""Characters of a variable's value from which it is looked for: a shorter one would be found in any text."""


class BenchError(Exception):
    """Something a user can act on; the message says what was given, what was expected and what to do."""

    exit_code = 4


class UserError(BenchError):
    """The user's mistake: a file, a name, a value, a folder."""

    exit_code = 2


class NotComparable(BenchError):
    """Two things that cannot be compared: nothing measured, another protocol, another suite."""

    exit_code = 3


class MethodFault(BenchError):
    """A hook of a method gave what it may not give; the images of its arm fail for it."""


class Regression(BenchError):
    """A gate rule failed."""

    exit_code = 1


class Terminated(KeyboardInterrupt):
    """The process is asked to end (SIGTERM): it ends as at Ctrl-C, with an exit code of its own."""


def first_line(error: BaseException) -> str:
    """What an error says, cut to its first line and without secrets; its class where it says nothing."""
    return masked((str(error).strip() or type(error).__name__).splitlines()[0])


def masked(text: str) -> str:
    """A text with `***` in the place of secrets: it is kept in a ledger or shown in a log that others read.

    Secrets are user and password of an address, values whose name says so (`token=`, `password=`, `api_key=`,
    signatures of an address), access tokens of known form, and what environment variables with such a name, as
    HF_TOKEN has, hold now.
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and _SECRET_VARIABLE.search(name):
            text = text.replace(value, MASK)
    for pattern in _SHOWN:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables but those whose name says that they hold a secret, for a program that needs none."""
    return {name: value for name, value in variables.items() if not _SECRET_VARIABLE.search(name)}


def masked_word(word: str) -> str:
    """`masked` for one word of a command line, whose value may have spaces: `--set judge.token=a b`."""
    name, equals, _ = word.partition("=")
    return f"{name}={MASK}" if equals and _SECRET_VARIABLE.search(name) else masked(word)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else `; known: a, b, c`; empty without known names."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
