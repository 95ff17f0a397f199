"""The training itself: steps, validation, and a state from which a killed training resumes.

All randomness follows from (seed, epoch, step, process), so a state needs no generator's inside, and a training that
was killed and went on makes the same steps as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import UserError
from bench.progress import Progress
from npnet.network import checkpoint
from npnet.network.model import NPNet
from npnet.pairs.mapped import Rows
from npnet.training import losses, state
from npnet.training.caches import Prompts, World
from npnet.training.data import Pairs

if TYPE_CHECKING:
    from npnet.training.settings import TrainConfig

STATE_SECONDS = 120.0
"""At most so much work is lost to a kill."""
FIGURE_SECONDS = 60.0
"""A figure takes longer than an epoch of a small training, so it is not drawn after each."""
_AVERAGED_SOON = 10
"""An average of weights forgets the initial ones at first: its decay is at most (1 + step) / (10 + step)."""


@dataclass(frozen=True)
class Data:
    """What a step reads, by pair numbers."""

    pairs: Pairs
    prompts: Prompts | None
    svd: tuple[Rows, Rows, Rows] | None
    training: np.ndarray
    validation: np.ndarray

    def __call__(self, ids: np.ndarray, prompt_of: np.ndarray, device: torch.device) -> tuple[Tensor, dict[str, Any]]:
        """Target noise (n, C, h, w), and the network's arguments, of pairs `ids` with the prompts of `prompt_of`."""

        def on(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True).float()

        given: dict[str, Any] = {"latents": on(self.pairs.source[ids])}
        if self.prompts is not None:
            given["prompt_embeds"] = self.prompts[self.pairs.prompt[prompt_of]].to(device).float()
        if self.svd is not None:
            given["svd"] = tuple(on(rows[ids]) for rows in self.svd)
        return on(self.pairs.target[ids]), given


