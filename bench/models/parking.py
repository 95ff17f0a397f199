"""Networks that are on a GPU only while they are used: text encoders, which a run needs before it samples.

SDXL's two text encoders have 818 million parameters, 1.6 GB in fp16; a T5-XXL has 4.7 billion, 9.4 GB. Prompts are
encoded first, then the encoders wait in host memory, and their place is free for larger batches. Moving a network
changes no number that it computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Parking:
    """Networks by role that are on `device` or wait on `away`, all of them together."""

    def __init__(self, networks: Mapping[str, Any], device: str, *, away: str = "cpu"):
        self.networks, self.device, self.away = networks, device, away
        self.there = True
        """Whether they are on the device."""
        self.moves: list[tuple[str, str]] = []
        """(role, where to) of every move that was made."""

    def bring(self) -> None:
        """Have them on the device."""
        self._move(self.device, there=True)

    def leave(self) -> None:
        """Have them wait, and give their memory back to whoever allocates next on the device."""
        if not self.there:
            return
        self._move(self.away, there=False)
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def _move(self, to: str, *, there: bool) -> None:
        if self.there == there:
            return
        for role, network in self.networks.items():
            network.to(to)
            self.moves.append((role, to))
        self.there = there


def parked(networks: Mapping[str, Any], device: str, *, leaves: bool) -> Parking | None:
    """A place for them to wait; None where they stay: on a CPU there is no other memory to give free."""
    return Parking(networks, device) if leaves and device != "cpu" and networks else None
