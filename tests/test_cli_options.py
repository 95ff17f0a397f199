"""Options and filters of the command line: a mistake names what was meant, and nothing else is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY, Done, call, call_main
from facts import missing
from suite_texts import BEST_OF_2, suite_text, write_suite

from bench import suite
from bench.errors import UserError
from npnet.cli import main as npnet

PAPER = suite_text(
    models=["sdxl"],
    prompts=["drawbench"],
    methods=["standard", "inversion", BEST_OF_2 | {"selection_metric": "geneval"}, "reseed"],
    metrics=["geneval", "clipscore"],
)
ROOT = Path(__file__).parent.parent


def one_line(done: Done) -> str:
    assert done.code == 2
    assert len(done.err.splitlines()) == 1, done.err
    return done.error


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("plan", ["suite.yaml", "--twinn"], "unknown option --twinn; did you mean '--twin'?"),
        ("plan", ["--metrics=hpsv2"], "unknown option --metrics; did you mean '--metric'?"),
        ("run", ["--foo"], "unknown option --foo"),
        ("run", ["suite.yaml", "other.yaml"], "unexpected argument 'other.yaml'"),
    ],
)
def test_an_unknown_option_shows_the_usage_of_its_command(command: str, words: list[str], said: str) -> None:
    done = call(command, *words)
    assert done.code == 2
    assert done.err.startswith(f"usage: python -m bench {command} ")
    assert done.err.splitlines()[-1] == f"python -m bench {command}: error: {said}"


def test_an_option_that_argparse_takes_for_a_longer_one_is_taken_still() -> None:
    assert "no such file" in one_line(call("plan", "nowhere.yaml", "--twi"))
    assert "no such file" in one_line(call("plan", "--twin", "--", "--nowhere.yaml"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "s.yaml", "--limit", "0"], "argument --limit: expected a whole number from 1, got '0'"),
        (["plan", "s.yaml", "--set"], "argument --set: expected one argument"),
        (["pln", "s.yaml"], "argument COMMAND: unknown 'pln'; did you mean 'plan'?"),
        (["gate", "run", "--require", "shwn"], "argument --require: unknown 'shwn'; did you mean 'shown'?"),
        (["ls", "pictures"], "argument kind: unknown 'pictures'; known: methods, metrics, models, prompts, samplers"),
        (["run", "s", "--keep-images", "--regenerate"], "--regenerate: not allowed with argument --keep-images"),
    ],
)
def test_a_wrong_value_is_one_line(words: list[str], said: str) -> None:
    assert said in one_line(call(*words))


def test_the_other_program_says_them_likewise() -> None:
    assert "unknown 'colect'; did you mean 'collect'?" in one_line(call_main(npnet, "colect"))
    done = call_main(npnet, "train", "x.yaml", "--form", "y")
    assert missing(done.err.splitlines()[-1], "npnet train", "error: ", "--form", "did you mean '--from'?") == []


# The suite's file -----------------------------------------------------------------------------------------------------


def test_only_a_near_suite_is_offered(tmp_path: Path) -> None:
    for name in ("fid", "sdxl_main"):
        (tmp_path / f"{name}.yaml").write_text(TINY)
    assert one_line(call("plan", tmp_path / "zzz.yaml")).endswith("zzz.yaml: no such file")
    assert one_line(call("plan", tmp_path / "sdxl_man.yaml")).endswith("no such file; did you mean 'sdxl_main.yaml'?")
    assert one_line(call("plan", tmp_path / "sdxl_main")).endswith("no such file; did you mean 'sdxl_main.yaml'?")


@pytest.mark.parametrize("name", ["README.md", "pyproject.toml", "LICENSE", "baselines/sdxl_main_twin.json"])
def test_a_file_of_another_kind_is_called_no_suite(name: str) -> None:
    assert f"{name}: not a suite; expected a YAML file, such as suites/shapes_quick.yaml" in one_line(
        call("plan", ROOT / name)
    )


def test_a_suite_by_another_name_is_one(tmp_path: Path) -> None:
    path = tmp_path / "suite.txt"
    write_suite(path, name="x")
    assert suite.load(path).name == "x"
    write_suite(path, samplers=["dimm"])
    with pytest.raises(UserError, match=r"suite.txt:5: unknown sampler 'dimm'"):
        suite.load(path)


# Filters --------------------------------------------------------------------------------------------------------------


def paper(*metrics: str, twin: bool = True) -> suite.Suite:
    return suite.parse(PAPER, file="paper.yaml", twin=twin, metrics=metrics)


def test_a_metric_is_kept_by_its_own_name_or_its_stand_ins() -> None:
    assert paper("clipscore").metrics == paper("shapes-clipscore").metrics == ("shapes-clipscore",)
    assert paper("clipscore").id == paper("shapes-clipscore").id
    assert len(paper("shapes-clipscore", "geneval").metrics) == 2


@pytest.mark.parametrize(
    ("name", "twin", "said"),
    [
        ("hpsv3", False, "--metric hpsv3: this suite has no metric 'hpsv3'; it has geneval, clipscore; name it in"),
        ("shapes-clipscore", False, "this suite has no metric 'shapes-clipscore'; it has geneval, clipscore;"),
        ("hpsv3", True, "it has geneval, clipscore (with --twin also shapes-geneval, shapes-clipscore);"),
        ("clipscor", True, "--metric clipscor: unknown metric 'clipscor'; did you mean 'clipscore'?"),
        ("shapes-clipscor", True, "unknown metric 'shapes-clipscor'; did you mean 'shapes-clipscore'?"),
    ],
)
def test_a_metric_that_other_suites_have_is_not_called_unknown(name: str, twin: bool, said: str) -> None:
    with pytest.raises(UserError) as caught:
        paper(name, twin=twin)
    assert said in str(caught.value)


def test_a_method_that_other_suites_have_is_not_called_unknown() -> None:
    with pytest.raises(UserError, match="--method ays: this suite has no method 'ays'; it has standard, inversion, "):
        suite.parse(TINY, file="tiny.yaml", methods=["ays"])
