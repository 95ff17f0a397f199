"""Old places of npnet's modules: each gives what is now elsewhere, with one line that says where."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from own_forks import done_in_a_fork

from bench.moved import OldName
from npnet.moved import MOVED

LOOSE = (
    "architecture ascent batches blocks caches checkpoint collect collection convert dataset folders gains header loop "
    "losses mapped model pickled prompting published rescore scores select settings singular start state train work"
)
"""The modules that lay in npnet itself; `teachers` is a package of that name now; `cli`, `config`, `method` stayed."""


def test_every_module_that_moved_is_known() -> None:
    assert {*MOVED} == {f"npnet.{name}" for name in LOOSE.split()}


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_gives_the_very_module_and_one_line(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    new = importlib.import_module(MOVED[old])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert importlib.import_module(old) is new
        assert importlib.import_module(old) is new
    # What the module itself imports may warn of something else.
    (one,) = [one for one in said if one.category is OldName]
    assert old in str(one.message)
    assert MOVED[old] in str(one.message)
    assert "\n" not in str(one.message)
    assert new.__spec__ is not None
    assert (new.__name__, new.__spec__.name) == (MOVED[old], MOVED[old])


def test_names_of_teachers_are_found_where_they_were() -> None:
    from npnet import teachers
    from npnet.teachers.base import choosers

    with pytest.warns(FutureWarning, match=r"npnet\.teachers\.base\.choosers"):
        assert teachers.choosers is choosers
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = teachers.nothing


def test_the_line_is_that_of_the_import(tmp_path: Path) -> None:
    """As another program has it: both ways to import, in a process of its own."""
    file = tmp_path / "theirs.py"
    file.write_text(
        "from npnet.select import Rule\nfrom npnet import dataset\nprint(Rule.__module__, dataset.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-W", "always", file], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["npnet.pairs.select", "npnet.pairs.dataset"]
    places = [line.partition(" OldName")[0] for line in done.stderr.splitlines() if " OldName" in line]
    assert places == [f"{file}:1:", f"{file}:2:"]


def import_again() -> None:
    """Import the packages once more, in a process that has what they build on."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("npnet", "bench")]:
        del sys.modules[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "npnet", FutureWarning)
        from npnet import NPNet, NPNetConfig

        assert NPNet
        assert NPNetConfig
        for module in ("npnet.cli", "npnet.method", "npnet.training.train", "npnet.pairs.collect"):
            importlib.import_module(module)


def test_the_public_names_need_no_room() -> None:
    """They warn of nothing; neither does what the package itself imports."""
    importlib.import_module("npnet.training.train")
    done_in_a_fork(import_again)
