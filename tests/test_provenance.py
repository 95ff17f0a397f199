"""What made an image is named so that a gate takes images of the very same code alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_images import PIXELS, image

from bench import provenance
from bench.store.cache import ImageCache


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout of both packages and a README, committed, as if this process ran from it."""
    folder = tmp_path / "checkout"
    for name in ("bench/provenance.py", "bench/sampling/noise.py", "npnet/model.py", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("A = 1\n")
    git(tmp_path, "init", "-q", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    monkeypatch.setattr(provenance, "__file__", str(folder / "bench" / "provenance.py"))
    provenance.origin.cache_clear()
    yield folder
    provenance.origin.cache_clear()


@pytest.mark.parametrize("changed", [None, "README.md"])
def test_a_commit_is_trusted_under_its_name(checkout: Path, changed: str | None) -> None:
    if changed:
        (checkout / changed).write_text("Words\n")
    assert provenance.origin() == provenance.trusted() == f"commit {git(checkout, 'rev-parse', 'HEAD')[:12]}"


@pytest.mark.parametrize("changed", ["bench/sampling/noise.py", "npnet/model.py", "bench/new.py"])
def test_a_gate_takes_no_image_of_uncommitted_code(checkout: Path, tmp_path: Path, changed: str) -> None:
    """Neither of the commit nor of uncommitted code, which may have been other code."""
    commit = provenance.origin()
    provenance.origin.cache_clear()
    (checkout / changed).write_text("A = 2\n")
    uncommitted = provenance.origin()
    assert uncommitted == f"{commit} with uncommitted changes"
    (tmp_path / "a.png").write_bytes(PIXELS)
    cache = ImageCache(tmp_path / "cache")
    for job, origin in (("a" * 32, commit), ("b" * 32, uncommitted)):
        cache.put(replace(image(job), origin=origin), tmp_path / "a.png")
        assert cache.get(job, tmp_path / "x.png", "x.png", by=provenance.trusted()) is None
        assert cache.get(job, tmp_path / "x.png", "x.png", by=origin) is not None


def test_an_installed_package_is_trusted_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    provenance.origin.cache_clear()
    try:
        assert provenance.origin() == provenance.trusted() == f"version {provenance.__version__}"
    finally:
        provenance.origin.cache_clear()