class Loop:
    """One training: `begin` it from a state or from nothing, then `train`."""

    def __init__(
        self, config: TrainConfig, accelerator: Any, *, out: Path, identity: Mapping[str, Any], world: World
    ) -> None:
        self.config, self.accelerator, self.out, self.identity, self.world = config, accelerator, out, identity, world
        self.main = world.rank == 0
        self.provenance: dict[str, Any] = {}

    def state(self) -> dict[str, Any] | None:
        """The state to resume from; None where there is none, UserError where it is another training's or broken."""
        return state.read(self.out, identity=self.identity, epochs=self.config.epochs)

    def complete(self) -> bool:
        """Whether a finished training left its last network and its losses; the best one may have been moved away."""
        return all((self.out / name).is_file() for name in (losses.LAST, losses.CSV))

    def begin(self, network: NPNet, data: Data, saved: Mapping[str, Any] | None) -> None:
        """Make ready to train `network` from where the state `saved` left off."""
        self.data = data
        self.raw = network.train().to(self.accelerator.device)
        self.average = copy.deepcopy(self.raw).eval().requires_grad_(False) if self.config.ema else None
        self.optimizer = torch.optim.AdamW(
            self.raw.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        if saved is not None:
            state.restore(saved, self.out, network=self.raw, average=self.average, optimizer=self.optimizer)
        # Parts of the published network are read by nothing, and processes would wait for their gradients.
        self.accelerator.ddp_handler.find_unused_parameters = network.config.layout == "published"
        self.network: nn.Module = self.accelerator.prepare_model(self.raw)
        self.epoch: int = saved["epoch"] if saved else 0
        self.step: int = saved["step"] if saved else 0
        """Epochs finished, and steps of the one after them."""
        self.total = saved["total"] if saved else 0.0
        self.losses: list[dict[str, Any]] = list(saved["rows"]) if saved else []
        self.before = saved["seconds"] if saved else 0.0
        self.started = self.kept = self.drawn = time.monotonic()
        self.identity_mse, self.scaled_mse = losses.baselines(data.pairs, data.training, data.validation)
        self.numbers = math.prod(data.pairs.source.shape[1:])
        if saved is not None:
            self.world.say(f"{self.out}: resumes after epoch {self.epoch}, step {self.step} of {self.steps}")

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch."""
        return -(-len(self.data.training) // self.config.batch)

    @property
    def shown(self) -> NPNet:
        """The network that is validated and written: the average where there is one."""
        return self.raw if self.average is None else self.average

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def train(self) -> dict[str, Any]:
        """The epochs that are left, then all outputs; returns the summary."""
        todo = max(0, (self.config.epochs - self.epoch) * self.steps - self.step)
        with Progress("train", todo, "steps") if self.main else nullcontext() as progress:
            while self.epoch < self.config.epochs:
                self._epoch(progress)
        if self.main:
            self._save(losses.LAST)
            losses.write(self.losses, self.out)
            if not losses.draw(self.losses, self.out):
                self.world.say("no losses.png, as matplotlib is not installed; losses.csv has the same numbers")
        self.world.wait()
        return losses.summary_line(self.losses, self.out, pairs=len(self.data.pairs), say=self.world.say)

    def _epoch(self, progress: Progress | None) -> None:
        order = np.random.default_rng([self.config.seed, self.epoch]).permutation(self.data.training)
        self.network.train()
        total = torch.tensor(self.total, dtype=torch.float64, device=self.accelerator.device)
        while self.step < self.steps:
            total += self.advance(order[self.step * self.config.batch : (self.step + 1) * self.config.batch])
            self.step += 1
            if self.main and time.monotonic() - self.kept > STATE_SECONDS and self.step < self.steps:
                self.total = self._finite(float(total))
                self._keep()
            if progress is not None:
                progress.advance(1)
        train_mse = self._finite(float(total)) / (len(self.data.training) * self.numbers)
        validation_mse = self._finite(self._validate())
        self.epoch, self.step, self.total = self.epoch + 1, 0, 0.0
        self._record(train_mse, validation_mse)

    def advance(self, ids: np.ndarray) -> Tensor:
        """One optimizer step on a batch; returns the batch's sum of squares over all processes, in float64."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        torch.manual_seed(self._drawn())
        share = len(ids) * self.numbers
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        parts = list(self._parts(ids))
        for i, (part, weight) in enumerate(parts):
            # Gradients travel between the processes once a step.
            with nullcontext() if i == len(parts) - 1 else self.accelerator.no_sync(self.network):
                squares = weight * self._squares(self.network, part, ids)
                # Processes' gradients are averaged, and a batch's loss is their sum.
                self.accelerator.backward(squares * (self.world.size / share))
            total += squares.detach().double()
        if self.config.clip is not None:
            self.accelerator.clip_grad_norm_(self.raw.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._follow()
        return self._summed(total)

    def _parts(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        """This process's share of a batch in `accumulation` parts, each with its weight.

        A process without a share takes part with weight 0, as the others wait for it.
        """
        pieces = np.array_split(ids, self.world.size * self.config.accumulation)
        own = [p for p in pieces[self.world.rank * self.config.accumulation :][: self.config.accumulation] if len(p)]
        yield from ((part, 1.0) for part in own)
        if not own:
            yield ids[:1], 0.0

    def _squares(self, network: nn.Module, part: np.ndarray, batch: np.ndarray) -> Tensor:
        """Sum of squared differences to the target noise over pairs `part` of a `batch`."""
        first = self.config.conditioning == "first_of_batch"
        target, given = self.data(part, batch[:1] if first else part, self.accelerator.device)
        made: Tensor = network(**given)
        return (made.float() - target).square().sum()

    def _rate(self) -> float:
        if self.config.schedule == "constant":
            return self.config.learning_rate
        done = (self.epoch * self.steps + self.step) / (self.config.epochs * self.steps)
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def _drawn(self) -> int:
        """The seed of one step of one process, for what the network itself may draw (Swin drops paths)."""
        text = f"{self.config.seed} {self.epoch} {self.step} {self.world.rank}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

    def _follow(self) -> None:
        """Move the average towards the weights."""
        if self.average is None or self.config.ema is None:
            return
        taken = self.epoch * self.steps + self.step
        decay = min(self.config.ema, (1 + taken) / (_AVERAGED_SOON + taken))
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.raw.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)
            for averaged, value in zip(self.average.buffers(), self.raw.buffers(), strict=True):
                averaged.copy_(value)

    def _validate(self) -> float:
        """Mean squared error on the validation pairs, batched as in training."""
        network, ids = self.shown.eval(), self.data.validation
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        with torch.no_grad(), self.accelerator.autocast():
            for at in range(0, len(ids), self.config.batch):
                batch = ids[at : at + self.config.batch]
                for part, weight in self._parts(batch):
                    total += weight * self._squares(network, part, batch).double()
        return float(self._summed(total)) / (len(ids) * self.numbers)

    def _summed(self, value: Tensor) -> Tensor:
        summed: Tensor = self.accelerator.reduce(value, "sum") if self.world.size > 1 else value
        return summed

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise UserError(
                f"the training diverged in epoch {self.epoch + 1} (loss {loss}); {self.out} keeps what was finished "
                "before: start again with a lower learning_rate or with clip, in another --out"
            )
        return loss

    def _record(self, train_mse: float, validation_mse: float) -> None:
        """An epoch's end: its losses, the best network, the state."""
        best = min((row["validation_mse"] for row in self.losses), default=math.inf)
        self.losses.append(
            {
                "epoch": self.epoch,
                "steps": self.epoch * self.steps,
                "seconds": self.seconds,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "train_mse": train_mse,
                "validation_mse": validation_mse,
                "explained": losses.explained(validation_mse, self.identity_mse),
                "identity_mse": self.identity_mse,
                "scaled_mse": self.scaled_mse,
            }
        )
        if not self.main:
            return
        # The state comes last: killed before it, the epoch's end is made again and gives the same files.
        if validation_mse < best:
            self._save(losses.BEST)
        losses.write(self.losses, self.out)
        if time.monotonic() - self.drawn > FIGURE_SECONDS:
            losses.draw(self.losses, self.out)
            self.drawn = time.monotonic()
        self._keep()

    def _save(self, name: str) -> None:
        summary = losses.summary(self.losses, pairs=len(self.data.pairs))
        provenance = {
            **self.provenance,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "validation": {k: summary[k] for k in ("validation_mse", "identity_mse", "scaled_mse", "explained")},
            "losses": [[row["train_mse"], row["validation_mse"]] for row in self.losses],
        }
        checkpoint.save(self.shown, self.out / name, provenance=provenance)

    def _keep(self) -> None:
        """Write the state, whole or not at all."""
        self.kept = time.monotonic()
        content = {
            "identity": dict(self.identity),
            "network": self.raw.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "total": self.total,
            "rows": self.losses,
            "seconds": self.seconds,
        }
        state.write(self.out, content)
