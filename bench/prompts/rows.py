"""A user's file as rows: CSV, TSV, JSONL, TXT or Parquet, from anywhere, so nothing in it is trusted or run.

Every mistake is one UserError of one line that begins with file and line.
"""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bench.errors import UserError

PROMPT = "prompt"
MAX_BYTES = 256 * 2**20
"""Of a file; a million prompts of the usual length have 100 MB."""
MAX_ROWS = 1_000_000
EXPECTED = 'expected a line for each prompt, such as {"prompt": "a red car", "control": {"canny": "edges/1.png"}}'


@dataclass(frozen=True)
class Row:
    """One row: where it stands, what is in its cells, and whether cells are plain text."""

    place: str
    """File and line, as errors begin."""
    cells: dict[str, Any]
    """By column; JSON's types, and text only where the format knows no others."""
    typed: bool = True
    """False where numbers and lists are written as text: CSV."""


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file that are not empty, in order; by its ending. UserError for what cannot be read."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(READERS)}")
    _check(path)
    for n, row in enumerate(read(path)):
        if n >= MAX_ROWS:
            raise UserError(f"{row.place}: more than {MAX_ROWS:,} rows; give a part of them")
        yield row


def _check(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        expected = "" if path.suffix.lower() in (".csv", ".tsv", ".txt") else f"; {EXPECTED}"
        raise UserError(f"{path}: no such file{expected}") from None
    except (OSError, ValueError) as error:
        _unreadable(path, error)
    # A device or a pipe may be read without end.
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: not a regular file; {EXPECTED}")
    if found.st_size > MAX_BYTES:
        raise UserError(f"{path}: {found.st_size / 2**20:,.0f} MiB; expected at most {MAX_BYTES // 2**20}")


def _unreadable(path: Path, error: Exception) -> NoReturn:
    said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
    raise UserError(f"{path}: cannot be read: {said}") from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        _unreadable(path, error)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}:1: UTF-16 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise UserError(f"{path}:{line}: not UTF-8 text (byte 0x{byte:02x}); save it as UTF-8") from None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Place and content of every line that is not blank."""
    # Not splitlines, which would break a line at characters that a prompt may have.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def _txt(path: Path) -> Iterator[Row]:
    for place, line in _lines(path):
        yield Row(place, {PROMPT: line})


def _jsonl(path: Path) -> Iterator[Row]:
    for place, line in _lines(path):
        try:
            found = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not JSON ({error}); {EXPECTED}") from None
        if not isinstance(found, dict):
            raise UserError(f"{place}: expected a JSON object, got {said(found)}")
        yield Row(place, found)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _csv(path: Path, delimiter: str = ",") -> Iterator[Row]:
    # Lines are kept as they end, for a quoted field may hold them.
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        place = f"{path}:{reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{place}: not CSV ({error}); quote a field that has quotes or line ends in it") from None
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = [field.strip() for field in fields]
            twice = [name for name in header if name and header.count(name) > 1]
            if twice:
                raise UserError(f"{place}: two columns are named {twice[0]!r}")
            continue
        if len(fields) != len(header):
            raise UserError(
                f"{place}: {len(fields)} fields, and the header has {len(header)}; quote a prompt that has "
                f"{'tabs' if delimiter != ',' else 'commas'} in it"
            )
        cells = {name: field.strip() or None for name, field in zip(header, fields, strict=True) if name}
        yield Row(place, cells, typed=False)


def _tsv(path: Path) -> Iterator[Row]:
    return _csv(path, "\t")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(f"{path}: Parquet needs pyarrow; pip install pyarrow") from None
    try:
        with pq.ParquetFile(path) as file:
            size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
            if size > 4 * MAX_BYTES:
                raise UserError(f"{path}: {size / 2**20:,.0f} MiB unpacked; expected at most {4 * MAX_BYTES // 2**20}")
            # Images and sounds, as data sets have them beside their prompts, are not unpacked at all.
            flat = [f.name for f in file.schema_arrow if not _binary(f.type, pa)]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=flat):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}: row {number}", _present(cells))
    except (pa.ArrowException, OSError, ValueError) as error:
        _unreadable(path, error)


def _binary(type_: Any, pa: Any) -> bool:
    """Whether a column holds bytes, alone or within a record."""
    if pa.types.is_struct(type_):
        return any(_binary(type_.field(i).type, pa) for i in range(type_.num_fields))
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_))


def _present(value: Any) -> Any:
    """Without the keys that hold nothing: Parquet's records have every key, where JSON leaves one out."""
    if isinstance(value, dict):
        return {key: _present(inner) for key, inner in value.items() if inner is not None}
    return [_present(inner) for inner in value] if isinstance(value, list) else value


def said(value: Any) -> str:
    """A value as an error shows it, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".txt": _txt,
    ".parquet": _parquet,
}
"""By a file's ending."""
