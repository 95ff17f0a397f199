"""Identity follows the code: edited code makes new images and scores, edited words do not."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from bench import identity, registry
from bench.identity.source import parse
from bench.methods.base import Chain, Method
from bench.runner.plan import make_plan
from bench.suite import Suite, load

# Source ---------------------------------------------------------------------------------------------------------------


BASE = "def f(x):\n    if x < 0:\n        raise ValueError(f'{x} is below 0')\n    return x + 1\n"


def digest(text: str, *, rows: bool = False) -> str:
    return parse(text.encode(), "one.two", package=False, rows=rows)[""].digest


@pytest.mark.parametrize(
    "other",
    [
        "# why\ndef f(x):\n\n    if x < 0:  # no\n        raise ValueError(f'{x} is below 0')\n    return (x + 1)\n",
        '"""Words."""\n' + BASE.replace("def f(x):\n", 'def f(x):\n    """More words."""\n'),
        BASE.replace("is below 0", "must be at least 0"),
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n".replace(
            "from typing import TYPE_CHECKING\n", ""
        )
        + BASE,
    ],
    ids=["comments and space", "docstrings", "what an error says", "imports for types"],
)
def test_words_do_not_count(other: str) -> None:
    assert digest(other) == digest(BASE)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("x + 1", "x + 1.0"),
        BASE.replace("x < 0", "x <= 0"),
        BASE.replace("ValueError", "KeyError"),
        BASE.replace("return x + 1", "return 1 + x"),
        "import os\n" + BASE,
    ],
)
def test_code_counts(other: str) -> None:
    assert digest(other) != digest(BASE)


def test_a_row_of_a_catalogue_counts_for_what_it_is_asked_for_only() -> None:
    row = "add_plugin('models', 'a', ModelEntry('a', steps=20))\n"
    assert digest(BASE + row, rows=True) == digest(BASE, rows=True)
    assert digest(BASE + row) != digest(BASE)


def test_the_digest_is_the_same_on_every_version_of_python() -> None:
    """Frozen: job ids of one commit are the same on another machine, whatever Python it has."""
    assert digest(BASE) == "64777853ceb4362c"


def test_the_same_name_from_another_module_is_another_thing() -> None:
    """Both modules count already; which of the two is imported decides."""
    here, there = "from bench.metrics.pixels import f\n" + BASE, "from bench.metrics.towers import f\n" + BASE
    one, other = (parse(text.encode(), "bench.metrics.one", package=False, rows=True)[""] for text in (here, there))
    assert one.digest == other.digest
    assert [*identity.imported(one)] != [*identity.imported(other)]


def test_a_plugin_that_imports_from_an_old_place_has_the_digest_of_the_new_one() -> None:
    old, new = "from bench.noise import draw\n" + BASE, "from bench.sampling.noise import draw\n" + BASE
    one, other = (parse(text.encode(), "theirs", package=False, rows=False)[""] for text in (old, new))
    found = [*identity.imported(one)]
    assert found == [*identity.imported(other)]
    assert all(found)
    assert found, "a module that decides pixels counts by its old name, too"


# What counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    ["bench.sampling.noise", "bench.sampling.session", "bench.sampling.schedule", "bench.methods.inversion",
     "bench.models.sdxl", "bench.models.pipeline", "bench.samplers.diffusers_schedulers", "bench.metrics.clipscore",
     "bench.metrics.pixels",
     "bench.shapes.detector", "bench.shapes.scorers", "npnet.network.model", "npnet.network.blocks", "npnet.method"],
)  # fmt: skip
def test_these_decide_pixels_or_scores(module: str) -> None:
    assert identity.counts(module)


@pytest.mark.parametrize(
    "module",
    ["bench.errors", "bench.cli.make", "bench.report.html", "bench.suite", "bench.runner.plan", "bench.store",
     "bench.job.stages", "bench.gate.against", "bench.stats", "bench.registry", "bench.sampling.meter",
     "bench.models.references",
     "bench.shapes.training", "bench.shapes.plugin", "npnet.training.train", "npnet.pairs.collect", "npnet.cli",
     "npnet.teachers.base", "npnet.network.convert"],
)  # fmt: skip
def test_these_do_not(module: str) -> None:
    assert not identity.counts(module)


def test_everything_that_images_go_through_is_there() -> None:
    parts = set(identity.loop().modules)
    assert {*identity.LOOP} <= parts, "a part of the loop has another name now: say so in bench/identity/deciding.py"
    assert {"bench.sampling.schedule", "bench.sampling.records"} <= parts
    for part in (name for name in identity.LOOP if ":" in name):
        module, _, name = part.partition(":")
        found: Any = importlib.import_module(module)
        for attribute in name.split("."):
            found = getattr(found, attribute)


ASIDE = {
    "bench.runner.faults:described": "words",
    "bench.runner.faults:fail_not_finite": "whether an image fails, not its pixels",
    "bench.runner.limits:limited": "whether the images of an arm fail, not their pixels",
    "bench.runner.faults:fault_of": "whether the images of an arm fail, not their pixels",
    "bench.runner.engine:Engine.scorer": "the digests of scorers are in the ids of what they are asked for",
    "bench.methods.nested:nested": "costs",
    "bench.registry:get": "it finds plugins, each of which has a digest",
    "bench.runner.score:_summed": "costs",
    "bench.store.keys:prompt_key": "by what a score is found",
}
"""What the code that images go through calls, and why it does not count."""


def called(part: str) -> set[str]:
    """Our functions, and methods of the same class, that a definition names, as `module:definition`."""
    name, _, definition = part.partition(":")
    module: Any = importlib.import_module(name)
    thing: Any = module
    for attribute in definition.split("."):
        thing = getattr(thing, attribute)
    owner = getattr(module, definition.partition(".")[0])
    found: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(thing)))):
        named: Any = None
        if isinstance(node, ast.Name):
            named = getattr(module, node.id, None)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of = getattr(module, node.value.id, None)
            of = owner if node.value.id == "self" else of if inspect.ismodule(of) else None
            named = getattr(of, node.attr, None)
        if inspect.isfunction(named) and named.__module__.startswith(("bench.", "npnet.")):
            found.add(f"{named.__module__}:{named.__qualname__}")
    return found


def test_nothing_that_images_go_through_calls_is_left_out() -> None:
    """What is neither digested nor stated above as of no effect on pixels and choices fails here."""
    parts = {name for name in identity.LOOP if ":" in name and "Family" not in name}
    begin = {
        "bench.runner.generator:Generator._sample",
        "bench.runner.generator:_png",
        "bench.runner.engine:Engine._embed",
    }
    assert begin <= parts
    needed = set().union(*map(called, parts | begin))
    assert {"bench.runner.engine:Engine._remember", "bench.runner.faults:checked"} <= needed
    covered = {name for name in needed if {name, name.partition(":")[0]} & {*identity.loop().modules}}
    assert needed - covered == {*ASIDE}


def test_the_hooks_that_a_chain_asks_are_digested() -> None:
    """`Chain` asks each link whether it has a hook; what `Method` answers decides which links are heard."""
    asked = {node.func.attr for node in ast.walk(ast.parse(inspect.getsource(Chain)))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
             and inspect.isfunction(getattr(Method, node.func.attr, None))}  # fmt: skip
    whether = {name for name in asked if not [*inspect.signature(getattr(Method, name)).parameters][1:]}
    plain = {"adapters", "controls", "learnt_from", "metrics", "optimises", "requires"}
    """Their answers are in the job id, or decide nothing."""
    assert {f"bench.methods.base:Method.{name}" for name in whether - plain} <= {*identity.LOOP}
    assert {"wraps_step", "sets_guidance", "adds_residuals", "reads_unconditional"} <= whether


def test_a_default_of_npnet_s_architecture_is_in_its_method_s_digest() -> None:
    code = identity.of(registry.get("methods", "npnet"))
    assert code is not None
    assert {"npnet.network.architecture", "npnet.network.model"} <= {*code.modules}


@pytest.mark.parametrize("kind", ["methods", "samplers"])
def test_every_plugin_of_ours_has_code(kind: str) -> None:
    for name in registry.names(kind):
        code = identity.of(registry.get(kind, name))
        assert code is not None
        assert code.modules
        assert (code.distribution, code.unread) == ("noisebench", ()), name


def test_a_metric_has_the_code_of_its_own_scorer() -> None:
    """Also where the catalogue makes its row by a function that all scorers share."""
    code = registry.get("metrics", "pickscore").code()
    assert {"bench.metrics.pickscore", "bench.metrics.real", "bench.metrics.pixels"} <= {*code.modules}
    assert "bench.metrics.hpsv2" not in code.modules
    assert "bench.metrics.distances" in registry.get("metrics", "fid").code().modules
    assert "bench.shapes.detector" in registry.get("metrics", "shapes-geneval").code().modules
    assert "bench.shapes.detector" not in registry.get("metrics", "shapes-clipscore").code().modules


def test_a_sampler_has_its_own_row_s_code_alone() -> None:
    ddim, heun = (identity.of(registry.get("samplers", name)) for name in ("ddim", "heun"))
    assert ddim is not None
    assert heun is not None
    assert not any("_distinct" in name for name in ddim.modules)
    assert any("_distinct" in name for name in heun.modules)


def test_votes_of_people_have_no_code() -> None:
    entry = registry.get("metrics", "human")
    assert entry.digest() == entry.identify()


def test_a_plan_is_hardly_slower_for_it() -> None:
    """Timed by what is counted: a second plan parses nothing."""
    identity.of(registry.get("methods", "inversion"))
    began = time.perf_counter()
    for _ in range(100):
        identity.of(registry.get("methods", "inversion"))
    assert time.perf_counter() - began < 2.0


# Ids ------------------------------------------------------------------------------------------------------------------


def suite(tmp_path: Path, text: str = TINY) -> Suite:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return load(path, limit=1)


def test_two_adapters_of_the_same_weights_make_two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from bench.models.sdxl import SDXL

    class Other(SDXL):
        """An adapter of another module."""

    module = sys.modules[__name__]
    monkeypatch.setattr(module, "Other", Other, raising=False)
    entry = registry.get("models", "shapes-sdxl")
    other = replace(entry, adapter=f"{__name__}:Other")
    plain = make_plan(suite(tmp_path))
    with registry.configured("models", {"shapes-sdxl": other}):
        theirs = make_plan(suite(tmp_path))
    assert not {*plain.jobs} & {*theirs.jobs}
