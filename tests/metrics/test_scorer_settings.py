"""`{use: METRIC, checkpoint: FOLDER, dtype: ...}` in a suite and `--metric METRIC=FOLDER` on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import call
from reference import small_clips as small

from bench import registry, suite
from bench.errors import UserError
from bench.runner.plan import make_plan
from bench.store import Ledger
from bench.suite.scorers import ScorerSettings

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = """\
name: configured
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 2
baseline: standard
methods: [standard, {use: best_of_n, n: 2, selection_metric: hpsv2}]
metrics:
  - {use: hpsv2, checkpoint: FOLDER}
  - shapes-clipscore
"""


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.hps_folder(tmp_path_factory.mktemp("hps"), "settings")


def text(folder: Path, *changes: tuple[str, str]) -> str:
    """Text, and not a builder's keys, for the line of each mistake is a part of what is tested."""
    found = TEXT.replace("FOLDER", str(folder))
    for old, new in changes:
        assert old in found
        found = found.replace(old, new)
    return found


def parsed(found: str, **given: object) -> suite.Suite:
    return suite.parse(found, file="configured.yaml", **given)  # type: ignore[arg-type]


def test_a_mapping_keeps_the_name_and_the_settings_apart(hps: Path) -> None:
    made = parsed(text(hps))
    assert made.metrics == ("hpsv2", "shapes-clipscore")
    assert {name: one.model_dump() for name, one in made.scorers.items()} == {
        "hpsv2": {"checkpoint": str(hps), "dtype": "fp32"}
    }
    assert suite.Suite.model_validate(made.model_dump(mode="json")) == made


def test_a_suite_without_settings_keeps_its_id(hps: Path) -> None:
    plain = parsed(text(hps, (f"{{use: hpsv2, checkpoint: {hps}}}", "hpsv2")))
    assert "scorers" not in plain.canonical()
    assert plain.id != parsed(text(hps)).id
    assert parsed(text(hps, (f"checkpoint: {hps}", "dtype: bf16"))).id not in (plain.id, parsed(text(hps)).id)


def test_the_command_line_gives_a_checkpoint_and_stands_above_the_file(hps: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(hps, tmp_path / "other"))
    made = parsed(text(hps, ("checkpoint: ", "dtype: bf16, checkpoint: ")), metrics=[f"hpsv2={other}"])
    assert made.metrics == ("hpsv2",)
    assert made.scorers["hpsv2"] == ScorerSettings(checkpoint=str(other), dtype="bf16")


def test_a_twin_has_its_own_and_says_so(hps: Path) -> None:
    made = parsed(text(hps), twin=True)
    assert not made.scorers
    assert any("hpsv2" in note and "checkpoint" in note for note in made.notes)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("checkpoint: FOLDER", "checkpont: x", "9: unknown key 'checkpont'; did you mean 'checkpoint'?"),
        ("checkpoint: FOLDER", "checkpoint: /no/such", "9: metric 'hpsv2': checkpoint '/no/such': no such folder"),
        ("checkpoint: FOLDER", "dtype: int8", "9: 'dtype' of metric 'hpsv2' should be 'fp32', 'fp16' or 'bf16'"),
        ("checkpoint: FOLDER", "checkpoint: 3", "9: 'checkpoint' of metric 'hpsv2' should be text, got 3"),
        ("use: hpsv2, ", "", "9: a metric should be a name, or a mapping with 'use'"),
        ("- shapes-clipscore", "- {use: shapes-clipscore, dtype: fp16}", "10: metric 'shapes-clipscore' takes neither"),
        ("use: hpsv2", "use: hspv2", "9: unknown metric 'hspv2'; did you mean 'hpsv2'?"),
        ("- shapes-clipscore", "- hpsv2", "10: duplicate metric 'hpsv2'"),
    ],
)
def test_a_wrong_setting_is_reported_at_its_line(old: str, new: str, said: str, hps: Path) -> None:
    with pytest.raises(UserError) as caught:
        parsed(TEXT.replace(old, new).replace("FOLDER", str(hps)))
    assert f"configured.yaml:{said}" in str(caught.value)


def test_a_checkpoint_enters_the_ids_of_what_it_chooses_and_no_other(hps: Path, tmp_path: Path) -> None:
    before = registry.get("metrics", "hpsv2")
    other = small.hps_folder(tmp_path / "other", "another")
    copy = Path(shutil.copytree(hps, tmp_path / "copy"))
    ids = [{c.job_id for c in make_plan(parsed(text(folder))).cells} for folder in (hps, other, copy)]
    assert ids[0] == ids[2], "a place is no identity"
    standard = {c.job_id for c in make_plan(parsed(text(hps))).cells if c.arm.method == "standard"}
    assert ids[0] & ids[1] == standard
    assert registry.get("metrics", "hpsv2").digest().startswith("hpsv2-"), "nothing is configured outside of a plan"
    assert registry.get("metrics", "hpsv2") is before


def test_a_run_scores_by_it_and_its_report_needs_the_folder_no_more(hps: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hps, tmp_path / "hps"))
    file = tmp_path / "configured.yaml"
    file.write_text(text(folder))
    runs = tmp_path / "runs"
    done = call("run", file, "--limit", 1, "--runs", runs, "--no-cache", "--device", "cpu")
    assert done.code == 0, done.err
    (run,) = (p for p in runs.iterdir() if p.is_dir())
    pick = small.in_folder("PickScore_v1", tmp_path / "pick", "run", act="gelu")
    done = call("score", run, "--metric", f"pickscore={pick}", "--device", "cpu")
    assert done.code == 0, done.err
    shutil.rmtree(folder)
    shutil.rmtree(pick)
    done = call("report", run)
    assert done.code == 0, done.err
    ledger = Ledger(run, read_only=True)
    scored = dict(ledger.db.execute("SELECT metric, scorer FROM scores"))
    ledger.close()
    found = json.loads((run / "results.json").read_text())["metrics"]
    assert {name: found[name]["digest"] for name in ("hpsv2", "pickscore")} == {
        name: scored[name] for name in ("hpsv2", "pickscore")
    }
    assert "count for nothing" not in (run / "report.md").read_text()


def test_a_finished_run_is_read_again(hps: Path, tmp_path: Path) -> None:
    file = tmp_path / "configured.yaml"
    file.write_text(text(hps, ("[standard, {use: best_of_n, n: 2, selection_metric: hpsv2}]", "[standard, reseed]")))
    command = ("run", file, "--limit", 1, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    assert call(*command).code == 0
    again = call(*command)
    assert again.code == 0
    assert "finished before" in again.err
