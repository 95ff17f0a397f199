"""The `gates` of a suite: rules that a run must keep, as a list or as a mapping by metric, in one form.

gates:                                      gates:
  - {metric: clipscore, delta: -0.01}         clipscore: {delta: -0.01}
  - {metric: noise_ms, ratio: 1.2}            noise_ms: {ratio: 1.2}
  - {win_rate: 0.5}                           win_rate: {min: 0.5}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bench.errors import nearest
from bench.suite.document import Fault, Path, fault, faults, phrase, shown

_MEASURED = (
    "calls_noise",
    "calls_sampling",
    "calls_total",
    "encode_ms",
    "noise_ms",
    "sampling_ms",
    "decode_ms",
    "select_ms",
)
COSTS = {"calls": "calls_total", "memory": "peak_bytes"} | {
    name: name for name in (*_MEASURED, "total_ms", "peak_bytes")
}
"""What a gate may name beside the suite's metrics, and its name in results; judged as a ratio to the baseline's.

Memory is on a CPU what `--memory` measured (`memory_bytes`), where it did."""

EVERY_PROMPT_SET = "*"


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        fault("has half of a surrogate pair, which is no character")
    return value


Text = Annotated[str, Field(strict=True), AfterValidator(_text)]
THRESHOLDS = ("delta", "win_rate", "ratio")


class Gate(BaseModel):
    """A rule that a run must keep; exactly one of `delta`, `win_rate` and `ratio` is set.

    `delta: -0.05` asks for a true delta of at least -0.05 (where lower is better: at most +0.05), `win_rate: 0.4` for
    a win rate of at least 0.4, `ratio: 1.2` for a cost of at most 1.2 times the baseline's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    metric: Text | None = None
    """A metric of the suite, or one of COSTS; None, for a win rate: the first that the method does not optimise."""
    method: Text | None = None
    """A method's label; None: every method but the baseline."""
    delta: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    """The least paired delta."""
    win_rate: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    """The least win rate against the baseline."""
    ratio: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    """The largest ratio to the baseline."""
    two_sided: Annotated[bool, Field(strict=True)] = False
    """Whether a change for the better fails as well: a delta above |threshold|, a win rate above 1 - threshold."""
    require: Literal["plausible", "shown"] = "plausible"
    """`plausible` fails where the interval lies wholly beyond the threshold, `shown` where any of it does."""
    prompts: Text = EVERY_PROMPT_SET
    """One prompt set, or "*" for all of them pooled."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [rule for rule in THRESHOLDS if getattr(self, rule) is not None]
        if self.metric is None and given != ["win_rate"]:
            fault("missing key 'metric'")
        if len(given) != 1:
            said = " and ".join(given) or "none"
            fault(f"a gate needs exactly one of delta, win_rate and ratio, got {said}")
        if self.metric in COSTS and given != ["ratio"]:
            fault(f"{self.metric} is a cost: its gate should be a ratio, got {given[0]}", given[0])
        if given == ["ratio"] and self.metric not in COSTS:
            fault(f"a ratio is taken on a cost, and {self.metric!r} is none{nearest(str(self.metric), COSTS)}", "ratio")
        if given == ["ratio"] and self.two_sided:
            fault(f"a ratio cannot be two_sided (gate on {self.metric})", "two_sided")
        if self.two_sided and ((self.delta or 0) > 0 or (self.win_rate or 0) > 0.5):
            said = "a delta up to 0 or a win_rate up to 0.5, which says how far both sides may go"
            fault(f"two_sided needs {said} (gate on {self.metric})", "two_sided")
        return self

    @property
    def kind(self) -> str:
        """`delta`, `win_rate` or `ratio`."""
        return next(name for name in THRESHOLDS if getattr(self, name) is not None)

    @property
    def threshold(self) -> float:
        """The one threshold that is set."""
        return float(getattr(self, self.kind))

    def __str__(self) -> str:
        sign = "<=" if self.kind == "ratio" else ">="
        value = f"{self.threshold:+g}" if self.kind == "delta" else f"{self.threshold:g}"
        ways = [word for word, on in (("two-sided", self.two_sided), ("shown", self.require == "shown")) if on]
        where = "" if self.prompts == EVERY_PROMPT_SET else f", {self.prompts}"
        name = f"{self.metric} {self.kind}" if self.metric else self.kind
        how = f" ({', '.join(ways)})" if ways else ""
        return f"{name} {sign} {value}{how}{where}"


def _listed(written: Any) -> Any:
    """A mapping's rules as a list; a list is left for the record itself to judge."""
    if isinstance(written, list | tuple):
        return written
    if not isinstance(written, dict):
        fault(f"'gates' should be a list, or a mapping by metric, got {shown(written)}")
    rules: list[Gate] = []
    wrong: list[Fault] = []
    for path, entry in _entries(written):
        try:
            rules.append(Gate.model_validate(_named(str(path[0]), entry, path)))
        except ValidationError as error:
            wrong += _faults_of(error, path)
    faults(wrong)
    return rules


Gates = Annotated[tuple[Gate, ...], BeforeValidator(_listed)]


def paths(written: Any) -> list[Path]:
    """Where each rule stands in a suite's data, in the order of the rules."""
    if not isinstance(written, dict):
        return [("gates", at) for at in range(len(written or ()))]
    return [("gates", *path) for path, _ in _entries(written)]


def _entries(written: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Each rule of a mapping and its path; one metric may have a list of them."""
    for name, value in written.items():
        if isinstance(value, list):
            yield from (((name, at), entry) for at, entry in enumerate(value))
        else:
            yield (name,), value


def _named(name: str, entry: Any, path: Path) -> dict[str, Any]:
    """One entry of a mapping as an entry of a list."""
    if not isinstance(entry, dict):
        where = ".".join(map(str, ("gates", *path)))
        fault(f"{where!r} should be a mapping such as {{delta: -0.01}}, got {shown(entry)}")
    if name != "win_rate":
        if "metric" in entry:
            fault(f"the metric of a gate under {name!r} is {name!r}; leave 'metric' out", "metric")
        return {"metric": name, **entry}
    if "min" not in entry:
        fault("a gate under 'win_rate' needs 'min'")
    if "win_rate" in entry:
        fault("a gate under 'win_rate' needs 'min' alone, got 'win_rate' too", "win_rate")
    return {"win_rate" if key == "min" else key: value for key, value in entry.items()}


def _faults_of(error: ValidationError, path: Path) -> Iterator[Fault]:
    """Errors of one entry of a mapping, at the keys that were written."""
    for one in error.errors():
        inner = tuple("min" if path[0] == "win_rate" and key == "win_rate" else key for key in one["loc"])
        subject = repr(".".join(map(str, ("gates", *path, *inner))))
        # Unions name their branch last, where the file has nothing.
        yield (*path, *inner), phrase(one, subject=subject, known=[k for k in Gate.model_fields if k != "metric"])
