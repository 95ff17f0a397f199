"""Plugins by name: what is found, what is said of a wrong name, and what a bad package cannot break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bench import registry
from bench.errors import UserError

Point = SimpleNamespace


def point(name: str, load: Callable[[], Any], distribution: str = "someones-package") -> Point:
    return Point(name=name, value=f"someones:{name}", dist=Point(name=distribution), load=load)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Adds entry points of one kind to those that are installed, and takes the registry back afterwards."""
    real = registry.entry_points

    def add(kind: str, *points: Point) -> None:
        def entry_points(group: str) -> list[Any]:
            return [*real(group=group), *(points if group == f"bench.{kind}" else ())]

        monkeypatch.setattr(registry, "entry_points", entry_points)

    with registry.isolated():
        yield add


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("models", {"sdxl", "hunyuan-dit", "shapes-sdxl"}),
        ("methods", {"standard", "inversion", "inversion_as_released", "reseed", "best_of_n"}),
        ("samplers", {"ddim", "dpmpp_2m", "euler", "euler_a", "heun", "pndm", "unipc", "lcm", "kdpm2_a"}),
        ("prompts", {"pick-a-pic", "drawbench", "hpd", "geneval", "t2i-compbench", "shapes-pickapic"}),
        ("metrics", {"pickscore", "hpsv2", "aesthetic", "imagereward", "clipscore", "mps", "geneval"}),
    ],
)
def test_the_papers_own_and_the_embedded_plugins_are_found(kind: str, expected: set[str]) -> None:
    found = registry.names(kind)
    assert expected <= set(found)
    assert found == sorted(found)
    for name in found:
        assert getattr(registry.get(kind, name), "name", name) == name


def test_an_unknown_name_is_reported_with_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match=r"^unknown method 'inverson'; did you mean 'inversion'\?$"):
        registry.get("methods", "inverson")


def test_a_name_like_no_other_comes_with_all_known_ones_and_the_way_to_add_one() -> None:
    with pytest.raises(UserError) as caught:
        registry.get("models", "xyzzy")
    said = f"unknown model 'xyzzy'; known: {', '.join(registry.names('models'))}"
    assert str(caught.value) == f"{said}; one of your own comes with --plugin FILE.py"


def test_a_package_adds_a_plugin_through_its_entry_point(install: Callable[..., None]) -> None:
    plugin = Point(twin_of=())
    install("methods", point("golden", lambda: plugin))
    assert registry.get("methods", "golden") is plugin
    assert registry.source("methods", "golden") == "someones-package"
    assert registry.source("methods", "inversion") == "bench"
    assert "golden" not in registry.names("metrics")


def test_two_plugins_of_one_name_are_an_error_that_names_both_packages(install: Callable[..., None]) -> None:
    install("methods", point("inversion", lambda: Point()))
    with pytest.raises(UserError, match=r"two methods are named 'inversion' \(from bench and someones-package\)"):
        registry.names("methods")


def test_the_same_plugin_twice_is_no_clash(install: Callable[..., None]) -> None:
    plugin = Point()
    install("methods", point("golden", lambda: plugin), point("golden", lambda: plugin, "its-alias"))
    assert registry.get("methods", "golden") is plugin


def test_a_broken_package_takes_no_other_plugin_down(install: Callable[..., None]) -> None:
    def broken() -> Any:
        raise ImportError("libcudart.so.9 is not here")

    plugin = Point()
    install("methods", point("broken", broken, "bad-package"), point("golden", lambda: plugin))
    assert registry.get("methods", "golden") is plugin
    assert {"broken", "standard"} <= set(registry.names("methods"))
    line = "plugin 'broken' of package 'bad-package' does not load: ImportError: libcudart.so.9 is not here ("
    with pytest.raises(UserError) as caught:
        registry.get("methods", "broken")
    assert str(caught.value).startswith(line)
    assert f"({__file__}:" in str(caught.value), "with the file and the line of its code"
    assert registry.twin("methods", "broken") is None


@pytest.mark.parametrize(
    ("kind", "name", "twin"),
    [
        ("models", "sdxl", "shapes-sdxl"),
        ("models", "shapes-sdxl", "shapes-sdxl"),
        ("prompts", "pick-a-pic", "shapes-pickapic"),
        ("prompts", "drawbench", "shapes-drawbench"),
        ("prompts", "hpd", "shapes-hpd"),
        ("prompts", "hpd_full", "shapes-hpd"),
        ("prompts", "geneval", "shapes-geneval"),
        ("prompts", "t2i-compbench_3d_spatial", "shapes-compbench"),
        ("metrics", "hpsv2", "shapes-preference"),
        ("metrics", "geneval", "shapes-geneval"),
        ("metrics", "shapes-geneval", "shapes-geneval"),
        # It needs a second preference model with other votes, which the embedded world does not have yet.
        ("metrics", "human", None),
        ("methods", "inversion", None),
        ("models", "xyzzy", None),
    ],
)
def test_twins(kind: str, name: str, twin: str | None) -> None:
    assert registry.twin(kind, name) == twin


@pytest.mark.parametrize("kind", ["models", "prompts", "metrics"])
def test_whatever_is_stood_in_for_is_registered_and_has_one_stand_in(kind: str) -> None:
    of = [name for plugin in registry.names(kind) for name in registry.get(kind, plugin).twin_of]
    assert of
    assert len(of) == len(set(of))
    assert set(of) <= set(registry.names(kind))


def test_what_is_registered_in_isolation_is_forgotten_and_what_was_there_is_back() -> None:
    before = {kind: registry.names(kind) for kind in registry.KINDS}
    bad = registry.Broken("bad", "theirs", ImportError("x"))
    with registry.isolated({"methods": {"golden": Point(), "bad": bad}}):
        registry.put("samplers", "mine", Point(), "mine.py")
        assert registry.names("methods") == ["bad", "golden"]
        assert (registry.names("samplers"), registry.names("metrics")) == (["mine"], [])
        assert registry.source("methods", "golden") == "bench"
        with pytest.raises(UserError, match="'bad' of package 'theirs'"):
            registry.get("methods", "bad")
    with registry.isolated():
        registry.add_plugin("methods", "golden", Point(), "theirs")
        assert "golden" in registry.names("methods")
    assert {kind: registry.names(kind) for kind in registry.KINDS} == before
    assert registry.put_by("mine.py") == []


def test_a_configured_plugin_has_its_name_for_a_while_whether_another_has_it_or_none() -> None:
    plugin, sampler = Point(twin_of=()), registry.get("samplers", "ddim")
    before = registry.names("samplers")
    with registry.configured("samplers", {"golden": plugin}), registry.configured("samplers", {"ddim": plugin}):
        assert registry.get("samplers", "golden") is registry.get("samplers", "ddim") is plugin
        assert registry.names("samplers") == sorted([*before, "golden"])
        assert registry.name_of("samplers", plugin) in ("golden", "ddim")
        assert (registry.source("samplers", "golden"), registry.twin("samplers", "golden")) == (
            registry.PROJECT,
            "golden",
        )
        with pytest.raises(UserError, match="did you mean 'golden'"):
            registry.get("samplers", "goldn")
    assert registry.names("samplers") == before
    assert registry.get("samplers", "ddim") is sampler
