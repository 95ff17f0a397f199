"""The versions of a baseline file, and the content of an older one in today's form.

A change of the format: raise SCHEMA, write its `update_to_N`, add the new digest to FORMATS, and keep a file of the
version before as a test. Version 1 had no scores of samples, without which nothing can be paired: it has no upgrade,
and whoever reads one is asked to freeze again. Version 2 gained fields without a new number until FORMATS was there
to stop it; what its older files lack is filled in by `upgraded`. Version 3 has the sizes of batches, where they were
recorded.
"""

from __future__ import annotations

from typing import Any, Final

Document = dict[str, Any]
SCHEMA: Final = 3
OLDEST: Final = 2
"""The first version that can be compared."""
FORMATS = {2: "975212e92d7d78bd", 3: "5b87a4a19824b48c"}
"""The digest of each version's names and types (`bench.records.json_schema.digest`), from when it was recorded."""


def upgraded(found: Document) -> Document:
    """The content of a file of version OLDEST to SCHEMA in today's form. KeyError, TypeError, AttributeError: none."""
    return {
        "tolerance": {},
        **found,
        "schema": SCHEMA,
        "metrics": {name: {"kind": "image", **one} for name, one in found["metrics"].items()},
        "pairs": {name: {"keys": None, **one} for name, one in found["pairs"].items()},
        "arms": [{"images": None, **arm, "cost": {"select_ms": None, **arm["cost"]}} for arm in found["arms"]],
    }
