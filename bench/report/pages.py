"""The templates of html pages: one place says that whatever is put into them is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def environment(*packages: str) -> Any:
    """The jinja2 environment of this package's pages, after those of `packages`; what a page lacks is an error."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([*map(PackageLoader, packages), PackageLoader("bench.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
