"""The command `env`: environments of their own for packages that clash with ours."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
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

    if options.action == "ls":
        for line in environments.listed(options.dir):
            print(line)
        return 0
    if not options.names:
        raise UserError(f"env make: expected the name of an environment; known: {', '.join(environments.names())}")
    for name in dict.fromkeys(options.names):
        environments.find(name, options.dir)  # an unknown one is refused before the first is made
    for name in dict.fromkeys(options.names):
        with Stages(name, len(environments.requirements(name))) as stages:
            made = environments.make(name, options.dir, python=options.python, advance=stages.advance)
        print(f"environment {name}: {made.folder}")
    return 0


class Stages:
    """Progress of a make: packages found, and then, which takes as long, installed."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total = name, total
        self.stage = ""
        self.open = ExitStack()

    def __enter__(self) -> Stages:
        return self

    def advance(self, stage: str, n: int) -> None:
        from bench.progress import Progress

        if stage != self.stage:
            self.open.close()  # a terminal shows one bar at a time
            self.stage = stage
            self.progress = self.open.enter_context(Progress(f"env {self.name}", self.total, unit=f"packages {stage}"))
        self.progress.advance(n)

    def __exit__(self, *_: object) -> None:
        self.open.close()
