"""The options that say who works: this process, worker processes, or actors of Ray."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.runner.executors import Wanted


def executor_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a command that makes images, pairs or scores."""
    parser.add_argument(
        "--executor", metavar="NAME",
        help="local: processes on this machine (the default); ray: actors of Ray, here or on a cluster",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=_workers, metavar="N|auto",
        help="processes that work; 0 and 1: this one alone; auto: one for each GPU, or on a CPU one for each core "
        "where the work is worth their start (default: auto on a CPU, none on a GPU)",
    )  # fmt: skip
    parser.add_argument("--gpus-per-worker", type=_share, metavar="X", help="GPUs of a worker; 0.5 puts two on one")
    parser.add_argument(
        "--ray-address", metavar="A",
        help="the Ray cluster (default: RAY_ADDRESS, else one on this machine that ends with the command)",
    )  # fmt: skip


def _workers(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text.isascii() and text.isdecimal() and len(text) < 5:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 0, or auto, got {text!r}")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 64:
        raise argparse.ArgumentTypeError(f"expected a number of GPUs above 0, got {text!r}")
    return value


def wanted(options: argparse.Namespace) -> Wanted:
    """What those options ask for."""
    from bench.runner.executors import Wanted

    return Wanted(options.executor, options.workers, options.gpus_per_worker, options.ray_address)
