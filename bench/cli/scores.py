"""Commands that take images and scores in and hand them out: `score`, `export` and `import`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.cli.make import tell_failed, tell_unscored
from bench.cli.program import Add, positive, say, seconds
from bench.cli.show import check_writable
from bench.cli.spreading import executor_options, wanted
from bench.errors import NotComparable, UserError
from bench.remote.address import place

LAYOUTS = ("tables", "geneval", "compbench")


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    score = add("score", cmd_score, "score a folder of images, or judge a run's by more metrics or people's votes")
    score.add_argument(
        "folder", type=place("images"), help="a folder of images, with --prompts, or a run folder or its address"
    )
    score.add_argument(
        "--metric", action="append", default=[], metavar="METRIC[=FOLDER]",
        help="a metric as `ls metrics` names it, on a checkpoint of your own if a folder is given; repeatable; "
        "of a run by default its suite's",
    )  # fmt: skip
    score.add_argument(
        "--prompts", metavar="FILE[:COLUMN]",
        help="what the images are of: CSV, JSONL, TXT or Parquet, or a prompt set; with a column `path` it is a table "
        "of images, prompts, methods and seeds",
    )  # fmt: skip
    score.add_argument("--match", choices=["order", "name"], default="order", help="images to prompts (default: order)")
    score.add_argument(
        "--images-per-prompt", type=positive, default=1, metavar="N", help="in order: as many of each prompt in a row"
    )
    score.add_argument(
        "--against", metavar="FOLDER|METHOD", help="the baseline's images, or the label of a table's method"
    )
    score.add_argument(
        "--reference", metavar="FOLDER", help="what metrics such as fid compare with: images, or an .npz"
    )
    score.add_argument("--out", type=Path, help="where scores.csv and the report go (default: runs/NAME-DIGEST)")
    score.add_argument(
        "--votes", action="append", default=[], type=Path, help="a file that report.html's blind mode exported"
    )
    score.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    executor_options(score)
    score.add_argument(
        "--score-seconds", type=seconds, metavar="S", help="of a run: fail a score that takes longer than this an image"
    )

    export = add("export", cmd_export, "write a run's ledger as Parquet and CSV, or its images for original scorers")
    export.add_argument("run", type=place("images"), help="a run folder, or its address")
    export.add_argument("--layout", choices=LAYOUTS, default="tables",
                        help="geneval, compbench: images in the folders that those scorers read")  # fmt: skip
    export.add_argument("--out", type=Path, help="default: RUN/export, RUN/geneval or RUN/compbench")
    export.add_argument(
        "--to", metavar="NAME[:PLACE]", help="send the results: hub:owner/name, mlflow:URI, wandb:PROJECT"
    )
    export.add_argument("--dry-run", action="store_true", help="with --to: say what would be sent, and send nothing")

    take = add("import", cmd_import, "take the scores of an original scorer into a run")
    take.add_argument("run", type=place("images"), help="a run folder, or its address")
    take.add_argument("file", type=Path, metavar="FILE", help="GenEval's results.jsonl, or a vqa_result.json")
    take.add_argument(
        "--of", type=Path, metavar="FOLDER", help="the exported folder that was scored, if FILE lies not in it"
    )
    take.add_argument("--metric", help="what FILE holds, if its folder does not say so")


def cmd_score(options: argparse.Namespace) -> int:
    if options.prompts is not None:
        return _score_images(options)
    for name, default in (
        ("match", "order"),
        ("images_per_prompt", 1),
        ("against", None),
        ("reference", None),
        ("out", None),
    ):
        if getattr(options, name) != default:
            raise UserError(
                f"--{name.replace('_', '-')}: is for a folder of images; give its prompts as --prompts FILE"
            )
    if not (options.folder / "ledger.sqlite").is_file():
        raise UserError(
            f"{options.folder}: no run there; to score a folder of images give their prompts as --prompts FILE"
        )
    return _score_run(options)


def _score_run(options: argparse.Namespace) -> int:
    from bench.intake.score_table import write_scores
    from bench.job.stages import add_scores
    from bench.remote.mirror import mirrored
    from bench.report import sentences
    from bench.store import Ledger

    done = add_scores(
        options.folder,
        options.metric,
        votes=options.votes,
        device=options.device,
        score_seconds=options.score_seconds,
        spread=wanted(options),
    )
    ledger = Ledger(options.folder)
    if ledger.get("given"):
        with mirrored(options.folder):
            write_scores(ledger, done.results)
    ledger.close()
    say(sentences(done.results))
    print(f"report: {options.folder / 'report.html'}")
    tell_unscored(done)
    return NotComparable.exit_code if done.unscored or done.unvalued else 0


def _score_images(options: argparse.Namespace) -> int:
    from bench.intake.foreign import Asked, score_folder
    from bench.report import sentences

    if not options.metric:
        raise UserError("--metric: expected at least one metric, as `ls metrics` names them")
    if options.votes:
        raise UserError("--votes: are of a run's images; give them with the folder that this command writes")
    asked = Asked(
        folder=options.folder,
        prompts=options.prompts,
        metrics=options.metric,
        against=options.against,
        match=options.match,
        per_prompt=options.images_per_prompt,
        reference=options.reference,
    )
    done = score_folder(asked, out=options.out, runs=Path("runs"), device=options.device)
    say(sentences(done.results))
    print(f"scores: {done.folder / 'scores.csv'}")
    print(f"report: {done.folder / 'report.html'}")
    tell_failed(done.failed)
    tell_unscored(done)
    return NotComparable.exit_code if done.failed or done.unscored or done.unvalued or done.apart else 0


def cmd_export(options: argparse.Namespace) -> int:
    from bench.remote.mirror import mirrored

    with mirrored(options.run):
        return _export(options)


def _export(options: argparse.Namespace) -> int:
    from bench.store import Ledger, export

    if options.to is not None:
        return _send(options)
    if options.dry_run:
        raise UserError("--dry-run is of --to, such as `export RUN --to hub:owner/results --dry-run`")
    ledger = Ledger(options.run)
    if options.layout == "tables":
        out = options.out or options.run / "export"
        check_writable(out)
        for path in [*export(ledger, out), *_compared(options.run, out)]:
            print(path)
        return 0
    from bench.intake import layouts

    out = options.out or options.run / options.layout
    check_writable(out)
    written = layouts.export(ledger, out, options.layout)
    for note in written.notes:
        print(f"note: {note}", file=sys.stderr)
    for tree, images in written.trees.items():
        print(f"{tree}: {images} images")
    return 0


def _compared(run: Path, out: Path) -> list[Path]:
    """The comparisons and costs of a run that has results."""
    from bench.exporters import tables
    from bench.records import read

    if not (run / "results.json").is_file():
        print("note: no results.json there yet, so no comparisons; `bench report RUN` writes it", file=sys.stderr)
        return []
    return tables.write(read(run), run.absolute().name, out)


def _send(options: argparse.Namespace) -> int:
    from bench.exporters import send

    if options.out is not None or options.layout != "tables":
        raise UserError("--to sends results elsewhere and takes no --out and no --layout")
    lines = send(options.run, options.to, dry_run=options.dry_run)
    say([f"{'would send' if options.dry_run else 'sent'} to {options.to}:", *(f"  {line}" for line in lines)])
    return 0


def cmd_import(options: argparse.Namespace) -> int:
    from bench.intake import original_results
    from bench.remote.mirror import mirrored
    from bench.report import sentences

    with mirrored(options.run):
        taken, found = original_results.take(options.run, options.file, of=options.of, metric=options.metric)
    print(f"{taken.metric}: {taken.scores} scores of {taken.method} on {taken.prompts}")
    if taken.lacking:
        print(f"note: {taken.lacking} images that were exported have no score in {options.file}", file=sys.stderr)
    say(sentences(found))
    print(f"report: {options.run / 'report.html'}")
    return 0
