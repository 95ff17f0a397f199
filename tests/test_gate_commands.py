"""`gate`, `run --gate` and `baseline freeze` as a user meets them: files, exit codes, and one line for a mistake."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import LIMIT, Bench, Run
from gated_runs import GATES
from gated_runs import frozen as frozen
from gated_runs import gated as gated
from suite_texts import write_suite

from bench.cli import _parser

ROOT = Path(__file__).parents[1]


# Outputs --------------------------------------------------------------------------------------------------------------


def test_gate_and_run_gate_say_the_same_and_write_the_same(
    bench: Bench, gated: Run, frozen: Path, tmp_path: Path
) -> None:
    written: list[tuple[Any, ...]] = []
    for way in ("run", "gate"):
        files = {name: tmp_path / way / f"verdicts.{name}" for name in ("json", "junit", "markdown")}
        options = [part for name, path in files.items() for part in (f"--{name}", path)]
        first = gated.arguments("--gate") if way == "run" else ["gate", gated.folder]
        done = bench(*first, "--baseline", frozen, *options, "--verbose")
        assert done.code == 0, done.out + done.err
        verdicts = [line for line in done.out.splitlines() if re.match("ok: |inconclusive: |gate: ", line)]
        texts = [path.read_text() for path in files.values()]
        # What a run made of what it judges is not known to `gate`.
        own = [line for line in json.loads(texts[0])["notes"] if line.startswith("judged: ")]
        assert len(own) == (way == "run")
        for line in own:
            texts = [text.replace(f'  "{line}",\n', "").replace(f"- {line}\n", "") for text in texts]
        written.append((verdicts, *texts))
    assert written[0] == written[1]
    lines, as_json, junit, markdown = written[0]
    report = json.loads(as_json)
    assert (report["outcome"], report["exit_code"], report["baseline"]) == ("inconclusive", 0, "tiny.json")
    assert {verdict["check"] for verdict in report["verdicts"]} == {"rule", "baseline"}
    passed = len(report["verdicts"]) - 1  # four prompts show no loss of a score without a range to be small
    assert lines[-1] == f"gate: inconclusive ({passed} passed, 1 inconclusive, 0 not comparable, 0 failed)"
    assert ET.fromstring(junit.encode()).get("tests") == str(len(report["verdicts"]))
    assert markdown.startswith("## Gate: inconclusive\n")


def test_the_sentence_that_failed_is_printed_last_before_the_sum(bench: Bench, gated: Run) -> None:
    write_suite(gated.suite, gates=GATES | {"calls": {"method": "inversion", "ratio": 1.4}})
    done = bench(*gated.arguments("--gate"))
    assert done.code == 1
    *_, failed, total = done.out.splitlines()
    assert failed.startswith("FAILED: inversion on calls, shapes-sdxl (ddim, 4 steps, g 5.0): 1.5 times standard")
    assert failed.endswith(" (2 verdicts: 1 failed, 1 inconclusive)")
    assert total == "gate: failed (0 passed, 1 inconclusive, 0 not comparable, 1 failed)"


def test_the_summary_of_a_github_job_is_added_to(
    bench: Bench, gated: Run, frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert bench(*gated.arguments("--gate")).code == 0
    assert bench("gate", gated.folder, "--baseline", frozen).code == 0
    assert page.read_text().startswith("before\n## Gate: inconclusive")
    assert page.read_text().count("## Gate: inconclusive") == 2
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "folder"))
    done = bench("gate", gated.folder, "--baseline", frozen)
    assert done.code == 0, "a verdict stands where the page cannot be written"
    assert "note: GITHUB_STEP_SUMMARY" in done.err


def test_a_verdict_file_that_cannot_be_written_is_named(
    bench: Bench, finished: Run, frozen: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = bench("gate", finished.folder, "--baseline", frozen, "--json", tmp_path / "file" / "g.json")
    assert done.code == 2
    assert "cannot be written" in done.error


def test_freeze_names_the_file_after_the_suite(
    bench: Bench, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = bench("baseline", "freeze", finished.folder)
    assert done.code == 0, done.err
    assert re.fullmatch(
        rf"wrote baselines/tiny.json: 4 arms x 2 metrics x {LIMIT} pairs of suite tiny \(\w{{10}}\), \d+ kB\n", done.out
    )
    assert bench("gate", finished.folder, "--baseline", "baselines/tiny.json").code == 0


# What the documents show ----------------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """The arguments of every `python -m bench` in a shell or tox text."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [shlex.split(line)[3:] for line in joined.splitlines() if line.strip().startswith("python -m bench ")]


