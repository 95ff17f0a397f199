"""The bytes of a safetensors file, read with plain Python: what it says of itself without loading a tensor."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any


def is_safetensors(data: bytes) -> bool:
    """By content: eight bytes of length, then a JSON object; a zip or a pickle starts otherwise."""
    return data[8:9] == b"{" and data[:2] != b"PK"


@dataclass(frozen=True)
class Header:
    """A safetensors file taken apart with plain Python: its metadata, its entries, and the bytes they point to."""

    metadata: dict[str, str]
    entries: dict[str, dict[str, Any]]
    body: memoryview

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Raises ValueError, KeyError or TypeError where the bytes are not a whole safetensors file."""
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 + size:
            raise ValueError(f"its header claims {size} bytes of a file of {len(data)}")
        header = json.loads(data[8 : 8 + size])
        metadata = dict(header.pop("__metadata__", {}))
        body = memoryview(data)[8 + size :]
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        if end != len(body):
            raise ValueError(f"its tensors take {end} bytes and {len(body)} are there")
        return cls(metadata, header, body)

    def digest(self) -> str:
        """sha256 over the sorted tensors' names, dtypes, shapes and little-endian bytes."""
        h = hashlib.sha256()
        for name in sorted(self.entries):
            entry = self.entries[name]
            h.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode() + b"\0")
            start, end = entry["data_offsets"]
            h.update(self.body[start:end])
        return h.hexdigest()
