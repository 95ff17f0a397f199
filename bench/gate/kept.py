"""The verdicts on a run, kept beside the results that were judged, for its report to show.

Data flows one way: results.json, then gate.json, then report.html. The file says by a digest which results it judged,
so that a report of later ones never shows it as their verdict.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from bench.errors import UserError
from bench.gate.forms import Report, as_json
from bench.gate.verdicts import Judgement
from bench.records import Results
from bench.store import write_atomically

FILE = "gate.json"


def keep(judgement: Judgement, results: Results, folder: Path) -> Path:
    """Write gate.json (bench/schemas/gate.schema.json) into the folder of the run that was judged; returns its path."""
    content = as_json(judgement, results) | {"results_sha256": results_digest(folder)}
    path = folder / FILE
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def verdicts_in(folder: Path) -> Report | None:
    """The verdicts that lie in a folder; None where no gate judged it.

    UserError for a file that this version cannot read.
    """
    try:
        return Report.model_validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(f"{folder / FILE}: not verdicts that this version reads; gate the run again") from error


def results_digest(folder: Path) -> str | None:
    """The sha256 of a folder's results.json; None where there is none."""
    try:
        return hashlib.sha256((folder / "results.json").read_bytes()).hexdigest()
    except OSError:
        return None
