"""A run as a repository of results keeps it: its numbers and how they came about, without images and prompts.

The digest is of the results as JSON with sorted names, so that it is the same wherever they were written, and a file
that somebody edited is found. `read_submission` opens records of every version of results.json.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from bench.errors import UserError
from bench.records.base import Record
from bench.records.document import Results
from bench.records.load import content_of, json_of, parse

LARGEST = 64_000_000
"""Bytes of a record's file; a run of 40 arms, 10 metrics and 10 prompt sets has 5 million."""


class Submission(Record):
    """One run's results, without its pairs."""

    model_config = ConfigDict(title="a record of a repository of noisebench results")

    schema_version: Literal[1] = Field(alias="submission")
    """The format's version."""
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of `results`."""
    results: Results
    """As results.json has them; `pairs` is empty, `pairs_total` is not."""

    def text(self) -> str:
        """What a file holds: a line for each part of the results."""
        parts = ",\n".join(f"{_compact(name)}:{_compact(part)}" for name, part in self.results.document().items())
        return f'{{"submission":{self.schema_version},\n"digest":"{self.digest}",\n"results":{{\n{parts}\n}}}}\n'


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def submission(results: Results) -> Submission:
    """The record of results."""
    slim = results.model_copy(update={"pairs": ()})
    return Submission(submission=1, digest=digest_of(slim.document()), results=slim)


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 of results as JSON has them."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Damaged(UserError):
    """A record of this version that is not what was written; submitting the run again writes it again."""


def read_submission(file: Path) -> Submission:
    """The record in a file; UserError where it is none or of a newer version, Damaged where it was edited."""
    name = str(file)
    if file.is_symlink():
        raise UserError(f"{name}: a link; expected a file of its own")
    content = content_of(file)
    if len(content) > LARGEST:
        raise UserError(f"{name}: {len(content):,} bytes; expected a record of at most {LARGEST:,}")
    given = json_of(content, name)
    version = given.get("submission") if isinstance(given, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError(f"{name}: no record of results (no `submission` in it); `bench submit RUN --to DIR` writes one")
    if version > 1:
        raise UserError(f"{name}: written by a newer version (submission {version}, this one reads 1); upgrade")
    document, digest = given.get("results"), given.get("digest")
    if set(given) != {"submission", "digest", "results"} or not isinstance(document, dict):
        raise UserError(f"{name}: expected submission, digest and results in it, and nothing else")
    try:
        found = digest_of(document)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: damaged or edited by hand ({error})") from error
    if found != digest:
        raise Damaged(
            f"{name}: edited by hand or damaged (its results have the digest {found[:12]}, it says "
            f"{str(digest)[:12]}); submit the run again"
        )
    if document.get("pairs"):
        raise Damaged(f"{name}: has pairs in it; a record has no prompts and images: submit the run again")
    results = parse(json.dumps(document).encode(), name)
    return Submission(submission=1, digest=found, results=results)
