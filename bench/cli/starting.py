"""The command that writes a start for something of one's own: `init`."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.program import Add, say

KINDS = ("method", "suite", "plugin")


def add_to(add: Add) -> None:
    """Add this file's command to the program."""
    init = add("init", cmd_init, "write a working start: a noise method, a suite, or a package of plugins, with a test")
    init.add_argument("kind", choices=KINDS)
    init.add_argument("name", metavar="NAME", help="small letters, digits and _, such as my_method")
    init.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="where it is written; default: here")


def cmd_init(options: argparse.Namespace) -> int:
    from bench import scaffold

    for path in scaffold.write(options.kind, options.name, options.to):
        print(f"wrote {path}")
    print("next:" if options.to == Path() else f"next, in {options.to}:")
    say(f"  {line}" for line in scaffold.following(options.kind, options.name))
    return 0
