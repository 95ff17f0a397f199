"""Prompts of a data set on the hub: `hf:OWNER/NAME@COMMIT:SPLIT:COLUMN`, read once through `datasets` and kept.

SPLIT may be CONFIG/SPLIT. The commit is required, because a branch moves and with it what a run was made of. What was
read is kept below `BENCH_DATA`, so that later runs need neither the hub nor `datasets`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.digests import COMMIT
from bench.errors import UserError, nearest
from bench.needs.base import Source, Tell
from bench.prompts.base import Prompt, PromptSet
from bench.prompts.files import folder
from bench.prompts.own import MAX_LETTERS
from bench.prompts.rows import MAX_ROWS
from bench.registry import add_plugin
from bench.store import write_atomically

FORM = "hf:OWNER/NAME@COMMIT:SPLIT:COLUMN"
_NAME = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<commit>[^:]*))?:(?:(?P<config>[\w.-]+)/)?(?P<split>\w+(?:\.\w+)*):(?P<column>.{1,100})",
    re.ASCII,
)


@dataclass(frozen=True)
class Reference:
    """One column of one split of a data set at a commit."""

    repo: str
    commit: str
    config: str
    """Empty: the only one, or the default."""
    split: str
    column: str

    @property
    def name(self) -> str:
        """As a suite writes it."""
        config = f"{self.config}/" if self.config else ""
        return f"hf:{self.repo}@{self.commit}:{config}{self.split}:{self.column}"

    @property
    def kept(self) -> Path:
        """Where its prompts lie once they were read."""
        column = quote(self.column, safe="")
        return folder() / "hf" / self.repo / self.commit / f"{self.config or 'default'}--{self.split}--{column}.json"


def parse(name: str) -> Reference:
    """A reference as it is written; UserError for another form or a branch in the place of a commit."""
    found = _NAME.fullmatch(name)
    if found is None or ".." in found["repo"]:
        raise UserError(f"{name!r}: expected {FORM}")
    commit = found["commit"] or ""
    if not COMMIT.fullmatch(commit):
        given = f"{commit!r} is no commit" if commit else "the commit is missing"
        raise UserError(
            f"{name!r}: {given}; expected {FORM} with the 40 hex digits that the data set's page shows under "
            "Files and versions, History"
        )
    return Reference(found["repo"], commit, found["config"] or "", found["split"], found["column"])


def read(of: Reference) -> list[Prompt]:
    """Its distinct prompts in the order of their first row, without empty ones; from the disk where they are kept.

    A data set of votes or images has a row for each, and repeats its prompts. UserError for what cannot be had.
    """
    texts = _read_kept(of)
    if texts is None:
        texts = _distinct(of, _download(of))
        of.kept.parent.mkdir(parents=True, exist_ok=True)
        kept = {"source": of.name, "sha256": _digest(texts), "texts": texts}
        write_atomically(of.kept, json.dumps(kept, ensure_ascii=False, indent=0).encode())
    return [Prompt(i, text) for i, text in enumerate(texts)]


@dataclass(frozen=True)
class Rows(Source):
    """The prompts of a reference, kept once they were read."""

    of: Reference

    @property
    def where(self) -> str:
        return self.of.name

    def here(self) -> bool:
        try:
            return _read_kept(self.of) is not None
        except UserError:
            return False

    def get(self, *, tell: Tell | None = None, to: Path | None = None) -> None:
        """Read them, and keep them; what is kept and broken is read again."""
        if not self.here():
            self.of.kept.unlink(missing_ok=True)
        read(self.of)


def set_of(name: str) -> PromptSet:
    """The set of a reference, which is not fetched before it is read."""
    of = parse(name)
    kept = _read_kept(of)
    size = len(kept) if kept is not None else 0
    return PromptSet(
        name,
        size,
        lambda: read(of),
        of.repo,
        about="a data set on the hub",
        revision=of.commit,
        files=(Rows(of),),
    )


def _digest(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _read_kept(of: Reference) -> list[str] | None:
    """What was kept of it; None where nothing was. UserError for a file that is not as it was written."""
    try:
        found = json.loads(of.kept.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    texts = found.get("texts") if isinstance(found, dict) else None
    if not isinstance(texts, list) or found.get("sha256") != _digest(texts):
        raise UserError(f"{of.kept}: broken; remove it, and it is fetched again")
    return texts


def _distinct(of: Reference, texts: list[Any]) -> list[str]:
    found: dict[str, None] = {}
    for number, text in enumerate(texts, start=1):
        if text is None:
            continue
        if not isinstance(text, str):
            raise UserError(f"{of.name}: row {number}: {of.column!r} should be text, got {type(text).__name__}")
        if len(text) > MAX_LETTERS or "\0" in text:
            raise UserError(
                f"{of.name}: row {number}: {of.column!r} should be a prompt, got {len(text):,} characters"
                f"{' with NUL among them' if chr(0) in text else ''}"
            )
        if text.strip():
            found.setdefault(text.strip())
    if not found:
        raise UserError(f"{of.name}: no prompts there")
    return list(found)


def _download(of: Reference) -> list[Any]:
    """The column, whole, as the hub has it at that commit."""
    try:
        import datasets
        from huggingface_hub.constants import is_offline_mode
    except ImportError:
        raise UserError(f"{of.name}: needs the package `datasets`; pip install datasets") from None
    if is_offline_mode():
        raise UserError(f"{of.name}: not here yet, and HF_HUB_OFFLINE forbids to fetch it; run once without")
    try:
        builder = datasets.load_dataset_builder(of.repo, of.config or None, revision=of.commit)
        # Without the hub, `datasets` takes whatever version it has; a builder of the hub's bears the commit.
        if builder.hash != of.commit:
            raise UserError(f"{of.name}: the hub does not answer, and only another version is here")
        builder.download_and_prepare()
        splits = list(builder.info.splits or ())
        if of.split not in splits:
            raise UserError(f"{of.name}: no split {of.split!r}{nearest(of.split, splits)}")
        rows = builder.as_dataset(split=of.split)
        if of.column not in rows.column_names:
            raise UserError(f"{of.name}: no column {of.column!r}{nearest(of.column, rows.column_names)}")
        if len(rows) > MAX_ROWS:
            raise UserError(f"{of.name}: {len(rows):,} rows; expected at most {MAX_ROWS:,}")
        # Images and sounds beside the prompts are not decoded.
        batches = rows.select_columns([of.column]).with_format("arrow").iter(batch_size=4096)
        return [text for batch in batches for text in batch[of.column].to_pylist()]
    except UserError:
        raise
    except Exception as error:
        # `datasets` raises whatever the hub, the network and the formats' readers raise.
        raise UserError(f"{of.name}: {_why(of, error)}") from error


def _why(of: Reference, error: Exception) -> str:
    # What `datasets` says itself may be no more than that it did not work.
    whole = [str(one).strip() or type(one).__name__ for one in (error, error.__cause__) if one]
    line = ": ".join(said.splitlines()[0] for said in whole)
    if type(error).__name__ in ("DatasetNotFoundError", "RepositoryNotFoundError", "GatedRepoError"):
        return (
            f"not found at that commit, or gated: see https://huggingface.co/datasets/{of.repo}, accept its terms "
            "there if it asks, and log in with `hf auth login`"
        )
    return f"cannot be read ({line})"


TRAINING = Reference(
    "yuvalkirstain/pickapic_v1_no_images", "a3592a4f2e6adb7646ef56f3bb18e2968348a163", "", "train", "caption"
)


def shuffled(prompts: list[Prompt]) -> list[Prompt]:
    """In an order that follows from the texts alone, so that the first n are a random sample of all."""
    texts = sorted((p.text for p in prompts), key=lambda text: hashlib.sha256(text.encode()).digest())
    return [Prompt(i, text) for i, text in enumerate(texts)]


add_plugin(
    "prompts",
    "pick-a-pic-train",
    PromptSet(
        "pick-a-pic-train",
        0,
        lambda: shuffled(read(TRAINING)),
        TRAINING.repo,
        "see yuvalkirstain/pickapic_v1",
        about="Pick-a-Pic's training captions, each once and in random order, for collecting noise pairs",
        revision=TRAINING.commit,
        files=(Rows(TRAINING),),
    ),
    "bench",
)
