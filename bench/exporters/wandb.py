"""`--to wandb[:PROJECT]`: one Weights & Biases run for each method and setting, with its numbers in the summary.

Without a project it is `noisebench`. Runs of one bench run are a group. WANDB_MODE=offline writes into ./wandb, and
`wandb sync` sends that later.
"""

from __future__ import annotations

from bench.errors import UserError, first_line
from bench.exporters import Given, arms, installed, numbers, parameters


def send(given: Given, place: str, dry_run: bool) -> list[str]:
    """Send a run's arms; UserError where the package is not installed, or its server refuses."""
    rows = arms(given.results)
    lines = [f"{arm.method}: {len(numbers(given, arm))} numbers" for arm in rows]
    if dry_run:
        return lines
    wandb = installed("wandb", "wandb")
    try:
        for number, arm in enumerate(rows):
            run = wandb.init(
                project=place or "noisebench",
                group=given.name,
                name=f"{arm.method} ({given.name})",
                # The same arm of the same record is the same run, however often it is sent.
                id=f"{given.digest[:24]}-{number}",
                resume="allow",
                config=parameters(given, arm),
                settings=wandb.Settings(silent=True, console="off", disable_git=True),
            )
            run.summary.update(numbers(given, arm))
            run.finish()
    except (wandb.Error, OSError) as error:
        raise UserError(f"--to wandb:{place}: not sent ({first_line(error)})") from error
    return lines
