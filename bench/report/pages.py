"""The templates of html pages: one place says that whatever is put into them is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


class Script(NamedTuple):
    """A script of ours, and its source expression for a Content-Security-Policy; both are safe to set as they are."""

    text: Any
    policy: Any


def scripted(text: str) -> Script:
    """A script that stands in a page."""
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), Markup(f"'sha256-{digest}'"))


@cache
def script(name: str) -> Script:
    """A script file beside this one."""
    return scripted((Path(__file__).parent / name).read_text(encoding="utf-8"))


def inert(value: Any) -> str:
    """JSON in ASCII that no text in it can end: <, > and & are written as escapes, and so is all beyond ASCII."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def soft(text: str) -> Any:
    """A name that may break after its underscores, hyphens and slashes, and within no word."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/-])(?=\w)", r"\1<wbr>", str(escape(text))))


@cache
def environment(*packages: str) -> Any:
    """The jinja2 environment of this package's pages, after those of `packages`; what a page lacks is an error."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=ChoiceLoader([*map(PackageLoader, packages), PackageLoader("bench.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["soft"] = soft
    return made
