"""Every kind of plugin from another package, one file each: from plan to export, at its own cost."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from conftest import Bench, Done, Run

N = 4
"""Prompts, and steps."""
SUITE = """\
name: kinds
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 4
baseline: standard
methods:
  - standard
  - cfgpp
  - {{use: climb, metric: shapes-preference}}
  - stare
  - trailing
  - {{use: example-lora, folder: {lora}}}
metrics: [shapes-preference, brighter, colours]
gates:
  - {{metric: shapes-preference, method: trailing, delta: -100}}
  - {{metric: brighter, method: cfgpp, win_rate: 0.0}}
"""
COSTS = {
    # noise stage and sampling: forwards, backwards, rows; decodes and rewards of the noise stage
    "standard": ((0, 0, 0), (4, 0, 8), (0, 0)),
    "cfgpp": ((0, 0, 0), (4, 0, 8), (0, 0)),
    "climb": ((1, 1, 1), (4, 0, 8), (1, 1)),
    "stare": ((2, 0, 2), (4, 0, 8), (0, 0)),
    "trailing": ((0, 0, 0), (4, 0, 8), (0, 0)),
    "example-lora": ((0, 0, 0), (4, 0, 8), (0, 0)),
}


def save_lora(folder: Path) -> Path:
    """A LoRA for the embedded UNet whose updates are not zero."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    from bench import registry

    unet = registry.get("models", "shapes-sdxl").load("cpu").pipeline.unet
    torch.manual_seed(0)
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(unet))
    return folder


@pytest.fixture(scope="module")
def ran(
    bench_forked: Bench,
    installed: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Run, Done, Done]:
    """The run, how it ended, and what its plan said."""
    pytest.importorskip("peft")
    home = tmp_path_factory.mktemp("kinds")
    suite = home / "kinds.yaml"
    suite.write_text(SUITE.format(lora=save_lora(home / "lora")))
    options = ("--limit", N, "--cache", home / "cache")
    more = ("--runs", home / "runs", "--device", "cpu", "--gate")
    planned = bench_forked("plan", suite, *options, env=installed)
    done = bench_forked("run", suite, *options, *more, env=installed)
    assert done.code == 0, done.err
    (folder,) = [p for p in (home / "runs").iterdir() if p.is_dir()]
    return Run(suite, home / "runs", home / "cache", folder), done, planned


def test_a_plan_prices_them_by_their_own_closed_forms(ran: tuple[Run, Done, Done]) -> None:
    _, _, planned = ran
    assert planned.code == 0, planned.err
    calls = sum(a[0] + a[1] + b[0] + b[1] for a, b, _ in COSTS.values())
    assert f"denoiser calls: {N * calls} still to make" in planned.out


@pytest.mark.parametrize("method", COSTS)
def test_the_record_of_every_image_is_the_closed_form(ran: tuple[Run, Done, Done], method: str) -> None:
    run, _, _ = ran
    rows = run.rows(
        "SELECT cost, calls_noise, calls_sampling FROM cells JOIN images USING (job_id) WHERE method = ?", method
    )
    assert len(rows) == N
    noise, sampling, (decodes, rewards) = COSTS[method]
    for text, calls_noise, calls_sampling in rows:
        cost = json.loads(text)
        found = [tuple(cost[s].get(k, 0) for k in ("forwards", "backwards", "rows")) for s in ("noise", "sampling")]
        assert found == [noise, sampling]
        assert tuple(cost["noise"].get(k, 0) for k in ("decodes", "rewards")) == (decodes, rewards)
        assert cost["decode"]["decodes"] == 1
        assert (calls_noise, calls_sampling) == (noise[0] + noise[1], sampling[0])


def test_each_makes_images_of_its_own(ran: tuple[Run, Done, Done]) -> None:
    run, _, _ = ran
    digests = {
        m: {d for (d,) in run.rows("SELECT digest FROM cells JOIN images USING (job_id) WHERE method = ?", m)}
        for m in COSTS
    }
    for method in COSTS:
        if method not in ("standard", "stare"):
            assert digests[method].isdisjoint(digests["standard"]), method
    facts = [
        json.loads(f) for (f,) in run.rows("SELECT facts FROM cells JOIN images USING (job_id) WHERE method = 'stare'")
    ]
    taken = {d for (d,) in run.rows("SELECT digest FROM cells JOIN images USING (job_id) WHERE method = 'stare'")}
    assert len(taken - digests["standard"]) == sum(f["stare_took_the_second"] for f in facts)


def test_report_and_gate_have_all_of_them(ran: tuple[Run, Done, Done]) -> None:
    run, done, _ = ran
    text = (run.folder / "report.md").read_text()
    for name in (*COSTS, "Brighter", "Spread of colours"):
        assert name in text
    assert re.search(r"2 passed|passed", done.out + done.err)
    arms = {a["method"]: a for a in run.results()["arms"] if a["prompts"] == "*"}
    assert arms["climb"]["cost"]["calls_total"] == 6
    comparisons = [c for c in run.results()["comparisons"] if c["method"] == "climb" and c["prompts"] == "*"]
    assert {c["metric"]: c["marked"] for c in comparisons}["shapes-preference"]


def test_compare_and_export_have_all_of_them(
    ran: tuple[Run, Done, Done],
    bench_forked: Bench,
    installed: dict[str, str],
    tmp_path: Path,
) -> None:
    run, _, _ = ran
    other = run.copy(tmp_path / "again")
    compared = ("compare", run.folder, other.folder, "--out", tmp_path / "compared")
    done, exported = (bench_forked(*one, env=installed) for one in (compared, ("export", run.folder)))
    assert done.code == 0, done.err
    page = (tmp_path / "compared" / "comparison.md").read_text() if (tmp_path / "compared").is_dir() else done.out
    for method in COSTS:
        assert method in page
    assert exported.code == 0, exported.err
    files = {Path(line).name: Path(line) for line in exported.out.splitlines()}
    with files["cells.csv"].open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == set(COSTS)
    with files["pair_scores.csv"].open() as file:
        assert {row["metric"] for row in csv.DictReader(file)} == {"brighter"}
    with files["images.csv"].open() as file:
        assert any(json.loads(row["cost"])["noise"].get("backwards") for row in csv.DictReader(file))
