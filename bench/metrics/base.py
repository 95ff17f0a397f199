"""What a metric is: a catalogue entry without torch, and a scorer that it loads.

There are three kinds. `image`: a value for each image with its prompt. `pair`: how far a method's image is preferred
over the baseline's, prompt by prompt, as people and VLM judges have it. `set`: one value for many images together, such
as FID, from features that are taken once of each image.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from bench import identity
from bench.errors import UserError
from bench.kinship import KINDS, Trait
from bench.metrics import direction
from bench.metrics.protocols import Differentiable, PairScorer, Scorer, SetScorer, Value
from bench.moved import deprecated
from bench.needs.base import Made, Need

if TYPE_CHECKING:
    from bench.prompts.base import Prompt

__all__ = ["Differentiable", "Kind", "MetricEntry", "Overall", "PairScorer", "Scorer", "SetScorer", "Value"]

Kind = Literal["image", "pair", "set"]
Overall = Literal["images", "categories", "none"]
_FIRST_KEY = "include"
"""The one kind of metadata that there was at first: in this release, of plugins from then, which name no key."""


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
    metadata_key: str = ""
    """The key that such metadata has; prompts with metadata of another kind are not judged."""
    categories: tuple[str, ...] = ()
    """The categories of prompts by which its source reports it, in the source's order, such as GenEval's six tasks."""
    category: Callable[[Prompt], str] | None = None
    """`category(prompt)`: which of `categories` a prompt is in, another answer meaning none of them. None: it is the
    category that the prompt set gives the prompt."""
    overall: Overall = "images"
    """What its overall number is: the mean over `images`; over the means of its `categories`, each counting the same,
    as GenEval's; or `none`, where categories have scores of different kinds, so that their mean is no quantity."""
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
        if self.overall != "images" and not self.categories:
            raise ValueError(f"metric {self.name!r}: overall {self.overall!r} is of categories, and it has none")
        if self.needs_metadata and not self.metadata_key:
            deprecated(f"metric {self.name!r}: needs_metadata without metadata_key; say metadata_key={_FIRST_KEY!r}")
            object.__setattr__(self, "metadata_key", _FIRST_KEY)
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

    @property
    def sign(self) -> int:
        """1 where a higher value is better, -1 where a lower one is; `metrics.direction` turns differences by it."""
        return direction.sign(self)

    def category_of(self, prompt: Prompt) -> str:
        """Which of `categories` a prompt is in; another word, or none, where it is in none of them."""
        return prompt.category if self.category is None else self.category(prompt)

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
