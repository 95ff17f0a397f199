"""`bench env`: real virtual environments by real pip, from lock files and wheels of this test's own; no network."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import call

from bench import environments
from bench.errors import UserError

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def wheel(folder: Path, name: str, needs: str = "") -> Path:
    """A package of one module that says its name, and that claims to need another."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + (f"Requires-Dist: {needs}\n" if needs else "")
    files = {
        f"{name}.py": f"NAME = {name!r}\n",
        f"{name}-1.0.dist-info/METADATA": about,
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{name}-1.0.dist-info/RECORD"))
    with zipfile.ZipFile(path, "w") as packed:
        for file, text in {**files, f"{name}-1.0.dist-info/RECORD": record}.items():
            packed.writestr(file, text)
    return path


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip finds wheels, and one lock file, `small`, of two packages."""
    monkeypatch.setattr(environments, "LOCKS", tmp_path / "locks")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # so that uv, if it is installed, is not asked
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / "small.txt").write_text(f"# a test\n# python: {VERSION}\nfirst_part==1.0\nsecond_part==1.0\n")
    wheel(tmp_path / "links", "first_part", needs="nothing-like-this==9")
    return tmp_path / "links"


def imported(one: environments.Environment, name: str) -> str:
    ask = [str(one.python), "-I", "-c", f"import {name}; print({name}.NAME)"]
    return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()


def test_what_fails_is_one_line_and_is_gone_on_with(links: Path, tmp_path: Path) -> None:
    place = tmp_path / "made"
    done = call("env", "make", "small", "--dir", place)
    assert done.code == 2
    assert "environment 'small' could not be made: ERROR: " in done.error
    assert "second_part==1.0" in done.error
    assert "run it again to resume" in done.error
    one = environments.find("small", place)
    assert "first_part" in (one.folder / "install.log").read_text()
    assert "incomplete" in call("env", "ls", "--dir", place).out
    with pytest.raises(UserError, match="is incomplete"):
        one.check()
    # pip installs nothing of a list that it cannot have whole; the interpreter is there and stays.
    before = one.python.lstat().st_mtime_ns
    wheel(links, "second_part")
    done = call("env", "make", "small", "--dir", place)
    assert done.code == 0, done.err
    assert "env small: 2/2 packages found" in done.err
    assert "env small: 2/2 packages installed" in done.err
    assert done.out == f"environment small: {one.folder}\n"
    assert one.python.lstat().st_mtime_ns == before
    # The dependency that the first one claims was not asked for.
    assert [imported(one, name) for name in ("first_part", "second_part")] == ["first_part", "second_part"]
    one.check()
    assert json.loads(one.mark.read_text())["lock"] == environments.lock_digest("small")
    assert "small          made, " in call("env", "ls", "--dir", place).out
    for gone in links.iterdir():
        gone.unlink()
    assert call("env", "make", "small", "--dir", place).code == 0, "a whole one is left as it is"


def test_another_lock_file_is_another_environment(links: Path, tmp_path: Path) -> None:
    before = environments.find("small", tmp_path)
    lock = environments.LOCKS / "small.txt"
    lock.write_text(lock.read_text() + "# a remark\n")
    assert environments.find("small", tmp_path) == before
    lock.write_text(lock.read_text().replace("second_part==1.0", "second_part==1.1"))
    assert environments.find("small", tmp_path).folder != before.folder


def test_a_python_that_it_is_not_for_is_refused_at_once(links: Path, tmp_path: Path) -> None:
    lock = environments.LOCKS / "small.txt"
    lock.write_text(lock.read_text().replace(VERSION, "2.7 3.0"))
    done = call("env", "make", "small", "--dir", tmp_path / "made")
    assert done.code == 2
    assert f"is for Python 2.7 or 3.0, and {sys.executable} is {VERSION}" in done.error
    assert not (tmp_path / "made").exists()
    done = call("env", "make", "small", "--dir", tmp_path / "made", "--python", "/no/python")
    assert "/no/python: no Python that can be run" in done.error


def test_two_do_not_make_one_environment(links: Path, tmp_path: Path) -> None:
    one = environments.find("small", tmp_path / "made")
    one.folder.mkdir(parents=True)
    with (one.folder / "install.log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        done = call("env", "make", "small", "--dir", tmp_path / "made")
    assert "is being made by another process" in done.error
    (tmp_path / "file").write_text("")
    done = call("env", "make", "small", "--dir", tmp_path / "file")
    assert done.code == 2
    assert "give another --dir" in done.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["make"], "expected the name of an environment; known: hpsv2, image-reward"),
        (["make", "hpsv3"], "unknown environment 'hpsv3'; did you mean 'hpsv2'?"),
    ],
)
def test_a_name_that_is_none_is_reported(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = call("env", *arguments, "--dir", tmp_path)
    assert done.code == 2
    assert said in done.error


@pytest.mark.parametrize("name", environments.names())
def test_a_shipped_lock_names_one_exact_version_of_each_package_and_no_place(name: str) -> None:
    lines = [line.partition(";")[0].strip() for line in environments.requirements(name)]
    names = [line.partition("==")[0].lower().replace("_", "-") for line in lines]
    assert all(line.count("==") == 1 and "*" not in line and "@" not in line for line in lines)
    assert len(set(names)) == len(names)
    assert {"torch", "torchvision", "transformers", "pillow", "setuptools", name} <= set(names)
    assert not any(line.startswith("-") for line in lines), "no index and no option"


def test_the_folder_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_ENVIRONMENTS", str(tmp_path))
    assert environments.find("hpsv2").folder.parent == tmp_path
    monkeypatch.delenv("BENCH_ENVIRONMENTS")
    assert environments.default_folder().parts[-3:] == (".cache", "noisebench", "environments")
