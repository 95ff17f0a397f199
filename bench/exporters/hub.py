"""`--to hub:OWNER/NAME`: a data set on the Hugging Face Hub that is a repository of results.

It gets the run's record at its place (docs/share.md), the comparisons and costs as Parquet, which the hub's viewer
shows, and the report. A record that is there already is not sent again. The token is the hub library's own.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.errors import UserError, first_line
from bench.exporters import Given, tables
from bench.records.submission import submission
from bench.site.submitting import place as place_of

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def send(given: Given, place: str, dry_run: bool) -> list[str]:
    """Send a run; UserError where the address is none, the hub refuses, or cannot be reached."""
    if not _REPOSITORY.fullmatch(place):
        raise UserError(f"--to hub:{place}: expected a data set's name, as in hub:owner/results")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    api = HfApi()
    with TemporaryDirectory() as scratch:
        files = _files(given, Path(scratch))
        try:
            there = set(api.list_repo_files(place, repo_type="dataset"))
        except RepositoryNotFoundError:
            there = set()
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise UserError(f"--to hub:{place}: the hub cannot be asked ({first_line(error)})") from error
        new = {name: file for name, file in files.items() if name not in there}
        lines = [f"{name} ({file.stat().st_size:,} bytes)" for name, file in new.items()]
        lines += [f"{name} is there already" for name in files if name in there]
        if dry_run or not new:
            return lines
        _commit(api, place, given, new)
    return lines


def _files(given: Given, scratch: Path) -> dict[str, Path]:
    """What is sent, by its name in the data set."""
    made = submission(given.results)
    record = scratch / "record.json"
    record.write_bytes(made.text().encode("utf-8", "replace"))
    stem = place_of(made).with_suffix("").as_posix().partition("/")[2]
    written = tables.write(given.results, given.name, scratch / "tables")
    files = {place_of(made).as_posix(): record}
    files |= {f"tables/{file.stem}/{stem}.parquet": file for file in written if file.suffix == ".parquet"}
    report = given.run / "report.html"
    return files | ({f"reports/{stem}.html": report} if report.is_file() and not report.is_symlink() else {})


def _commit(api: object, place: str, given: Given, files: dict[str, Path]) -> None:
    """All files in one commit, so that none is there without the others."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    assert isinstance(api, HfApi)
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
    try:
        api.create_repo(place, repo_type="dataset", exist_ok=True)
        api.create_commit(place, operations, commit_message=f"results of {given.name}", repo_type="dataset")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(f"--to hub:{place}: not sent ({first_line(error)}); `hf auth login` logs in") from error
