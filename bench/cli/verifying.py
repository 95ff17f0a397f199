"""The command that checks what is kept: `verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.program import Add, say


def add_to(add: Add) -> None:
    """Add this file's command to the program."""
    verify = add("verify", cmd_verify, "check a run folder or the image cache: every image, every row of the ledger")
    verify.add_argument("folder", type=Path, nargs="?", metavar="RUN|CACHE", help="default: the image cache")
    verify.add_argument(
        "--drop", action="store_true",
        help="also remove what is broken; running the suite again makes it again",
    )  # fmt: skip


def cmd_verify(options: argparse.Namespace) -> int:
    from bench.errors import UserError
    from bench.store import verify
    from bench.store.cache import ImageCache, default_folder

    folder = options.folder or default_folder()
    if (folder / "ledger.sqlite").is_file():
        found = verify.run(folder, drop=options.drop)
        how = f"python -m bench verify {folder} --drop"
    elif (folder / "images").is_dir() or options.folder is None:
        found = verify.cache(ImageCache(folder), drop=options.drop)
        how = f"python -m bench verify {folder} --drop"
    else:
        raise UserError(f"{folder}: neither a run folder (no ledger.sqlite) nor an image cache (no images/)")
    broken = 0
    for one in found:
        broken += one.broken
        say([one.line])
    if not broken:
        print(f"{folder}: whole")
        return 0
    print(f"{folder}: {broken} findings; " + ("removed what could be" if options.drop else f"`{how}` removes them"))
    return 0 if options.drop else UserError.exit_code
