"""A schedule method in a package of its own: the timesteps end at the last one instead of beginning at the first."""

from __future__ import annotations

from typing import ClassVar

from bench.methods.base import Method
from bench.sampling.records import Sampling


class Trailing(Method):
    """Trailing spacing (Lin et al. 2023, 2305.08891): the first timestep is the noisiest one."""

    about: ClassVar[str] = "timesteps with trailing spacing"
    source: ClassVar[str] = "2305.08891, section 3.4"
    cost: ClassVar[str] = "+0"

    def sampling(self, p: Sampling) -> Sampling:
        return p.with_settings(timestep_spacing="trailing")
