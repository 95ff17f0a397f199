"""The hub while it is asked: whether it can be, what its library raises as one line, and how far a download is."""

from __future__ import annotations

import errno
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from bench.errors import UserError, first_line
from bench.needs.base import Tell, Unreachable, gigabytes

SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""
REACHED = 4.0
"""Seconds for the first answer of the hub's host, before it is taken for one that cannot be reached."""


def check_reachable() -> None:
    """Unreachable, within seconds, where the hub cannot be asked; it is tried once."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise Unreachable("HF_HUB_OFFLINE forbids to ask the hub; unset it")
    if why := _unreachable(constants.ENDPOINT):
        raise Unreachable(
            f"{constants.ENDPOINT} cannot be reached ({why}); check the network or the proxy, set HF_ENDPOINT to a "
            "mirror of the hub, or fetch on another machine and bring its HF_HOME here"
        )


@cache
def _unreachable(endpoint: str) -> str:
    """Why an address gives no answer, itself or through its proxy; empty where it gives any, a refusal too.

    The library asks a host that drops its connections again for half a minute, and waits without an end for one that
    takes them and is silent. In a thread, as looking up a name has no time limit of its own.
    """
    found: list[str] = []

    def ask() -> None:
        try:
            urlopen(Request(endpoint, method="HEAD"), timeout=REACHED).close()
            found.append("")
        except HTTPError:
            found.append("")
        except (OSError, ValueError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            # The library has certificates of its own: where these here do not suffice there was an answer.
            said = first_line(reason if isinstance(reason, Exception) else error)
            found.append("" if isinstance(reason, ssl.SSLError) else said)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACHED)
    return found[0] if found else f"no answer within {REACHED:.0f} s"


# What goes wrong ----------------------------------------------------------------------------------------------------


@contextmanager
def faults(where: str, page: str) -> Iterator[None]:
    """What the hub's library raises, as one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it has a class for every way of being unreachable, and passes on those of its parts
        kind = Unreachable if _is_connection(error) else UserError
        raise kind(f"{where}: {_why(page, error)}") from error


def _is_connection(error: Exception) -> bool:
    """Whether no answer came, where another kind of error is an answer."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    # The library's HTTP client is another package in each of its versions; the class keeps its name.
    transport = any(one.__name__ == "TransportError" for one in type(error).__mro__)
    return transport or isinstance(error, ConnectionError | TimeoutError | LocalEntryNotFoundError)


def _why(page: str, error: Exception) -> str:
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return f"gated: accept its terms at {page}, then log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no such commit; {page}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such repository, or a private one: see {page}; log in with `hf auth login` if you may read it"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"the commit has no such file ({first_line(error)})"
    if constants.HF_HUB_OFFLINE:
        return "not on this machine, and HF_HUB_OFFLINE forbids to fetch it; unset it"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some room, or set HF_HOME to another disk, and fetch again"
    return f"cannot be fetched from {constants.ENDPOINT} ({first_line(error)}); fetch again to resume"


# How far it is ------------------------------------------------------------------------------------------------------


@cache
def progress_bar(tell: Tell | None) -> type[Any]:
    """The library's own bar on a terminal; elsewhere one that tells a line now and then."""
    from huggingface_hub.utils.tqdm import tqdm as bar  # a subclass of tqdm's

    if tell is None or sys.stderr.isatty():
        return bar

    class Lines(bar):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **settings: Any):
            counts = settings.get("unit") == "B" and "Reconstruct" in str(settings.get("desc"))
            super().__init__(*arguments, **{**settings, "disable": not counts, "mininterval": SECONDS})

        def display(self, *_: Any, **__: Any) -> None:
            if self.n and self.total and tell:
                rate = self.format_dict.get("rate") or self.n / max(self.format_dict["elapsed"], 1e-9)
                left = (self.total - self.n) / max(rate, 1)
                tell(f"{gigabytes(self.n)} of {gigabytes(self.total)}, {gigabytes(rate)}/s, {left:.0f} s left")

        def close(self) -> None:
            self.disable = True

    return Lines
