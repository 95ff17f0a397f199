"""An image that cannot be made is marked with its reason; the others of its batch and other arms go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.generate import generate
from bench.methods.base import Method
from bench.plan import Plan, make_plan
from bench.store import Ledger
from bench.suite import parse

pytestmark = pytest.mark.usefixtures("one_thread")


class Bad(Method):
    """Breaks in the way that `how` says."""

    how: str = "nan"

    def noise(self, s: Any, x: Any) -> Any:
        if self.how == "raise":
            raise KeyError("lost")
        if self.how == "shape":
            return x[:, :1]
        x = x.clone()
        x[0, 0, 0, 0] = float("nan")
        return x


def made(how: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Ledger]:
    get = registry.get
    monkeypatch.setattr(
        registry, "get", lambda kind, name: Bad if (kind, name) == ("methods", "bad") else get(kind, name)
    )
    text = (
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nsteps: 2\nbaseline: standard\n"
        f"methods: [standard, {{use: bad, how: {how}}}]\nmetrics: [shapes-clipscore]\n"
    )
    plan = make_plan(parse(text, file="bad.yaml", limit=2))
    ledger = Ledger(folder, create=True)
    generate(plan, ledger, None, device="cpu", batch_size=2)
    return plan, ledger


@pytest.mark.parametrize(("how", "failed", "reason"), [("nan", 1, "initial noise is not finite")])
def test_a_method_that_breaks_loses_its_own_images_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, failed: int, reason: str
) -> None:
    plan, ledger = made(how, tmp_path / "run", monkeypatch)
    reasons = ledger.failures()
    assert len(reasons) == failed
    assert all(reason in said for said in reasons.values()), reasons
    assert set(ledger.images()) == {c.job_id for c in plan.cells} - set(reasons)
    assert all(c.job_id in ledger.images() for c in plan.cells if c.arm.method == "standard")
