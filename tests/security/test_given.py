"""What is handed to others: paths of a stranger's ledger to a notebook, and the environment to other programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run
from PIL import Image as Pillow

import bench
from bench.api.side_by_side import SideBySide
from bench.errors import UserError, without_secrets
from bench.metrics.worker import Process
from bench.store import Ledger


def test_a_data_frame_of_images_names_no_file_outside_of_its_run(finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    ledger = Ledger(run.folder)
    ledger.db.execute("UPDATE images SET file = '../../secret.png' WHERE job_id = (SELECT min(job_id) FROM images)")
    ledger.close()
    with pytest.raises(UserError, match=r"leads out of the run's folder"):
        _ = bench.read(run.folder).images


@pytest.mark.parametrize("form", ["EPS", "TIFF", "BMP", "GIF", "PNG", "JPEG", "WEBP"])
def test_images_side_by_side_are_of_three_formats(tmp_path: Path, form: str) -> None:
    """By content, whatever a file is called: a run writes PNG, and Pillow gives EPS to another program."""
    file = tmp_path / "x.png"
    Pillow.new("RGB", (8, 8), "red").save(file, format=form)
    shown = SideBySide("a prompt", {"standard": file}, {"standard": ""})
    if form in ("PNG", "JPEG", "WEBP"):
        assert shown.picture().size == (8, 8)
    else:
        with pytest.raises(OSError, match="cannot identify"):
            shown.picture()


def test_a_worker_of_another_package_gets_no_secrets(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    import os
    import sys

    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, "a-secret-value")
    monkeypatch.setenv("HF_HOME", "/kept")
    assert without_secrets(os.environ).get("HF_HOME") == "/kept"
    code = "import os, sys; print(sorted(k for k, v in os.environ.items() if v == 'a-secret-value'), flush=True)"
    process = Process([sys.executable, "-c", code])
    assert process.line(60).strip() == b"[]"
