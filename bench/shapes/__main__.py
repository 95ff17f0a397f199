"""`python -m bench.shapes train NAME`: train the embedded networks again, from their seeds.

Names, in the order in which they build on one another: vae, clip, unet, places, preference, aesthetic, dpo, turbo,
lcm, sd, controlnet; `all` is every one. `places` and what follows it continue from the shipped weights where there is
no checkpoint.
`captions` writes the shipped prompt sets again, and with `--fresh SEED --out FILE` captions that none of them has.

Checkpoints lie in `--work` (default `.training`); finished weights go into `--out` (default: the package).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.shapes.package import load_pipeline, read_card
from bench.shapes.plugin import WEIGHTS

STEPS = {
    "vae": 6000,
    "clip": 2800,
    "unet": 14_000,
    "places": 5000,
    "preference": 23_000,
    "aesthetic": 6000,
    "dpo": 800,
    "turbo": 500,
    "lcm": 300,
    "sd": 6000,
    "controlnet": 1500,
}
NAMES = tuple(STEPS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.shapes", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["train", "evaluate", "captions"])
    parser.add_argument("name", choices=[*NAMES, "all"], nargs="?", default="all")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="checkpoints and data sets")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where finished weights go")
    parser.add_argument("--steps", type=int, help="training steps, for a trial")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--fresh", type=int, metavar="SEED", help="captions that no set has, into --out FILE")
    parser.add_argument("--sets", type=int, default=4, help="with --fresh: how many hundred")
    parser.add_argument("--without", type=Path, action="append", default=[], help="with --fresh: used captions")
    options = parser.parse_args()
    if options.action == "captions":
        return write_captions(options)
    import torch

    torch.set_num_threads(options.threads)
    if options.action == "evaluate":
        print(json.dumps(evaluate(options.out), indent=1))
        return 0
    for name in NAMES if options.name == "all" else (options.name,):
        World(options.work, options.out).train(name, options.steps)
    return 0


def write_captions(options: argparse.Namespace) -> int:
    """The shipped prompt sets again, or with `--fresh` a file of captions that none of them has."""
    from bench.shapes import control, fresh, prompt_sets

    if options.fresh is None:
        prompt_sets.write()
        control.write_prompts()
        return 0
    try:
        written = fresh.write(options.out, options.fresh, options.sets, without=options.without)
    except (UserError, OSError) as error:
        say(f"error: {error}")
        return 2
    say(f"{options.out}: {written} captions")
    return 0


def say(line: str) -> None:
    print(line, flush=True)


class World:
    """The networks trained so far, each loaded from its checkpoint when another one needs it."""

    def __init__(self, work: Path, out: Path):
        self.work, self.out = work, out

    def trained(self, name: str, steps: int | None = None) -> tuple[Any, ...]:
        """A network's modules and totals; trains it where its checkpoint is not finished."""
        from bench.shapes import judges, tasks

        wanted: dict[str, Any] = {"steps": steps or STEPS[name], "say": say}
        if name == "vae":
            return tasks.train_vae(self.work, **wanted)
        if name == "clip":
            return tasks.train_clip(self.work, **wanted)
        if name == "unet":
            from bench.shapes.package import text_encoders

            encoders = text_encoders(*self.trained("clip")[:2])
            return tasks.train_unet(self.work, self.trained("vae")[0], *encoders, **wanted)
        if name == "places":
            from bench.shapes.places import train_places

            return train_places(self.work, load_pipeline(self.uncured()), **wanted)
        if name in ("dpo", "turbo", "lcm", "controlnet"):
            return self.twin(name, wanted)
        if name == "sd":
            from bench.shapes.sd import train_sd

            return train_sd(self.work, load_pipeline(self.cured()), **wanted)
        if name == "preference":
            return judges.train_preference(self.work, self.votes("train", judges.VOTE_CAPTIONS, 31), **wanted)
        data = self.votes("train", judges.RATED_CAPTIONS, 31)
        return judges.train_aesthetic(self.work, self.trained("clip")[0], data, **wanted)

    def twin(self, name: str, wanted: dict[str, Any]) -> tuple[Any, ...]:
        """A denoiser or adapter that starts from the cured pipeline, and its totals."""
        from bench.shapes import control, dpo, lcm, teacher, turbo

        pipeline = load_pipeline(self.cured())
        if name == "lcm":
            return lcm.train_lcm(self.work, pipeline, **wanted)
        if name == "controlnet":
            return control.train_controlnet(self.work, pipeline, **wanted)
        drawings = teacher.drawings(self.work / "drawings", pipeline, say=say)
        train = dpo.train_dpo if name == "dpo" else turbo.train_turbo
        return train(self.work, pipeline, drawings, **wanted)

    def shipped(self, command: str) -> Path | None:
        """A folder of shapes-sdxl whose card names a command, among those that this run writes or the package has."""
        folders = (self.out / "shapes-sdxl", WEIGHTS / "shapes-sdxl")
        return next((f for f in folders if read_card(f).get("command", "").endswith(command)), None)

    def uncured(self) -> Path:
        """The pipeline as `train unet` left it, kept in the work folder: from its checkpoint, else from a folder."""
        from bench.shapes import package

        kept = self.work / "shapes-sdxl-before-places"
        if kept.is_dir():
            return kept
        shipped = self.shipped("train unet")
        if shipped and not (self.work / "unet.pt").is_file():
            shutil.copytree(shipped, kept)
            return kept
        (vae, vae_totals), (clip, narrow, clip_totals) = self.trained("vae"), self.trained("clip")
        unet, first, totals = self.trained("unet")
        package.save_pipeline(kept, vae=vae, unet=unet, first=first, second=package.text_encoders(clip, narrow)[1])
        parts = {"vae": vae_totals, "text_encoders": clip_totals, "unet": totals}
        package.write_card(kept, command="python -m bench.shapes train unet", seed=0, training=parts)
        return kept

    def cured(self) -> Path:
        """The pipeline as `train places` left it."""
        found = self.shipped("train places")
        if found is None:
            raise SystemExit("no shapes-sdxl whose card names `train places`; run that first")
        return found

    def votes(self, split: str, captions: int, seed: int) -> tuple[Any, ...]:
        """Captions, images, utilities and ratings for the scorers; a quarter of the images by an earlier denoiser."""
        import torch

        from bench.shapes import tasks, votes

        pipeline = load_pipeline(self.out / "shapes-sdxl")
        earlier = self.work / f"unet-at-{tasks.VOTERS_STEP}.pt"
        if not earlier.is_file():
            raise SystemExit(f"{earlier}: missing; it is written while `train unet` passes that step")
        state = torch.load(earlier, weights_only=True)
        for prefix, module in (("unet.", pipeline.unet), ("first.", pipeline.text_encoder)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        return votes.pool(self.work, pipeline.vae, pipeline, captions=captions, split=split, seed=seed, say=say)

    def train(self, name: str, steps: int | None) -> None:
        """Train one network and write the folders that it completes."""
        from bench.shapes import evaluate, finish, judges, networks, package, scorers

        started = time.time()
        *modules, totals = self.trained(name, steps)
        command = f"python -m bench.shapes train {name}"
        facts: dict[str, Any] = {"command": command, **totals, "seed": 0}
        figures: dict[str, Any]
        if name == "clip":
            folder = self.out / "shapes-clip"
            figures = evaluate.clip_ranking(modules[0])
            package.save_clip(folder, modules[0])
            package.write_card(folder, **facts, parameters=networks.parameters(modules[0]), figures=figures)
        if name == "unet":
            shutil.rmtree(self.work / "shapes-sdxl-before-places", ignore_errors=True)
            folder = self.out / "shapes-sdxl"
            vae, *vae_totals = self.trained("vae")
            clip, narrow, clip_totals = self.trained("clip")
            figures = {"vae": evaluate.vae_agreement(vae)}
            sizes = {"unet": networks.parameters(modules[0]), "vae": networks.parameters(vae)}
            second = package.text_encoders(clip, narrow)[1]
            package.save_pipeline(folder, vae=vae, unet=modules[0], first=modules[1], second=second)
            pipeline = load_pipeline(folder)
            for guidance in (1.0, 3.0, 5.0, 7.5):
                say(f"evaluating at guidance {guidance:g}")
                figures[f"geneval_g{guidance:g}"] = evaluate.geneval(pipeline, guidance=guidance)
            parts = {"vae": vae_totals[0], "text_encoders": clip_totals, "unet": totals}
            package.write_card(folder, command=command, seed=0, training=parts, parameters=sizes, figures=figures)
        if name == "places":
            finish.places(
                self.out / "shapes-sdxl",
                self.uncured(),
                modules[0],
                modules[1],
                totals,
                command=command,
                seed=0,
                say=say,
            )
        if name in ("dpo", "turbo", "lcm", "controlnet"):
            write = getattr(finish, name)
            write(self.out / f"shapes-{name}", self.cured(), modules[0], totals, command=command, seed=0, say=say)
        if name == "sd":
            vae, unet, encoder = modules
            where = self.out / "shapes-sd", self.cured()
            finish.sd(*where, vae, unet, encoder, totals, command=command, seed=0, say=say)
        if name in ("preference", "aesthetic"):
            folder = self.out / f"shapes-{name}"
            scorers.save_module(modules[0], folder)
            held_out = self.votes("scorers", judges.HELD_OUT_VOTE_CAPTIONS, 32)
            if name == "preference":
                figures = evaluate.preference_agreement(modules[0], held_out)
            else:
                figures = evaluate.aesthetic_error(modules[0], self.trained("clip")[0], held_out)
            package.write_card(folder, **facts, parameters=networks.parameters(modules[0]), figures=figures)
        say(f"{name}: done in {time.time() - started:.0f} s")


def evaluate(out: Path) -> dict[str, Any]:
    """Every figure of the shipped weights that needs no training data."""
    from transformers import CLIPModel

    from bench.shapes import evaluate as figures
    from bench.shapes import finish

    cured = out / "shapes-sdxl"
    pipeline = load_pipeline(cured)
    found: dict[str, Any] = {
        "detector": figures.detector_accuracy(10_000),
        "vae": figures.vae_agreement(pipeline.vae),
        "clip": figures.clip_ranking(CLIPModel.from_pretrained(out / "shapes-clip", local_files_only=True).float()),
        "geneval": {f"g={g:g}": figures.geneval(pipeline, guidance=g) for g in (1.0, 3.0, 5.0, 7.5)},
    }
    if (out / "shapes-sd").is_dir():
        found["sd"] = finish.sd_figures(out / "shapes-sd", lambda line: print(line, file=sys.stderr))
    twins = {
        "turbo": finish.turbo_figures,
        "lcm": finish.lcm_figures,
        "dpo": finish.dpo_figures,
        "controlnet": finish.controlnet_figures,
    }
    for name, asked in twins.items():
        if (out / f"shapes-{name}").is_dir():
            found[name] = asked(out / f"shapes-{name}", cured)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
