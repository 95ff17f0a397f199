"""What a metric is: a catalogue entry without torch, and a scorer that it loads.

There are three kinds. `image`: a value for each image with its prompt. `pair`: how far a method's image is preferred
over the baseline's, prompt by prompt, as people and VLM judges have it. `set`: one value for many images together, such
as FID, from features that are taken once of each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

from bench import identity
from bench.errors import UserError
from bench.kinship import KINDS, Trait
from bench.needs.base import Made, Need

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from bench.prompts.base import Prompt

Kind = Literal["image", "pair", "set"]


@dataclass(frozen=True)
class Value:
    """A score and, where the metric can say more, details that go into the ledger as JSON."""

    value: float
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(cls, reason: str) -> Value:
        """What a scorer gives where it has no value: the score is marked failed for that reason, a line."""
        return cls(math.nan, {"failed": reason})

    @property
    def reason(self) -> str | None:
        """Why there is no value; None where there is one."""
        if math.isfinite(self.value):
            return None
        return str(self.detail.get("failed") or f"its score is not finite ({self.value})")


class Scorer(Protocol):
    """A loaded metric of the kind `image`."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        """One value an image; images are (H, W, 3) uint8. The value may not depend on the rest of the batch.

        A value that is not finite is marked failed with its image; the others are kept.
        """
        ...


class PairScorer(Protocol):
    """A loaded metric of the kind `pair`."""

    def score_pairs(
        self, baseline_images: Sequence[np.ndarray], method_images: Sequence[np.ndarray], prompts: Sequence[Prompt]
    ) -> list[Value]:
        """One value in [0, 1] a prompt: the probability, or share, by which the method's image is preferred to the
        baseline's; a tie is 0.5. Images are (H, W, 3) uint8. A value outside [0, 1] stops the run with a UserError,
        one that is not a number is marked failed.

        Where the order of the two images matters, the entry says `both_orders`: the scorer is then asked a second time
        with the images exchanged, and p and 1 - p' are averaged. Two equal images are a tie and are not asked about.
        """
        ...


class SetScorer(Protocol):
    """A loaded metric of the kind `set`; the value of a set is `MetricEntry.value`, which needs no scorer."""

    def features(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> NDArray[np.floating[Any]]:
        """(B, D) finite features of images (H, W, 3) uint8, kept as float32. D is always the same, and a row may not
        depend on the rest of the batch. Anything else stops the run with a UserError.
        """
        ...


@runtime_checkable
class Differentiable(Protocol):
    """What a scorer may have beside `score`: values that a gradient flows through, for what climbs a metric."""

    def differentiable(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B,) values of images (B, 3, H, W), fp32 in [0, 1]; of whole grey levels they are `score`'s, to rounding."""
        ...


