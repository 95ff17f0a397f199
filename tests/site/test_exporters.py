"""Results sent elsewhere: to a hub on loopback, to MLflow's own files, to Weights & Biases offline; and as tables."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import Bench
from small_boards import published

from bench.errors import NotComparable, UserError
from bench.exporters import exporter, send, tables
from bench.records import read
from bench.records.submission import read_submission, submission

# Tables --------------------------------------------------------------------------------------------------------------


def test_comparisons_and_costs_are_tables_of_both_kinds(tmp_path: Path, bench: Bench) -> None:
    import pandas as pd

    run = published(tmp_path / "run", changes={"methods": ["standard", {"name": "=1+1", "use": "inversion"}, "reseed"]})
    done = bench("export", run, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    plain = read(run)
    rows = list(csv.DictReader((tmp_path / "out" / "comparisons.csv").open(newline="")))
    assert len(rows) == len(plain.comparisons)
    assert {row["method"] for row in rows} == {"'=1+1", "reseed"}, "no text is a formula in a spreadsheet"
    frame = pd.read_parquet(tmp_path / "out" / "comparisons.parquet")
    assert list(frame["delta"]) == [row.delta for row in plain.comparisons]
    assert set(frame["method"]) == {"=1+1", "reseed"}
    costs = pd.read_parquet(tmp_path / "out" / "costs.parquet")
    assert list(costs["calls_total"]) == [arm.cost.calls_total for arm in plain.arms]


def test_a_run_without_results_has_the_tables_of_its_ledger(tmp_path: Path) -> None:
    run = published(tmp_path / "run")
    written = tables.write(read(run), "run", tmp_path / "out")
    assert sorted(path.name for path in written) == ["comparisons.csv", "comparisons.parquet", "costs.csv",
                                                     "costs.parquet"]  # fmt: skip


# The hub -------------------------------------------------------------------------------------------------------------


class Taking:
    """A hub of one data set that keeps what is committed; it answers the few requests that a commit takes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.made = False
        self.commits: list[str] = []
        self.refuses = False


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Taking]:
    from huggingface_hub import constants

    kept = Taking()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: Any, **headers: str) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if not kept.made:
                return self.answer(404, {"error": "no"}, **{"X-Error-Code": "RepoNotFound"})
            listed = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in
                      kept.files.items()]  # fmt: skip
            if "/tree/" not in self.path:
                return self.answer(200, {"id": "me/results", "sha": "0" * 40, "siblings": [
                    {"rfilename": one["path"]} for one in listed]})  # fmt: skip
            return self.answer(200, listed)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if kept.refuses:
                return self.answer(403, {"error": "no access"})
            if self.path == "/api/repos/create":
                kept.made = True
                return self.answer(200, {"url": f"http://{self.headers['Host']}/datasets/me/results"})
            if "/preupload/" in self.path:
                asked = json.loads(data)["files"]
                return self.answer(200, {"files": [{"path": one["path"], "uploadMode": "regular",
                                                    "shouldIgnore": False} for one in asked]})  # fmt: skip
            if "/commit/" in self.path:
                for line in data.decode().splitlines():
                    one = json.loads(line)
                    if one["key"] == "header":
                        kept.commits.append(one["value"]["summary"])
                    else:
                        kept.files[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
                url = f"http://{self.headers['Host']}/datasets/me/results/commit/{'1' * 40}"
                return self.answer(200, {"commitUrl": url, "commitOid": "1" * 40})
            return self.answer(200, {})

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(hub: Taking, tmp_path: Path, bench: Bench) -> None:
    run = published(tmp_path / "run")
    done = bench("export", run, "--to", "hub:me/results", "--dry-run")
    assert done.code == 0, done.err
    assert "would send to hub:me/results" in done.out
    assert submission(read(run)).digest[:16] in done.out
    assert "tables/comparisons/" in done.out
    assert (hub.files, hub.commits, hub.made) == ({}, [], False)


def test_a_data_set_of_the_hub_is_a_repository_of_results(hub: Taking, tmp_path: Path) -> None:
    run = published(tmp_path / "run")
    lines = send(run, "hub:me/results")
    assert len(hub.commits) == 1, "one commit, so that nothing is there in part"
    assert len(lines) == len(hub.files) == 3
    for name, data in hub.files.items():
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clone" / name).write_bytes(data)
    (record,) = (tmp_path / "clone" / "records").rglob("*.json")
    assert read_submission(record).digest == submission(read(run)).digest
    again = send(run, "hub:me/results")
    assert all(line.endswith("is there already") for line in again)
    assert len(hub.commits) == 1


def test_a_hub_that_refuses_is_one_line(hub: Taking, tmp_path: Path) -> None:
    hub.refuses = True
    with pytest.raises(UserError, match="not sent"):
        send(published(tmp_path / "run"), "hub:me/results")
    with pytest.raises(UserError, match="expected a data set's name"):
        send(tmp_path / "run", "hub:../etc")


# Trackers ------------------------------------------------------------------------------------------------------------


def test_mlflow_has_each_arm_with_its_numbers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = published(tmp_path / "run")
    place = (tmp_path / "mlruns").as_uri()
    assert len(send(run, f"mlflow:{place}")) == 3
    assert all(line.endswith("is there already") for line in send(run, f"mlflow:{place}"))
    client = mlflow.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name(read(run).suite.name)
    found = {one.data.params["method"]: one.data for one in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"standard", "inversion", "reseed"}
    (row,) = [row for row in read(run).comparisons if (row.method, row.prompts) == ("inversion", "shapes-pickapic")]
    assert found["inversion"].metrics["shapes-preference/delta"] == row.delta
    assert found["inversion"].metrics["shapes-preference/low"] == row.low
    assert found["inversion"].params["record"] == submission(read(run)).digest


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert len(send(published(tmp_path / "run"), "wandb:trial")) == 3
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 3


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_dry_run_of_a_tracker_needs_no_package(name: str, tmp_path: Path) -> None:
    lines = send(published(tmp_path / "run"), name, dry_run=True)
    assert [line.partition(":")[0] for line in lines] == ["standard", "inversion", "reseed"]


def test_names_and_runs_that_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'mlflow'"):
        exporter("mlfow")
    half = published(tmp_path / "half", images=lambda spot: None)
    with pytest.raises(NotComparable, match="not finished"):
        send(half, "mlflow", dry_run=True)


def test_a_package_brings_its_own_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_tracker.py").write_text(
        "def send(given, place, dry_run):\n    return [f'{given.results.suite.name} to {place}']\n"
    )
    info = tmp_path / "their_tracker-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tracker\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[bench.exporters]\ntheirs = their_tracker:send\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert send(published(tmp_path / "run"), "theirs:there") == ["made to there"]
