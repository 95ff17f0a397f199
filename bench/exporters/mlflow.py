"""`--to mlflow[:URI]`: one MLflow run for each method and setting, with its numbers; the record is an artifact.

Without a URI it is MLflow's own MLFLOW_TRACKING_URI. The experiment is named after the suite. An arm that was
sent before is known by its record's digest and is not sent again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.errors import UserError, first_line
from bench.exporters import Given, arms, installed, numbers, parameters
from bench.records import ArmRow
from bench.records.submission import submission
from bench.report.words import setting

RECORD = "noisebench.record"
"""The tag that holds a record's digest."""


def send(given: Given, place: str, dry_run: bool) -> list[str]:
    """Send a run's arms; UserError where MLflow is not installed, or its server refuses."""
    rows = arms(given.results)
    lines = [f"{arm.method}: {len(numbers(given, arm))} numbers" for arm in rows]
    if dry_run:
        return lines
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = installed("mlflow", "mlflow")
    try:
        client = mlflow.MlflowClient(tracking_uri=place or None)
        experiment = _experiment(client, given.results.suite.name)
        there = _there(client, experiment, given)
        new = [arm for arm in rows if _titled(given, arm) not in there]
        for arm in new:
            _send_arm(client, experiment, given, arm)
    except mlflow.exceptions.MlflowException as error:
        raise UserError(f"--to mlflow:{place}: not sent ({first_line(error)})") from error
    known = [f"{arm.method} is there already" for arm in rows if _titled(given, arm) in there]
    return [line for arm, line in zip(rows, lines, strict=True) if arm in new] + known


def _experiment(client: Any, name: str) -> str:
    known = client.get_experiment_by_name(name)
    found: str = known.experiment_id if known else client.create_experiment(name)
    return found


def _there(client: Any, experiment: str, given: Given) -> set[str]:
    """Names of the arms that were sent whole before; one whose sending broke off is sent again."""
    asked = f"tags.`{RECORD}` = '{given.digest}'"
    return {run.info.run_name for run in client.search_runs([experiment], asked, max_results=1000)
            if run.info.status == "FINISHED"}  # fmt: skip


def _titled(given: Given, arm: ArmRow) -> str:
    return f"{arm.method}, {arm.model}, {setting(arm)} ({given.name})"


def _send_arm(client: Any, experiment: str, given: Given, arm: ArmRow) -> None:
    run = client.create_run(experiment, tags={RECORD: given.digest}, run_name=_titled(given, arm)).info.run_id
    for name, value in parameters(given, arm).items():
        client.log_param(run, _named(name), value)
    for name, value in numbers(given, arm).items():
        client.log_metric(run, _named(name), value)
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "record.json"
        file.write_bytes(submission(given.results).text().encode("utf-8", "replace"))
        client.log_artifact(run, str(file))
    client.set_terminated(run)


def _named(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)
