"""The command `env`: environments of their own for packages that clash with ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.program import Add


def add_to(add: Add) -> None:
    """Add this file's command to the program."""
    env = add("env", cmd_env, "make or list environments of their own for original packages of metrics")
    env.add_argument("action", choices=["make", "ls"])
    env.add_argument("names", nargs="*", metavar="NAME", help="such as hpsv2 or image-reward")
    env.add_argument(
        "--dir", type=Path, help="where they lie (default: BENCH_ENVIRONMENTS, else ~/.cache/noisebench/environments)"
    )
    env.add_argument("--python", metavar="PATH", help="the Python that they are made with (default: this one)")


def cmd_env(options: argparse.Namespace) -> int:
    from bench import environments
    from bench.errors import UserError
    from bench.progress import Progress

    if options.action == "ls":
        for line in environments.listed(options.dir):
            print(line)
        return 0
    if not options.names:
        raise UserError(f"env make: expected the name of an environment; known: {', '.join(environments.names())}")
    for name in dict.fromkeys(options.names):
        environments.find(name, options.dir)  # an unknown one is told before the first is made
    for name in dict.fromkeys(options.names):
        with Progress(f"env {name}", len(environments.requirements(name)), unit="packages") as progress:
            made = environments.make(name, options.dir, python=options.python, advance=progress.advance)
        print(f"environment {name}: {made.folder}")
    return 0
