"""Small NPNets whose weights are away from their start, and the one line that a checkpoint is refused with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import UserError
from npnet import NPNet, NPNetConfig

SMALL = NPNetConfig.small(width=16, depth=1)


def small(**changes: Any) -> NPNetConfig:
    return NPNetConfig.small(**{"width": 16, "depth": 1, **changes})


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(config: NPNetConfig = SMALL, seed: int = 0) -> NPNet:
    """As after training: every weight is away from its start. An untrained one gives its noise back."""
    torch.manual_seed(seed)
    network = NPNet(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def disturbed(config: NPNetConfig) -> NPNet:
    """Such a network with branches that nothing silences: alpha is 0.3, beta -0.4."""
    network = trained(config)
    with torch.no_grad():
        for scalar, value in ((network.alpha, 0.3), (network.beta, -0.4)):
            if scalar is not None:
                scalar.fill_(value)
    return network


def refused(path: Path, said: str, **options: Any) -> None:
    """Loading raises one line that names the file."""
    with pytest.raises(UserError, match=said) as caught:
        NPNet.from_pretrained(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
