"""A hub that drops, is slow, lies or has not what is asked for: one line, and nothing that came is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fetched import files as files
from fetched import got, pipeline, weights
from fetched import hub as hub
from fetched import no_waits as no_waits
from hub import Hub

from bench.needs.hub import HubFile, HubFolder, HubPipeline, OnHub

MB = 1_000_000
LARGE = 26 * MB
"""The library writes ten megabytes at a time, and resumes from what it wrote."""


def large(hub: Hub) -> HubFile:
    """The source of a file that comes in several pieces."""
    path = hub.home / "small" / "large" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(random.Random(0).randbytes(LARGE))
    return HubFile("small/large", hub.commit, "model.bin")


@pytest.mark.usefixtures("no_waits")
def test_a_dropped_connection_resumes_where_it_was(hub: Hub, tmp_path: Path) -> None:
    """huggingface_hub asks again from the last byte on, and the whole is what the hub's listing says."""
    source = large(hub)
    hub.cuts["small/large/model.bin"] = [12 * MB, 11 * MB]
    assert got(hub, source, tmp_path)[-1] == "here True"
    assert hub.asked.count("small/large/model.bin") == 3
    assert hub.sent < LARGE + 6 * MB, "two pieces were kept"


@pytest.mark.usefixtures("no_waits")
def test_a_download_that_failed_continues_with_the_files_that_are_not_here(hub: Hub, tmp_path: Path) -> None:
    """Files that came are kept. Of the one that was cut off nothing is: huggingface_hub keeps no part of a file."""
    large(hub)
    (hub.home / "small" / "large" / "config.json").write_text("{}")
    source = HubFolder("small/large", hub.commit, ("*.json",), ("model.bin",))
    hub.cuts["small/large/model.bin"] = [12 * MB] + [0] * 20
    *_, error, here = got(hub, source, tmp_path)
    assert here == "here False"
    assert "fetch again to resume" in error
    hub.cuts.clear()
    hub.asked.clear()
    assert got(hub, source, tmp_path)[-1] == "here True"
    assert hub.asked == ["small/large/model.bin"]


def test_another_digest_than_the_listing_has_is_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.lies.add(weights(hub))
    *_, error, here = got(hub, pipeline(hub), tmp_path)
    assert here == "here False"
    assert "diffusion_pytorch_model.safetensors: sha256 is " in error
    assert "removed; fetch again" in error
    hub.lies.clear()
    assert got(hub, pipeline(hub), tmp_path)[-1] == "here True"


def test_another_digest_than_the_published_one_is_refused(hub: Hub, tmp_path: Path) -> None:
    """The commit is right and the file is what the hub lists, and yet it is not what the scorer was published with."""
    source = HubFile("small/model", hub.commit, "unet/diffusion_pytorch_model.safetensors", "ab" * 32)
    *_, error, here = got(hub, source, tmp_path)
    assert here == "here False"
    assert "expected abababababab; removed" in error


def test_a_slow_hub_is_waited_for_and_asked_again(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.slow[weights(hub)] = [0.6]
    assert got(hub, pipeline(hub), tmp_path)[-1] == "here True"
    assert hub.asked.count(weights(hub)) >= 1


def test_a_gated_repository_says_which_page_to_accept(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("small/model")
    *_, error, here = got(hub, pipeline(hub), tmp_path)
    assert here == "here False"
    assert f"gated: accept its terms at {hub.url}/small/model, then log in with `hf auth login`" in error


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (HubPipeline("small/none", Hub.commit), "no such repository, or a private one: see {u}/small/none"),
        (HubPipeline("small/model", "f" * 40), "no such commit"),
        (HubFile("small/model", Hub.commit, "absent.bin"), "the files that are needed are not among its"),
        (HubFolder("small/model", Hub.commit, ("*.json",), ("model.safetensors",)), "are not among its"),
    ],
)
def test_what_the_hub_has_not_is_one_line(hub: Hub, tmp_path: Path, source: OnHub, said: str) -> None:
    (error, here) = got(hub, source, tmp_path)
    assert here == "here False"
    assert error.startswith("small/")
    assert "\n" not in error
    assert said.format(u=hub.url) in error


OFFLINE = """
import sys
from bench.errors import UserError
from bench.needs.hub import HubPipeline
try:
    HubPipeline("small/model", sys.argv[1]).size()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
    ],
)
def test_offline_and_unreachable_are_one_line(hub: Hub, tmp_path: Path, setting: dict[str, str], said: str) -> None:
    """In a process of its own: the library reads its settings once."""
    surroundings = {**os.environ, **hub.environment(tmp_path / "hf"), **setting}
    command = [sys.executable, "-c", OFFLINE, hub.commit]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=True)
    (error,) = done.stdout.splitlines()
    assert said in error
