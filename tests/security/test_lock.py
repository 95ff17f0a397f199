"""The lock file of CI has one exact version of all that the tests install, and the hosted workflows use it."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / ".github" / "constraints.txt"
LINES = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
VERSIONS = dict(line.split("==") for line in LINES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def workflow(name: str) -> str:
    return (ROOT / ".github" / "workflows" / name).read_text()


def test_each_line_is_one_exact_version_and_no_place() -> None:
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*", line) for line in LINES)
    assert sorted(VERSIONS) == list(VERSIONS)
    assert len(VERSIONS) == len(LINES)
    assert "://" not in LOCK.read_text()


def test_what_the_package_asks_for_is_locked_within_its_bounds() -> None:
    for line in (*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["docs"]):
        need = Requirement(line)
        assert need.specifier.contains(VERSIONS[canonicalize_name(need.name)]), line


def lock() -> ModuleType:
    """The command, as a module."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / ".github" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_installed(extra: str) -> bool:
    """Whether all that an extra names is here; the tests' own environment has no need of the site's."""
    here = {canonicalize_name(one.name) for one in distributions()}
    return {canonicalize_name(Requirement(line).name) for line in EXTRAS[extra]} <= here


@pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info[:2] != (3, 11), reason="the lock is of CI's system and Python"
)
@pytest.mark.parametrize("extra", ["test", "docs"])
def test_the_command_locks_every_package_that_is_installed_for_the_tests(extra: str) -> None:
    if extra == "docs" and not is_installed(extra):
        pytest.skip("pip install -e '.[docs]' for the packages of the site")
    found = lock().locked([extra])
    assert len(found) > 50
    assert {canonicalize_name(Requirement(line).name) for line in EXTRAS[extra]} <= found.keys()
    # Which packages a build of torch needs (CUDA's, or none) differs by build.
    assert {
        name for name in found.keys() - VERSIONS.keys() if not name.startswith(("nvidia-", "triton", "cuda"))
    } == set()


def test_an_extra_that_the_project_lacks_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"noisebench has no extra 'tests'; it has .*test"):
        lock().locked(["tests"])


def test_the_workflows_use_it_and_audit_it() -> None:
    steps = yaml.safe_load(workflow("ci.yml"))["jobs"]["check"]
    assert steps["env"]["PIP_CONSTRAINT"].endswith("/.github/constraints.txt")
    runs = [step.get("run", "") for step in yaml.safe_load(workflow("supply.yml"))["jobs"]["audit"]["steps"]]
    (audit,) = [run for run in runs if run.startswith("pip-audit ")]
    (parts,) = [run for run in runs if run.startswith("cyclonedx-py ")]
    for run in (audit, parts):
        assert ".github/constraints.txt" in run
    assert "--strict" in audit


@pytest.mark.parametrize("name", sorted(file.name for file in (ROOT / ".github" / "workflows").glob("*.yml")))
def test_a_workflow_may_read_and_nothing_else(name: str) -> None:
    assert yaml.safe_load(workflow(name))["permissions"] == {"contents": "read"}