@dataclass(frozen=True)
class MetricEntry:
    """A metric by name. `load(device)` is None for a metric of the catalogue whose scorer is not built yet."""

    name: str
    title: str
    unit: str
    load: Callable[[str], Scorer | PairScorer | SetScorer] | None
    identify: Callable[[], str]
    """Digest of all that decides a score: weights, preprocessing, code version."""
    higher_is_better: bool = True
    scale: str = ""
    """How the paper prints the metric."""
    bounds: tuple[float, float] | None = None
    """The range of its value, such as (0, 1) of a share, where scores lie near both ends or at them: intervals then
    allow for what no prompt has shown yet. A range that scores never come near, such as CLIPScore's, only widens them:
    leave it out. A pair metric has one without saying so."""
    needs_metadata: bool = False
    """Whether it judges only prompts that carry metadata of its kind."""
    metadata_key: str = "include"
    """The key that such metadata has: `include` in GenEval's; prompts with metadata of another kind are not judged."""
    partial: bool = False
    """Whether it judges a part of the pairs only, as people do: what it has not judged is not missing."""
    twin_of: tuple[str, ...] = ()
    about: str = ""
    license: str = ""
    """Of its weights as published. This and the next three are facts for people; no digest has them."""
    blind_to: str = ""
    """What it cannot see."""
    unfit_for: str = ""
    """Methods that it must not judge, beside those whose own description says so (`Method.optimises`)."""
    made_of: tuple[Trait, ...] = ()
    """Weights, labels, detector and so on; what two metrics share follows from it (`bench.kinship`)."""
    kind: Kind = "image"
    """What it is a metric of. A `pair` metric's score of an image is 2p - 1, and the baseline's own is 0."""
    both_orders: bool = False
    """`pair`: whether the scorer is asked in both orders of the two images and the answers are averaged."""
    value: Callable[..., float] | None = None
    """`set`: `value(features, weights)`, a number from features (n, D) and weights (n,), how often each image counts.

    Weights are whole numbers, zeros among them: bootstrap counts. It must be the value of the set in which each image
    is repeated that often. Plain numpy: reports and gates call it without loading a scorer. Where it gives no finite
    number there is no value.
    """
    by_prompt: bool = False
    """`set`: whether it compares the images of one prompt with one another. `value` is then given a third argument,
    groups (n,), the numbers of the images' prompts; weights are the same within a group, or zero."""
    fewest: int = 2
    """`set`: below this many images there is no value."""
    resamples: int = 1000
    """`set`: bootstrap draws, and as many exchanges for the test; fewer where `value` is slow."""
    configure: Callable[[str | None, str], MetricEntry] | None = None
    """`configure(checkpoint, dtype)`: the metric on the user's folder, or the published files, in a precision (`fp32`,
    `fp16` or `bf16`); UserError where the folder lacks a part. None: there is nothing to choose."""
    packaged: Callable[[str | None, float | None], MetricEntry] | None = None
    """`packaged(checkpoint, timeout)`: the metric as its original package computes it, in an environment of its own."""
    asked: Callable[[str, str, float | None], MetricEntry] | None = None
    """`asked(url, version, timeout)`: the judge at a URL; only of metrics that are such judges."""
    refer: Callable[[str], MetricEntry] | None = None
    """`refer(reference)`: the metric against the user's reference, a folder of images or a file of statistics. None: it
    compares with nothing. Whether the reference is there is asked where its content is."""
    reference: str | None = None
    """The reference that was given; a metric that has `refer` is not computed without one."""
    fetch: Callable[[], None] | None = None
    """Has the scorer's files on this machine before they are needed; UserError where one cannot be had."""
    needs: Callable[[], tuple[Need, ...]] = tuple
    """What must be on this machine before a score is given, and where that comes from."""
    networks: Callable[[], tuple[str, ...]] = tuple
    """The networks that another metric may have too, each by content and precision: metrics that have one in common are
    scored together, so that it is loaded once and run once an image (`bench.metrics.sharing`)."""
    ms: float | None = None
    """Milliseconds that the networks take for one image, or pair, as `bench.metrics.backbones` estimates them."""
    gib: float | None = None
    """GiB of memory that the networks' weights take in fp32."""

    def __post_init__(self) -> None:
        if (self.kind == "set") != (self.value is not None):
            raise ValueError(f"metric {self.name!r} is of the kind {self.kind!r}: `value` is for, and only for, 'set'")
        if self.kind == "set" and not (self.fewest >= 2 and self.resamples >= 100 and not self.partial):
            raise ValueError(
                f"metric {self.name!r}: a set metric needs fewest >= 2 and resamples >= 100, never partial"
            )
        if self.bounds is not None and (self.kind != "image" or not self.bounds[0] < self.bounds[1]):
            raise ValueError(f"metric {self.name!r}: bounds {self.bounds} are for a metric of images, the lower first")
        if self.by_prompt and self.kind != "set":
            raise ValueError(f"metric {self.name!r} is of the kind {self.kind!r}: only a set has groups by prompt")
        if self.both_orders and self.kind != "pair":
            raise ValueError(f"metric {self.name!r} is of the kind {self.kind!r}: only a pair has two orders")
        if unknown := {trait.kind for trait in self.made_of} - {*KINDS}:
            raise ValueError(f"metric {self.name!r}: made_of: {min(unknown)!r} is none of {', '.join(KINDS)}")

    def digest(self) -> str:
        """Of all that decides a score: `identify`, and the code of the scorer and of a set's value."""
        return identity.joined(self.identify(), self.code())

    def code(self) -> identity.Code | None:
        """The code that scores; None where nothing is computed, as of people's votes."""
        return identity.of((self.load, self.value))

    @property
    def range(self) -> tuple[float, float] | None:
        """The range of its score, of a pair 2p - 1; None where it has none to speak of."""
        return (-1.0, 1.0) if self.kind == "pair" else self.bounds

    @property
    def of_this_machine(self) -> bool:
        """Whether its digest is of files that somebody put here, which another machine may not have."""
        sources = [need.source for need in self.needs()]
        return any(isinstance(s, Made) for s in sources) and all(s.here() for s in sources if isinstance(s, Made))

    def judges(self, carried: Container[str] | None) -> bool:
        """Whether it judges a prompt that carries this metadata, or metadata with these keys."""
        return not self.needs_metadata or (carried is not None and self.metadata_key in carried)

    def configured(
        self,
        checkpoint: str | None,
        dtype: str,
        implementation: str = "own",
        *,
        url: str | None = None,
        version: str = "",
        timeout: float | None = None,
        reference: str | None = None,
    ) -> MetricEntry:
        """The metric with the user's settings; UserError where it does not have those to choose."""
        if reference is not None and self.refer is None:
            raise UserError(f"metric {self.name!r} takes no reference")
        if self.asked is not None:
            if url is None or checkpoint or dtype != "fp32" or implementation != "own":
                raise UserError(f"metric {self.name!r} takes url, version and timeout, and needs the url")
            return self.asked(url, version, timeout)
        if url is not None or version:
            raise UserError(f"metric {self.name!r} takes neither url nor version: those are of a judge at a URL")
        if implementation == "package":
            if self.packaged is None:
                raise UserError(f"metric {self.name!r} has no implementation but its own; leave 'implementation' out")
            if dtype != "fp32":
                raise UserError(f"metric {self.name!r}: its package has a precision of its own; leave 'dtype' out")
            return self.packaged(checkpoint, timeout)
        if timeout is not None:
            raise UserError(f"metric {self.name!r} takes 'timeout' with 'implementation: package' only")
        if self.configure is None:
            raise UserError(f"metric {self.name!r} takes neither checkpoint nor dtype")
        found = self.configure(checkpoint, dtype)
        return found if reference is None or found.refer is None else found.refer(reference)

    def check_selects(self) -> None:
        """UserError unless it can choose among the images of one prompt."""
        if self.kind != "image":
            raise UserError(
                f"metric {self.name!r} judges a {self.kind} of images: it cannot choose among candidates or be a "
                "reward; give a metric that scores single images"
            )

    def scorer(self, device: str) -> Scorer:
        """The loaded scorer of single images; UserError where there is none yet, or the metric is of another kind."""
        self.check_built()
        self.check_selects()
        return cast(Scorer, self.loaded(device))

    def loaded(self, device: str) -> Scorer | PairScorer | SetScorer:
        """The loaded scorer of the metric's own kind; UserError where there is none yet."""
        self.check_built()
        assert self.load is not None
        return self.load(device)

    def check_here(self) -> None:
        """UserError where there is no scorer, or what it needs is not on this machine."""
        self.check_built()
        away = [need for need in self.needs() if not need.source.here()]
        if away:
            ways = "; ".join(dict.fromkeys(f"{n.what}: {n.source.command}" for n in away if n.source.command))
            fetched = f"`python -m bench fetch --metric {self.name}` gets {'the rest' if ways else 'them'}"
            if all(need.source.command for need in away):
                fetched = ""
            raise UserError(
                f"metric {self.name!r} needs {', '.join(need.what for need in away)}, not on this machine: "
                f"{'; '.join(filter(None, (ways, fetched)))}; or give a folder that holds them, --metric "
                f"{self.name}=FOLDER"
            )
        if self.fetch is not None:
            self.fetch()

    def check_built(self) -> None:
        """UserError where there is no scorer."""
        if self.load is None and self.partial:
            raise UserError(
                f"metric {self.name!r} is not computed; leave it out of the suite, and give a run's votes to "
                f"`python -m bench score RUN --metric {self.name} --votes FILE`"
            )
        if self.load is None:
            raise UserError(
                f"metric {self.name!r} is in the catalogue but its scorer is not built yet; "
                "leave it out with --metric, or run the embedded twin with --twin"
            )
        if self.refer is not None and self.reference is None:
            raise UserError(
                f"metric {self.name!r} compares with a reference: write {{use: {self.name}, reference: FOLDER}} in the "
                "suite, a folder of images or an .npz file of their statistics"
            )
