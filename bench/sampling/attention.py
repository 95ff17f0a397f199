"""Attention maps of a UNet's layers while it runs, gradients included.

diffusers' attention modules compute with a fused kernel that never shows its weights; within `recording` the chosen
modules compute softmax(q k^T / sqrt(d)) (Vaswani et al. 2017, 1706.03762, eq. 1) in the open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    import torch

    from bench.models.base import Family

WHERE = ("cross", "self")


class AttentionMaps:
    """What was recorded: one tensor a call and layer, heads averaged, of the last `batch` rows."""

    def __init__(self, batch: int, side: int):
        self.batch = batch
        self.side = side
        """Height and width of the maps."""
        self.maps: list[torch.Tensor] = []

    def mean(self) -> torch.Tensor:
        """(B, side * side, K): the mean over layers and calls; K tokens of the prompt, or places for self-attention."""
        import torch

        if not self.maps:
            raise ValueError("no attention was recorded: the denoiser did not run")
        return torch.stack(self.maps).mean(0)

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self.maps.clear()


class _Open:
    """An attention processor whose weights are seen; the module's own projections and residual rules stay."""

    def __init__(self, maps: AttentionMaps):
        self.maps = maps

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        import torch

        rows = len(hidden_states)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        mask = attn.prepare_attention_mask(attention_mask, context.shape[1], rows)
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        query, key, value = (attn.head_to_batch_dim(y) for y in (query, key, value))
        weights = attn.get_attention_scores(query, key, mask)
        n = self.maps.batch
        shown = weights.reshape(rows, attn.heads, *weights.shape[1:])[-n:].mean(1)
        # Half precision is raised to fp32; double stays double.
        self.maps.maps.append(shown if shown.dtype == torch.float64 else shown.float())
        out = attn.batch_to_head_dim(weights @ value)
        found: torch.Tensor = attn.to_out[1](attn.to_out[0](out))
        return found


@contextmanager
def recording(family: Family, where: str, *, side: int, batch: int) -> Iterator[AttentionMaps]:
    """Maps of the family's layers whose maps are `side` x `side`, or the nearest size below, or else the smallest.

    UserError where the family has no attention to read.
    """
    if where not in WHERE:
        raise ValueError(f"attention {where!r}; expected one of {WHERE}")
    layers = family.attention(where)
    if not layers:
        raise UserError(
            f"model {family.entry.name!r}: its family {type(family).__name__} has no {where}-attention maps"
        )
    sides = sorted({s for s, _ in layers})
    chosen = max((s for s in sides if s <= side), default=sides[0])
    modules = [m for s, m in layers if s == chosen]
    maps = AttentionMaps(batch, chosen)
    before = [m.processor for m in modules]
    for module in modules:
        module.set_processor(_Open(maps))
    try:
        yield maps
    finally:
        for module, processor in zip(modules, before, strict=True):
            module.set_processor(processor)
