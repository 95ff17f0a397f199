"""Named weights: which ones a method puts on a model where a suite names none. Imports no torch.

Rows are data. A package adds its own as entry points of the group `bench.weights`, each a `NamedWeights`; the entry
point's name is free, for the row itself says which method and model it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.errors import UserError
from bench.needs.base import Lacking, Made, Need, placeholder
from bench.sampling.records import NETWORK, Weights
from bench.weights.files import EXPECTED, pin_hub, pin_local

if TYPE_CHECKING:
    from bench.kinship import Trait
    from bench.models.base import ModelEntry


@dataclass(frozen=True)
class NamedWeights:
    """Weights of one method for one model: a folder, or a commit on the hub."""

    method: str
    model: str
    source: str
    """A hub id, or an absolute folder."""
    revision: str | None = None
    """The hub's commit; None for a folder."""
    subfolder: str | None = None
    file: str | None = None
    """The file, where it is not a whole network folder."""
    kind: str = NETWORK
    """`network`, `lora` or `controlnet`."""
    variant: str = ""
    """What tells rows of one method and model apart, such as a ControlNet's kind of image."""
    steps: tuple[int, ...] | None = None
    """Step counts that they were made for; None: any."""
    sampler: str | None = None
    """The sampler that they were made for, where it is not the method's usual one."""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Scheduler settings that come with that sampler."""
    license: str = ""
    tuned_by: tuple[str, ...] = ()
    """Metrics whose votes or values they were tuned by: no evidence for them."""
    learnt_from: tuple[Trait, ...] = ()
    """What else they were tuned on, such as somebody's labels: a metric made of it is no independent evidence."""
    about_bytes: int | None = None
    """About what is downloaded of it."""
    made_by: str = ""
    """The command that makes it, of a folder that a package may lack."""

    @property
    def about(self) -> str:
        """One line for `python -m bench ls`."""
        place = f"{self.source}@{self.revision[:8]}" if self.revision else Path(self.source).name
        inside = "/".join(part for part in (self.subfolder, self.file) if part)
        return f"{self.method} of {self.model}{f' ({self.variant})' if self.variant else ''}: {place} {inside}".rstrip()

    def pinned(self) -> Weights:
        """The weights by what they are; UserError where a folder lacks them, Lacking where a command makes it."""
        if self.revision is None:
            folder = Path(self.source)
            if self.made_by and not folder.is_dir():
                what = "/".join(part for part in (folder.name, self.subfolder, self.file) if part)
                need = Need(f"method {self.method}", what, Made(folder, self.made_by))
                missing = Weights(self.source, self.kind, placeholder(what), None, self.subfolder, self.file)
                raise Lacking(f"{self.method}: no weights at {folder}; they are made by: {self.made_by}", need, missing)
            return pin_local(folder, of=self.method, kind=self.kind, subfolder=self.subfolder, file=self.file)
        return pin_hub(self.source, self.revision, self.kind, self.subfolder, self.file)


def rows(method: str) -> list[NamedWeights]:
    """All rows of a method; a broken plugin is left out, and named where a row is missing."""
    return [row for row in _readable()[0] if row.method == method]


def rows_for(method: str, entry: ModelEntry, *, variant: str | None = None) -> list[NamedWeights]:
    """A method's rows for a model, of one variant or of all; UserError, with what to give, where there are none."""
    known = rows(method)
    found = [r for r in known if r.model == entry.name and variant in (None, r.variant)]
    if found:
        return found
    of = f" {variant}" if variant else ""
    there = ", ".join(sorted({f"{r.model}{f' ({r.variant})' if r.variant else ''}" for r in known})) or "no model"
    broken = "".join(f"; {line}" for line in _readable()[1])
    raise UserError(
        f"{method}: no{of} weights are known for model {entry.name!r}; give weights ({EXPECTED}); there are some for "
        f"{there}{broken}"
    )


def _readable() -> tuple[list[NamedWeights], list[str]]:
    found: list[NamedWeights] = []
    broken: list[str] = []
    for name in registry.names("weights"):
        try:
            found.append(registry.get("weights", name))
        except UserError as error:
            broken.append(str(error))
    return found, broken
