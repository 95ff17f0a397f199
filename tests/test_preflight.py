"""Before a run: every suite plans on a machine that has nothing, lists what it lacks, and `run` refuses in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Bench, call
from facts import missing

from bench import registry, suite
from bench.errors import UserError
from bench.job import preflight
from bench.needs.base import Lacking, Made, Need, Nothing, is_placeholder, placeholder
from bench.needs.hub import HubFile
from bench.runner.plan import make_plan

ROOT = Path(__file__).parents[1]
SUITES = sorted((ROOT / "suites").glob("*.yaml"))


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No downloads, no checkpoints, no hub; and no working folder with trained networks in it."""
    from huggingface_hub import constants

    for name in ("HOME", "BENCH_DATA", "NPNET_WEIGHTS", "BENCH_SCORERS", "BENCH_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("twin", [False, True], ids=["real", "twin"])
@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_plans_on_a_machine_that_has_nothing(
    path: Path, twin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file of prompts is named from where the program is started.
    (tmp_path / "there" / "suites").mkdir(parents=True)
    (tmp_path / "there" / "suites" / "captions").symlink_to(ROOT / "suites" / "captions")
    monkeypatch.chdir(tmp_path / "there")
    done = call("plan", path, "--limit", 1, *(["--twin"] if twin else []))
    assert done.code == 0, done.err
    assert not done.err
    (found,) = re.findall(r"^needs: +(\d+), of which (\d+) are not on this machine", done.out, re.MULTILINE)
    lines = re.findall(r"^  (?:prompts|model|method|metric) .*", done.out, re.MULTILINE)
    assert len(lines) == int(found[1])
    for line in lines:
        # An address, a command, or what to do by hand.
        assert re.search(
            r"  from \S+|python -m (bench|npnet)|pip install|make one|put it|leave it out|reference", line
        ), line
    real = path.stem in (
        "sdxl_main",
        "methods",
        "initno",
        "samplers",
        "steps",
        "orthogonal",
        "few_steps",
        "npnet_claim",
    )
    if real and not twin:
        assert f"get them:       python -m bench fetch {path}" in done.out
    if twin and not path.stem.startswith("controlnet"):
        assert lines == []


def test_all_that_is_missing_is_reported_at_once() -> None:
    out = call("plan", ROOT / "suites" / "sdxl_main.yaml").out
    of = [f"prompts {name}" for name in ("pick-a-pic", "drawbench", "hpd")]
    of += [f"metric {name}" for name in ("hpsv2", "pickscore", "aesthetic", "imagereward", "clipscore", "mps")]
    for name in (*of, "model sdxl", "method npnet"):
        assert f"\n  {name} " in out
    assert "stabilityai/stable-diffusion-xl-base-1.0       13.9 GB" in out
    assert "scoring: about" in out
    assert "GiB of weights at most at a time" in out
    assert "priced under a placeholder" in out


def test_a_run_refuses_in_one_line_with_both_ways_on(tmp_path: Path) -> None:
    path = ROOT / "suites" / "sdxl_main.yaml"
    done = call("run", path, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert f"`python -m bench fetch {path}` gets it" in done.error
    assert "or --twin runs the suite on the embedded world" in done.error
    assert "about 24" in done.error
    assert not (tmp_path / "runs").exists()


def test_a_run_names_the_options_that_chose_what_it_needs(tmp_path: Path) -> None:
    path = ROOT / "suites" / "sdxl_main.yaml"
    kept = ["--set", "models=[sd15]", "--method", "standard", "--metric", "clipscore"]
    done = call("run", path, *kept, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert f"`python -m bench fetch {path} --set 'models=[sd15]' --method standard --metric clipscore`" in done.error


def test_a_run_names_the_command_that_makes_what_is_not_published(tmp_path: Path) -> None:
    done = call("run", ROOT / "suites" / "npnet_thresholds.yaml", "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert "trained/m01/best.safetensors (python -m npnet collect " in done.error
    assert "--set selection.threshold=0.5 --out trained/m05" in done.error
    assert "bench fetch" not in done.error


def test_a_twin_runs_on_what_is_shipped_and_says_so(bench: Bench) -> None:
    done = bench("plan", ROOT / "suites" / "npnet_thresholds.yaml", "--twin", "--limit", 1)
    note = "note: method 'm = 0.1': checkpoint is 'auto' on the twin, not 'trained/m01/best.safetensors'"
    assert note in done.out
    assert "needs:          0, of which 0" in done.out


def test_every_file_that_is_not_here_has_a_placeholder_of_its_own() -> None:
    """Four networks make four sets of images, whether their files are here or not."""
    loaded = suite.load(ROOT / "suites" / "npnet_study.yaml", limit=1)
    plan = preflight.planned(loaded)
    assert len(plan.jobs) == 5 * 3 * 3
    assert {need.what for need in plan.lacking} == {f"trained/{name}/best.safetensors" for name in
                                                    ("selected", "unselected", "cross", "nearby")}  # fmt: skip
    with pytest.raises(Lacking, match="trained/selected/best"):
        make_plan(loaded)
    assert is_placeholder(placeholder("a"))
    assert placeholder("a") != placeholder("b")
    assert len(placeholder("a")) == 64


def test_a_plan_with_everything_here_is_the_plan_that_is_run() -> None:
    loaded = suite.load(ROOT / "suites" / "sdxl_main.yaml", twin=True, limit=2)
    assert list(preflight.planned(loaded).jobs) == list(make_plan(loaded).jobs)


def test_names_of_the_embedded_world_are_their_own_twins_and_what_collapses_is_reported() -> None:
    for kind in ("models", "prompts", "metrics"):
        for name in registry.names(kind):
            if registry.source(kind, name) == registry.PROJECT:
                assert registry.twin(kind, name) == name
    text = """\
models: [sdxl, sd14, sd15, dreamshaper, shapes-sdxl]
prompts: [hpd, hpd_full, drawbench]
samplers: [ddim]
baseline: standard
methods: [standard]
metrics: [clipscore]
"""
    notes = suite.parse(text, file="x.yaml", twin=True).notes
    assert "models 'sdxl', 'shapes-sdxl' are one on the twin: 'shapes-sdxl'" in notes
    assert "models 'sd14', 'sd15' are one on the twin: 'shapes-sd'" in notes
    assert "prompt sets 'hpd', 'hpd_full' are one on the twin: 'shapes-hpd'" in notes


def test_a_plan_asks_no_network(bench_process: Bench, tmp_path: Path) -> None:
    """Without HF_HUB_OFFLINE, an unreachable hub costs no second and no word."""
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
    away |= {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = bench_process("plan", ROOT / "suites" / "sdxl_main.yaml", "--limit", 1, env=away)
    assert done.code == 0, done.err
    assert done.err == ""
    assert not (tmp_path / "hf").exists()


def test_sizes_are_summed_once_a_source() -> None:
    file = HubFile("a/b", "0" * 40, "x")
    found = [
        Need("metric one", "x", file, 1_500_000_000),
        Need("metric two", "x", file, 1_500_000_000),
        Need("metric two", "y", HubFile("a/b", "0" * 40, "y")),
        Need("method z", "z", Made(Path("z"), "make it"), 5),
        Need("metric w", "w", Nothing("not built")),
    ]
    assert preflight.size(found) == (1_500_000_000, 1)
    assert preflight.amount(found) == "about 1.5 GB and 1 of unknown size"
    with pytest.raises(UserError) as caught:
        preflight.check(found, suite="my.yaml")
    (line,) = str(caught.value).splitlines()
    whose, _, others = line.partition("`python -m bench fetch my.yaml`")
    assert missing(whose, "my.yaml: ", "metric one, metric two", "about 1.5 GB and 1 of unknown size") == []
    assert missing(others, "method z", "make it", "metric w", "not built", "--twin") == []
    preflight.check([], suite="my.yaml")


def test_a_chooser_that_can_judge_no_prompt_of_a_set_is_left_out_there(tmp_path: Path) -> None:
    """GenEval on DrawBench: every image of that arm would fail, one after the other, after a day of sampling."""
    done = call("plan", ROOT / "suites" / "sdxl_main.yaml")
    assert done.code == 0, done.err
    said = "needs metadata with 'include', and its prompts have none"
    for name in ("pick-a-pic", "drawbench", "hpd"):
        assert f"note: best_of_4_oracle is left out on {name}: geneval, which chooses, {said}" in done.out
    assert "400 images chosen among candidates" in done.out
    assert "mask2former" not in done.out, "what judges no prompt of the suite is not asked for"
    assert not preflight.planned(with_chooser("geneval")).notes, "whose prompts carry it, as their set declares"
    with pytest.raises(UserError, match=r"baseline 'oracle' on drawbench: geneval, which chooses, needs metadata"):
        preflight.planned(with_chooser("drawbench", baseline="oracle"))
    prompts = tmp_path / "mixed.jsonl"
    prompts.write_text(
        '{"prompt": "a dog"}\n{"prompt": "a cat", "tag": "single_object", "include": [{"class": "cat", "count": 1}]}\n'
    )
    with pytest.raises(UserError, match=r"prompt 0 of file:.* has none; give it to all prompts or to none"):
        preflight.planned(with_chooser(f"file:{prompts}"))


def with_chooser(prompts: str, *, baseline: str = "standard") -> suite.Suite:
    return suite.parse(
        f"name: blind\nmodels: [sdxl]\nprompts: ['{prompts}']\nsamplers: [ddim]\nbaseline: {baseline}\n"
        "methods: [standard, {use: best_of_n, name: oracle, n: 2, selection_metric: geneval}]\nmetrics: [clipscore]\n",
        file="blind",
    )
