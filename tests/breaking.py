"""A denoiser that breaks at a call, from a file that is no method's: whose code was running decides who is to blame."""

from __future__ import annotations

from typing import Any

import pytest


def break_network(monkeypatch: pytest.MonkeyPatch, *, at: int, error: Exception) -> None:
    """Let call number `at` (from 1) of any UNet raise `error`."""
    from diffusers import UNet2DConditionModel

    forward = UNet2DConditionModel.forward
    calls = []

    def breaking(self: UNet2DConditionModel, *given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == at:
            raise error
        return forward(self, *given, **more)

    monkeypatch.setattr(UNet2DConditionModel, "forward", breaking)
