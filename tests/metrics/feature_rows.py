"""Rows of features beside a reference, for tests of set metrics, and the three distances by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.metrics.distances import Gaussian, KernelDistance, Kernelled, cubic, frechet, radial

KID, CMMD = KernelDistance(cubic, unbiased=True), KernelDistance(radial, unbiased=False, scale=1000)


def drawn(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def rows_of(which: str, features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rows beside a reference, by metric."""
    placing: dict[str, Callable[[], Any]] = {
        "frechet": lambda: Gaussian.of(reference),
        "kid": lambda: Kernelled(reference, cubic, unbiased=True),
        "cmmd": lambda: Kernelled(reference, radial, unbiased=False),
    }
    return placing[which]().rows(features)


VALUES: dict[str, Callable[..., float]] = {"frechet": frechet, "kid": KID, "cmmd": CMMD}
