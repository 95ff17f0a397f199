"""A family says by its class whether its denoiser takes residuals; where it does not, a plan refuses what adds them."""

from __future__ import annotations

from typing import Any

import pytest
from analytic import Analytic, analytic_entry, session

from bench.errors import UserError
from bench.methods.base import Method
from bench.models import base
from bench.models.hunyuan import HunyuanDiT
from bench.models.sd import StableDiffusion
from bench.models.sdxl import SDXL

SAID = r"model 'analytic' takes no residuals within its denoiser, .* \(family Analytic\); give a model with a UNet"


class Adding(Method):
    """Adds something within the denoiser, and declares nothing."""

    def residuals(self, s: Any, x: Any, t: Any, embeds: Any, i: int) -> Any:
        return ()


def test_families_with_a_unet_take_residuals_and_the_transformer_does_not() -> None:
    assert issubclass(SDXL, base.ControlledFamily)
    assert issubclass(StableDiffusion, base.ControlledFamily)
    assert not issubclass(HunyuanDiT, base.ControlledFamily)


def test_a_method_that_adds_residuals_is_refused_before_anything_is_made() -> None:
    with pytest.raises(UserError, match=SAID):
        session(Adding())


def test_a_family_without_them_is_never_asked() -> None:
    assert not hasattr(base.Family, "controlled"), "nothing of it can be called on a family that takes none"
    with pytest.raises(UserError, match=SAID):
        base.with_residuals(Analytic())


def test_a_family_that_takes_them_has_all_of_it() -> None:
    class Half(Analytic, base.ControlledFamily):
        def control(self, weights: Any) -> Any:
            return None

    with pytest.raises(TypeError, match=r"controlled.*residuals"):
        Half(analytic_entry())  # type: ignore[abstract]
