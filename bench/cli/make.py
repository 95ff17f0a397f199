"""The command that makes things: `run`; and the options of every command that takes a suite."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.backoff import AUTO, BatchSize
from bench.cli.judge import check_options, check_read, forms_of_faults, gate_options, tell, unjudged, verdicts_of
from bench.cli.merging import shard
from bench.cli.program import Add, positive, say, seconds
from bench.cli.spreading import executor_options, wanted
from bench.errors import NotComparable, UserError
from bench.remote.address import place

if TYPE_CHECKING:
    from bench.gate import Judgement
    from bench.job.stages import Outcome
    from bench.suite import Suite


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    run = add("run", cmd_run, "make the images of a suite, score them, and write a report; resumes where it stopped")
    suite_options(run)
    run.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    run.add_argument("--batch-size", type=batch_size, metavar="N|auto",
                     help="images a batch, which decides low bits of pixels; auto: on a GPU as many as fit and make an "
                     "image take less time")  # fmt: skip
    run.add_argument("--threads", type=positive, help="CPU threads for torch")
    executor_options(run)
    run.add_argument("--no-cache", action="store_true", help="neither take images from the shared cache nor keep them")
    run.add_argument(
        "--generate-only", action="store_true",
        help="make the images and stop; `score RUN`, or the same command without this, scores them",
    )  # fmt: skip
    run.add_argument(
        "--job-seconds", type=seconds, metavar="S",
        help="fail an image whose method takes longer than this, on average over its batch (default: no limit)",
    )  # fmt: skip
    run.add_argument(
        "--score-seconds", type=seconds, metavar="S", help="fail a score that takes longer (default: no limit)"
    )
    run.add_argument(
        "--memory", action="store_true",
        help="on a CPU, also measure each method's peak memory: one batch of every arm in a process of its own",
    )  # fmt: skip
    run.add_argument(
        "--shard", type=shard, metavar="I/N",
        help="make only part I of N of the run, in a folder of its own; `merge` joins the parts",
    )  # fmt: skip
    other = run.add_mutually_exclusive_group()
    other.add_argument(
        "--regenerate", action="store_true",
        help="make images of this run that other code made again (with --gate or --baseline the default)",
    )  # fmt: skip
    other.add_argument(
        "--keep-images",
        action="store_true",
        help="keep images that other code or another commit made; the report says so",
    )
    run.add_argument("--gate", action="store_true", help="check the suite's gates at the end; exit 1 if one fails")
    run.add_argument("--baseline", type=Path, help="also check against a file written by `baseline freeze`")
    gate_options(run)


def suite_options(
    parser: argparse.ArgumentParser, *, suite: str = "a suite file, such as suites/sdxl_main.yaml", many: bool = False
) -> None:
    """The options of every command that takes a suite, or any number of them."""
    parser.add_argument("suite", type=Path, help=suite, nargs="*" if many else None)
    parser.add_argument("--twin", action="store_true", help="run on the embedded world: no GPU, no hub, no account")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the suite")
    parser.add_argument("--limit", type=positive, help="take only the first N prompts of each set")
    parser.add_argument("--method", action="append", default=[], help="keep only these methods (and the baseline)")
    parser.add_argument("--metric", action="append", default=[], metavar="METRIC[=FOLDER]",
                        help="keep only these metrics; a folder holds the scorer's files")  # fmt: skip
    parser.add_argument("--compile", action="store_true",
                        help="torch.compile of every denoiser: slow at first, faster then; new ids")  # fmt: skip
    parser.add_argument(
        "--runs", type=place("runs"), default=Path("runs"),
        help="where run folders go, a folder or an address such as s3://bucket/runs (default: runs)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=place("cache"),
        help="image cache shared by runs, a folder or an address (default: BENCH_CACHE or ~/.cache/bench)",
    )  # fmt: skip


def batch_size(text: str) -> BatchSize:
    """An argument's batch size."""
    return AUTO if text == AUTO else positive(text)


def load_suite(options: argparse.Namespace) -> Suite:
    """The suite that those options name."""
    from bench import suite

    found = suite.load(
        options.suite,
        overrides=options.set,
        limit=options.limit,
        twin=options.twin,
        methods=options.method,
        metrics=options.metric,
    )
    return suite.compiled(found) if options.compile else found


def suite_words(options: argparse.Namespace) -> str:
    """The suite and the options that choose what it needs, as another command is to be given them."""
    words = [str(options.suite), *(["--twin"] if options.twin else []), *(["--compile"] if options.compile else [])]
    for name in ("plugin", "set", "method", "metric"):
        words += [word for value in getattr(options, name) for word in (f"--{name}", value)]
    return shlex.join(words)


