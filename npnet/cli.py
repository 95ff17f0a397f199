"""The command line of `npnet`: one small function a command, no logic of its own. Imports happen inside them."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cli.program import Parser, commands, guarded, positive
from bench.cli.spreading import executor_options, wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code that ARCHITECTURE.md names."""
    options = _parser().parse_args(arguments)
    return guarded(options.command, options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m npnet", description="Collect noise pairs, select among them, train an NPNet.")
    add = commands(parser)

    collect = add("collect", cmd_collect, "make noise pairs and score both images; resumes where it stopped")
    collect.add_argument("config", type=Path, help="a YAML file, such as npnet/configs/shapes.yaml")
    collect.add_argument("--out", type=Path, help="the collection's folder (default: runs/pairs-NAME)")
    collect.add_argument("--twin", action="store_true", help="collect on the embedded world")
    _settings(collect)
    collect.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="make the I-th of N shards")
    collect.add_argument("--batch-size", type=positive, help="pairs a batch")
    collect.add_argument("--threads", type=positive, help="CPU threads for torch")
    executor_options(collect)
    _device(collect)

    merge = add("merge", cmd_merge, "put the shards of one collection into one folder")
    merge.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    merge.add_argument("--out", type=Path, required=True)

    score = add("score", cmd_score, "add scores of a further metric from a collection's kept images")
    score.add_argument("folder", type=Path, metavar="DIR")
    score.add_argument("--metric", action="append", required=True, help="may be given several times")
    _device(score)

    select = add("select", cmd_select, "print filter rates by metric and threshold; with --out, write a selection")
    select.add_argument("folder", type=Path, metavar="DIR")
    select.add_argument("--metric", action="append", default=[], help="may be given several times (default: all)")
    select.add_argument("--threshold", action="append", type=_number, default=[], metavar="M", help="keep s0 + M < s0'")
    select.add_argument("--mode", choices=["all", "any"], default="all", help="what of several metrics must agree")
    select.add_argument("--out", type=Path, help="the selection's file")

    teachers = add("teachers", cmd_teachers, "print what each collection's teacher gains, at the same cost")
    teachers.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    teachers.add_argument("--calls", type=_above_zero, help="denoiser calls that each may spend (default: the least)")
    teachers.add_argument("--metric", action="append", default=[], help="may be given several times (default: all)")
    teachers.add_argument(
        "--middling",
        type=_middling,
        metavar="METRIC:LOW:HIGH",
        help="only captions whose other pairs' source images score LOW to HIGH, mean, by METRIC",
    )

    vectors = add("singular-vectors", cmd_singular_vectors, "print how similar source and target singular vectors are")
    vectors.add_argument("folder", type=Path, metavar="DIR")
    vectors.add_argument("--limit", type=positive, metavar="N", help="the first N pairs alone")
    vectors.add_argument("--out", type=Path, metavar="FILE", help="all places, as .csv, or drawn as .svg, .png or .pdf")

    train = add("train", cmd_train, "train an NPNet on noise pairs, or fine-tune one; resumes where it stopped")
    train.add_argument("config", type=Path, help="a YAML file")
    train.add_argument("--out", type=Path, required=True, help="where checkpoints, curves and the log go")
    train.add_argument("--from", dest="start", type=Path, metavar="CHECKPOINT", help="fine-tune this one")
    _settings(train)
    train.add_argument("--threads", type=positive, help="CPU threads for torch")
    _device(train)

    trainings = add(
        "trainings", cmd_trainings, "print what several networks of one recipe gain in a run, as one method"
    )
    trainings.add_argument("run", type=Path, metavar="RUN", help="a run folder whose methods are the networks")
    trainings.add_argument("--network", action="append", required=True, metavar="METHOD", help="two or more")
    trainings.add_argument("--against", action="append", default=[], metavar="METHOD", help="beside the baseline")
    trainings.add_argument("--out", type=Path, metavar="FILE.csv", help="the same table as CSV")

    convert = add("convert", cmd_convert, "write a published or own checkpoint as safetensors, checked by reading it")
    convert.add_argument("source", type=Path, help="a .pth or .safetensors file, or a folder with one")
    convert.add_argument("target", type=Path, help="a .safetensors file, or a folder")
    convert.add_argument(
        "--attention",
        action=argparse.BooleanOptionalAction,
        help="whether the singular-value branch has attention, where the source's own was never trained",
    )
    return parser


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the file")


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, such as 3/16, got {text!r}")
    return int(found[1]), int(found[2])


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return found


def _above_zero(text: str) -> float:
    found = _number(text)
    if found <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above zero, got {text!r}")
    return found


def _middling(text: str) -> tuple[str, float, float]:
    metric, *limits = text.split(":")
    if len(limits) != 2:
        raise argparse.ArgumentTypeError(f"expected METRIC:LOW:HIGH, such as geneval:0.25:0.75, got {text!r}")
    return metric, _number(limits[0]), _number(limits[1])


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def cmd_collect(options: argparse.Namespace) -> int:
    from npnet import config
    from npnet.pairs import collect, collection

    settings = config.load(options.config, collection.CollectConfig, overrides=options.set)
    if options.twin:
        overridden = {setting.partition("=")[0].split(".")[0].strip() for setting in options.set}
        settings, notes = collection.twin(settings, overridden=overridden)
        for note in notes:
            _note(f"note: {note}")
    out = options.out or Path("runs") / f"pairs-{options.config.stem}{'-twin' if options.twin else ''}"
    collect.run(
        settings,
        out=out,
        shard=options.shard,
        device=options.device,
        batch_size=options.batch_size,
        threads=options.threads,
        say=_note,
        spread=wanted(options),
    )
    print(out)
    return 0


def cmd_merge(options: argparse.Namespace) -> int:
    from npnet.pairs import dataset

    count = dataset.merge(options.folders, options.out)
    print(f"{options.out}: {count} of {dataset.read_manifest(options.out).chunks} shards")
    return 0


def cmd_score(options: argparse.Namespace) -> int:
    from npnet.pairs.rescore import score

    print(f"{score(options.folder, metrics=options.metric, device=options.device)} scores added")
    return 0


def cmd_select(options: argparse.Namespace) -> int:
    from npnet.pairs import select

    select.run(options.folder, metrics=options.metric, thresholds=options.threshold, mode=options.mode, out=options.out)
    return 0


def cmd_teachers(options: argparse.Namespace) -> int:
    from npnet.pairs import gains

    middling = gains.Middling(*options.middling) if options.middling else None
    gains.run(options.folders, calls=options.calls, metrics=options.metric, middling=middling)
    return 0


def cmd_singular_vectors(options: argparse.Namespace) -> int:
    from npnet.pairs import singular

    singular.run(options.folder, most=options.limit, out=options.out)
    return 0


def cmd_train(options: argparse.Namespace) -> int:
    from npnet import config
    from npnet.training import train
    from npnet.training.settings import TrainConfig

    settings = config.load(options.config, TrainConfig, overrides=options.set)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    train.run(settings, out=options.out, start=options.start, device=options.device, say=_note)
    return 0


def cmd_trainings(options: argparse.Namespace) -> int:
    from npnet import trainings

    trainings.run(options.run, options.network, options.against, out=options.out)
    return 0


def cmd_convert(options: argparse.Namespace) -> int:
    from npnet.network.convert import convert

    print(convert(options.source, options.target, attention=options.attention))
    return 0
