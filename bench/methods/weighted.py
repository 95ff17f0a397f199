"""What methods share that put weights on the denoiser: where the weights come from, and how they are pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from bench.errors import UserError
from bench.methods.base import Method
from bench.needs.base import Lacking, Need
from bench.sampling.records import LORA, NETWORK, Weights
from bench.weights.base import NamedWeights, rows_for
from bench.weights.files import needs, pin

if TYPE_CHECKING:
    from bench.kinship import Trait
    from bench.models.base import ModelEntry

AUTO = "auto"


class Weighted(Method):
    """Puts weights on the denoiser. Only `for_model` knows which: by default the model's own row of `bench.weights`."""

    row_name: ClassVar[str]
    """What its rows of `bench.weights` say as their method."""

    weights: str = AUTO
    """A network's or a pipeline's folder, a LoRA's, a .safetensors file, or owner/name@COMMIT[:folder or :file]; auto:
    the published ones for the model."""
    scale: float = Field(default=1.0, ge=-10, le=10)
    """How much of a LoRA's updates is added."""

    _pinned: Weights | None = PrivateAttr(default=None)
    _row: NamedWeights | None = PrivateAttr(default=None)

    def for_model(self, entry: ModelEntry) -> Self:
        """With its weights found and pinned; UserError where there are none."""
        row = self.row(entry)
        try:
            found = row.pinned() if row else pin(self.weights, of=self.row_name)
        except Lacking as lacking:
            raise Lacking(str(lacking), lacking.need, self._with(row, lacking.instead)) from lacking
        if found.kind not in (NETWORK, LORA):
            raise UserError(f"{self.row_name}: weights of the kind {found.kind!r} cannot be put on a denoiser")
        if found.kind != LORA and self.scale != 1.0:
            raise UserError(f"{self.row_name}: scale {self.scale:g} is for a LoRA, and its weights are a whole network")
        return self._with(row, found)

    def _with(self, row: NamedWeights | None, found: Weights) -> Self:
        made = self.model_copy()
        made._row = row
        made._pinned = Weights(**{**vars(found), "scale": self.scale})
        return made

    def row(self, entry: ModelEntry) -> NamedWeights | None:
        """The named weights that it takes for a model; None where the suite names others."""
        return rows_for(self.row_name, entry)[0] if self.weights == AUTO else None

    def adapters(self) -> tuple[Weights, ...]:
        if self._pinned is None:
            raise UserError(f"{self.row_name}: no weights were chosen; ask for_model(entry) first")
        return (self._pinned,)

    def optimises(self) -> tuple[str, ...]:
        """Metrics that its weights were tuned by, where they are named ones."""
        return (*self.metrics(), *(self._row.tuned_by if self._row else ()))

    def learnt_from(self) -> tuple[Trait, ...]:
        return self._row.learnt_from if self._row else ()

    def requires(self) -> tuple[Need, ...]:
        size = self._row.about_bytes if self._row else None
        return tuple(n for w in self.adapters() for n in needs(w, f"method {self.row_name}", size))

    def identity(self) -> dict[str, Any]:
        """Without the place of its weights once they are pinned: their digest is in the job id."""
        found = super().identity()
        if self._pinned is not None:
            del found["weights"], found["scale"]
        return found