def cache_folder(options: argparse.Namespace) -> Path:
    """Where images that runs share lie."""
    from bench.store.cache import default_folder

    return options.cache or default_folder()


def cmd_run(options: argparse.Namespace) -> int:
    if options.generate_only and (options.gate or options.baseline):
        raise UserError(
            "--generate-only: nothing is scored, so --gate and --baseline have nothing to judge; leave them out"
        )
    if options.shard and (options.gate or options.baseline):
        raise UserError(
            "--shard: a part of a run cannot be judged, so leave out --gate and --baseline; gate what `merge` joins"
        )
    if not (options.gate or options.baseline):
        check_options(options)
        return _tell_run(_run(options, load_suite(options)), options)
    with forms_of_faults(options):
        check_options(options)
        suite = load_suite(options)
        check_read(options, suite)
        done = _run(options, suite)
        _tell_run(done, options)
        judged = _judged(done, suite, options)
    return tell(judged, done.results, options)


def _run(options: argparse.Namespace, suite: Suite) -> Outcome:
    from bench.job.stages import run

    for note in suite.notes:
        print(f"note: {note}", file=sys.stderr)
    return run(
        suite,
        runs=options.runs,
        cache=None if options.no_cache else cache_folder(options),
        device=options.device,
        batch_size=options.batch_size,
        threads=options.threads,
        generate_only=options.generate_only,
        named=suite_words(options),
        gate=options.gate or options.baseline is not None,
        other_code="regenerate" if options.regenerate else "keep" if options.keep_images else None,
        memory=options.memory,
        job_seconds=options.job_seconds,
        score_seconds=options.score_seconds,
        shard=options.shard,
        spread=wanted(options),
    )


def _tell_run(done: Outcome, options: argparse.Namespace) -> int:
    """What the run says on the terminal; returns its exit code where nothing is judged."""
    if options.generate_only:
        return _tell_generated(done)
    from bench.report import headline, sentences

    if not done.worked:
        print("finished before; nothing to do", file=sys.stderr)
    say([headline(done.results), *sentences(done.results)])
    for control in done.results.controls:
        if control.ok is False:
            say([f"control: {control.sentence}"])
    print(f"report: {done.folder / 'report.html'}")
    tell_failed(done.failed)
    tell_unscored(done)
    tell_unmeasured(done.unmeasured)
    return NotComparable.exit_code if done.failed or done.unscored or done.unvalued or done.unmeasured else 0


def _judged(done: Outcome, suite: Suite, options: argparse.Namespace) -> Judgement:
    try:
        judged = verdicts_of(
            done.results,
            suite,
            suite_gates=options.gate,
            baseline=options.baseline,
            run=done.folder,
            options=options,
        )
    except NotComparable as error:
        keep(unjudged(error, options), done)
        raise
    if done.reuse:
        judged.notes.insert(0, f"judged: {done.reuse.line()}")
    keep(judged, done)
    return judged


def keep(judged: Judgement, done: Outcome) -> None:
    """Leave the verdicts in the run's folder, and show them in its report.html."""
    from bench import gate, report
    from bench.remote.mirror import mirrored
    from bench.store.files import writable

    if not writable(done.folder):
        print(f"note: {done.folder} cannot be written to, so the verdicts are not kept there", file=sys.stderr)
        return
    with mirrored(done.folder):
        gate.keep(judged, done.results, done.folder)
        report.write(done.results, done.folder, formats=["html"])


def _tell_generated(done: Outcome) -> int:
    images = done.folder / "images"
    print(f"images: {images}{'' if done.worked else ' (all made before)'}")
    print(f"to score them, here or where the folder is taken to: python -m bench score {done.folder}")
    tell_failed(done.failed)
    tell_unmeasured(done.unmeasured)
    return NotComparable.exit_code if done.failed or done.unmeasured else 0


def tell_failed(failed: dict[str, list[str]]) -> None:
    """Say how many images of each method are not there, and why the first is not."""
    for method, reasons in failed.items():
        print(f"failed: {len(reasons)} images of {method}; the first: {reasons[0]}", file=sys.stderr)


def tell_unscored(done: Outcome) -> None:
    """Say how many scores of each metric failed, and values of each set metric, and why the first did."""
    for metric, reasons in done.unscored.items():
        print(f"failed: {len(reasons)} scores of {metric}; the first: {reasons[0]}", file=sys.stderr)
    for metric, reasons in done.unvalued.items():
        print(f"failed: {len(reasons)} values of {metric}; the first: {reasons[0]}", file=sys.stderr)


def tell_unmeasured(unmeasured: dict[str, str]) -> None:
    """Say of which methods the memory could not be measured, and why."""
    for method, reason in unmeasured.items():
        print(f"failed: the memory of {method} was not measured: {reason}", file=sys.stderr)
