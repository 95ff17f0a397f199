"""The command `convert`: published checkpoints that are not tensors alone, as files that scorers read."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.program import Add


def add_to(add: Add) -> None:
    """Add this file's command to the program."""
    convert = add("convert", cmd_convert, "write a published pickled checkpoint as tensors; nothing in it is executed")
    convert.add_argument("metric", choices=["mps"], help="whose checkpoint it is")
    convert.add_argument("source", type=Path, metavar="FILE", help="such as MPS_overall_checkpoint.pth")
    convert.add_argument(
        "target", type=Path, nargs="?", metavar="OUT", help="a folder or a .pth file (default: where scorers look)"
    )


def cmd_convert(options: argparse.Namespace) -> int:
    from bench.metrics.conversion import convert_mps

    print(f"wrote {convert_mps(options.source, options.target)}")
    return 0