def workflow() -> dict[Any, Any]:
    """The GitHub Actions example of docs/gate.md."""
    found = re.search(r"<!-- example workflow -->.*?```yaml\n(.*?)```", (ROOT / "docs/gate.md").read_text(), re.S)
    assert found, "docs/gate.md has no workflow behind its marker"
    read: dict[Any, Any] = yaml.safe_load(found[1])
    return read


def test_a_line_a_method_and_the_rest_behind_verbose(bench: Bench, finished: Run, frozen: Path) -> None:
    short = bench("gate", finished.folder, "--baseline", frozen)
    long = bench("gate", finished.folder, "--baseline", frozen, "--verbose")
    assert (short.code, long.code) == (0, 0), short.err + long.err
    assert len(short.out.splitlines()) == 4 + 1, "four methods and the sum"
    assert "ok: inversion: 4 verdicts, 0 of 4 images changed" in short.out.splitlines()
    assert len(long.out.splitlines()) > 10


@pytest.mark.parametrize("harm", ["suite", "schema"])
def test_forms_are_written_where_nothing_can_be_compared(
    bench: Bench, finished: Run, frozen: Path, tmp_path: Path, harm: str
) -> None:
    content = json.loads(frozen.read_text())
    content = {**content, "schema": 1} if harm == "schema" else {**content, "suite": {**content["suite"], "name": "x"}}
    other = tmp_path / "b.json"
    other.write_text(json.dumps(content))
    files = {name: tmp_path / f"g.{name}" for name in ("json", "junit", "markdown")}
    options = [part for name, path in files.items() for part in (f"--{name}", path)]
    done = bench("gate", finished.folder, "--baseline", other, *options)
    assert done.code == 3
    assert json.loads(files["json"].read_text())["exit_code"] == 3
    assert ET.fromstring(files["junit"].read_bytes()).get("errors") == "1"
    assert files["markdown"].read_text().startswith("## Gate: not comparable")


def test_show_and_compare_read_baselines(bench: Bench, finished: Run, tmp_path: Path) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    freeze = ("baseline", "freeze", finished.folder, "--out")
    assert bench(*freeze, one, "--tolerance", "shapes-clipscore=1%").code == 0
    shown = bench("baseline", "show", one)
    assert shown.code == 0
    assert "tolerances: shapes-clipscore 1%" in shown.out
    assert "images: digests of every one" in shown.out
    content = json.loads(one.read_text())
    content["arms"][1]["images"][0] = "0" * 16
    content["arms"][1]["scores"]["shapes-clipscore"][0] += 1.0
    other.write_text(json.dumps(content))
    found = bench("baseline", "compare", one, other)
    assert found.code == 0
    (line,) = [line for line in found.out.splitlines() if line.startswith(content["arms"][1]["method"])]
    assert "1 of 4 images changed" in line
    assert "1 scores differ" in line
    assert bench("baseline", "compare", one).code == 2
    assert bench("baseline", "freeze", finished.folder, "--out", other, "--tolerance", "none=1").code == 2


def test_the_readmes_workflow_gates_the_twin_with_commands_that_exist() -> None:
    read = workflow()
    assert "pull_request" in read[True], "YAML reads the key `on` as true"
    (job,) = read["jobs"].values()
    steps = [step["run"] for step in job["steps"] if "run" in step]
    found = [arguments for step in steps for arguments in commands(step)]
    assert len(found) == 1
    for arguments in found:
        options = _parser().parse_args(arguments)
        assert (ROOT / options.suite).is_file()
        assert (ROOT / options.baseline).is_file()
        assert options.twin
        assert options.gate


def test_tox_runs_the_same_gate_and_ci_runs_tox() -> None:
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    gates = [arguments for name in ("quick", "main") for arguments in commands(tox["gate"][name])]
    (job,) = workflow()["jobs"].values()
    (shown,) = (arguments for step in job["steps"] for arguments in commands(step.get("run", "")))

    def decides(arguments: list[str]) -> dict[str, Any]:
        options = vars(_parser().parse_args(arguments))
        return {key: value for key, value in options.items() if key not in ("runs", "junit", "json", "markdown")}

    assert decides(shown) in [decides(arguments) for arguments in gates]
    (short,), (main,) = commands(tox["gate"]["short"]), commands(tox["gate"]["main"])
    fewer = decides(short) | {"limit": None, "workers": None, "tolerance": decides(main)["tolerance"]}
    assert fewer == decides(main), "the short gate is the main one on fewer prompts"
    for name, asked in (("check", ["short"]), ("gate", ["quick", "main"])):
        assert all(f"{{[gate]{gate}}}" in tox[f"testenv:{name}"]["commands"] for gate in asked)
    assert tox["tox"]["envlist"] == "check"
