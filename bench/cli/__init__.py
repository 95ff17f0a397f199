"""The command line: one small function a command, no logic of its own. Imports happen inside the commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.cli import convert, env, freezing, judge, make, merging, prepare, scores, sharing, show, starting, verifying
from bench.cli.program import Parser, commands, guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code that ARCHITECTURE.md names."""
    options = _parser().parse_args(arguments)
    return guarded(options.command, options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bench", description="Does this noise method really help, by how much, at what cost?"
    )
    add = commands(parser)
    for group in (prepare, starting, make, scores, show, sharing, judge, freezing, merging, env, convert, verifying):
        group.add_to(add)
    return parser
