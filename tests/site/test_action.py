"""The composite action: its file is one, no input is text of a script, and its shell steps do what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Bench, Run
from suite_texts import write_suite

from bench.records import read

FILE = Path(__file__).parents[2] / "action.yml"
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def steps(action: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = action["runs"]["steps"]
    return found


def test_it_is_a_composite_action_whose_scripts_have_no_inputs_in_them(action: dict[str, Any]) -> None:
    assert action["runs"]["using"] == "composite"
    assert all({"description"} <= set(one) for one in action["inputs"].values())
    for step in steps(action):
        assert ("uses" in step) != ("run" in step)
        if "run" in step:
            assert step["shell"] == "bash"
            assert "${{" not in step["run"], "an input in a script could run anything"
        else:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
    known = set(action["inputs"])
    asked = set(re.findall(r"inputs\.([\w-]+)", FILE.read_text()))
    assert asked == known


def test_its_outputs_are_those_of_a_step(action: dict[str, Any]) -> None:
    for one in action["outputs"].values():
        (name, key) = re.findall(r"steps\.(\w+)\.outputs\.([\w-]+)", one["value"])[0]
        (step,) = [step for step in steps(action) if step.get("id") == name]
        assert f'echo "{key}=' in step["run"]


class Runner:
    """What runs a step: its environment from expressions, its outputs from a file."""

    def __init__(self, action: dict[str, Any], folder: Path, **inputs: str) -> None:
        self.action, self.folder = action, folder
        self.values = {f"inputs.{name}": one.get("default", "") for name, one in action["inputs"].items()}
        self.values |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
        self.values |= {"github.token": "", "github.server_url": folder.as_uri(), "github.repository": "me/pictures",
                        "github.run_id": "7", "github.run_attempt": "1", "github.job": "bench"}  # fmt: skip
        self.cache = folder / "cache"
        self.summary = folder / "summary.md"
        self.summary.touch()

    def step(self, name: str) -> subprocess.CompletedProcess[str]:
        (step,) = [one for one in steps(self.action) if one.get("name") == name]
        output = self.folder / f"{name}.out"
        output.touch()
        given = {key: EXPRESSION.sub(lambda m: self.values.get(m[1], ""), str(value))
                 for key, value in step["env"].items()}  # fmt: skip
        environment = {**os.environ, **given, "RUNNER_TEMP": str(self.folder), "GITHUB_OUTPUT": str(output)}
        environment |= {"GITHUB_STEP_SUMMARY": str(self.summary), "BENCH_CACHE": str(self.cache), "BENCH_REPORT": "md"}
        environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        script = self.folder / f"{name}.sh"
        script.write_text(step["run"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(command, env=environment, cwd=FILE.parent, capture_output=True, text=True)
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            self.values[f"steps.{step.get('id', name)}.outputs.{key}"] = value
        return done


def test_its_shell_steps_run_a_suite_and_show_it(action: dict[str, Any], finished: Run, tmp_path: Path) -> None:
    git = ["git", "init", "-q", "--bare", str(tmp_path / "me" / "pictures.git")]
    subprocess.run(git, check=True)
    # Images of the shared run, scored without a network: the steps are tried here, and not what they run.
    suite = write_suite(tmp_path / "seen.yaml", methods=["standard", "inversion"], metrics=["shapes-imagereward"],
                        controls=None)  # fmt: skip
    runner = Runner(action, tmp_path, suite=str(suite), arguments="--limit 2 --device cpu", gate="false",
                    image_branch="pictures")  # fmt: skip
    runner.cache = finished.cache
    done = runner.step("run")
    assert done.returncode == 0, done.stderr
    assert runner.values["steps.run.outputs.code"] == "0", done.stderr
    run = Path(runner.values["steps.run.outputs.run"])
    assert read(run).run.finished
    done = runner.step("picture")
    assert done.returncode == 0, done.stderr
    address = runner.values["steps.picture.outputs.address"]
    commit = address.split("/raw/")[1].split("/")[0]
    runner.values["steps.picture.outputs.address"] = f"https://example.org/raw/{commit}/7-1-bench.png"
    for name in ("summary", "outcome"):
        done = runner.step(name)
        assert done.returncode == 0, done.stderr
    listed = subprocess.run(["git", "-C", str(tmp_path / "me" / "pictures.git"), "ls-tree", "--name-only", commit],
                            check=True, capture_output=True, text=True)  # fmt: skip
    assert listed.stdout.split() == ["7-1-bench.png"]
    said = runner.summary.read_text()
    assert said.startswith("# ")
    assert f"![Images of the run](https://example.org/raw/{commit}/7-1-bench.png)" in said
    assert (run / "strip.png").read_bytes().startswith(b"\x89PNG")
    # A second picture lies on top of the first.
    runner.values["github.run_attempt"] = "2"
    assert runner.step("picture").returncode == 0
    count = subprocess.run(["git", "-C", str(tmp_path / "me" / "pictures.git"), "rev-list", "--count", "pictures"],
                           check=True, capture_output=True, text=True)  # fmt: skip
    assert count.stdout.strip() == "2"


def test_a_mistake_in_the_suite_is_the_jobs_exit_code(action: dict[str, Any], tmp_path: Path) -> None:
    runner = Runner(action, tmp_path, suite=str(tmp_path / "none.yaml"), arguments="$(touch evil) ; touch evil")
    assert runner.step("run").returncode == 0
    assert runner.values["steps.run.outputs.run"] == ""
    assert runner.values["steps.run.outputs.code"] == "2"
    assert runner.step("outcome").returncode == 2
    assert not (FILE.parent / "evil").exists(), "arguments are words and no script"


def test_an_address_is_shown_only_where_it_is_one(finished: Run) -> None:
    from bench.errors import UserError
    from bench.site.picture import summary

    results = read(finished.folder)
    assert "![Images of the run](https://example.org/strip.png)" in summary(
        results, address="https://example.org/strip.png"
    )
    with pytest.raises(UserError, match="expected the address of a picture"):
        summary(results, address="javascript:alert(1)")
    assert "](images/" not in summary(results), "a summary cannot show files beside it"


# The workflows of docs/share.md ---------------------------------------------------------------------------------------


def test_the_example_workflows_are_yaml_and_their_commands_exist(bench: Bench, action: dict[str, Any]) -> None:
    page = (FILE.parent / "docs" / "share.md").read_text()
    workflows = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, flags=re.S)]
    assert len(workflows) == 2
    every = [step for one in workflows for job in one["jobs"].values() for step in job["steps"]]
    commands = [step["run"].split()[3:] for step in every if "-m bench" in step.get("run", "")]
    assert [words[0] for words in commands] == ["submit", "site"]
    (used,) = [step for step in every if step.get("uses", "").startswith("OWNER/")]
    assert set(used["with"]) <= set(action["inputs"])
    for line in re.findall(r"^python -m bench (\w+)", page, flags=re.M):
        assert bench(line, "--help").code == 0
