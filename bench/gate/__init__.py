"""Results against rules, or against a frozen baseline: verdicts, and the exit code they add up to.

A gate must neither pass what was not measured nor fire on noise. So a rule fails only when the data show a regression,
the whole interval of the paired delta or win rate lying beyond the threshold (with `require: shown` also when any of it
does), passes only when all of it keeps to the threshold, and is inconclusive otherwise; and where an interval is
missing or over an incomplete set of pairs the answer is "not comparable", never "passed". Several comparisons of noise
find something sooner than one, so intervals are widened for their number.

rules.py judges a suite's rules, frozen.py writes and reads baselines, against.py pairs a run with one
where common.py lets it, comparisons.py has the bounds that decide, forms.py what a gate hands back, and kept.py
what of it stays with the run.
"""

from bench.gate.against import against_baseline
from bench.gate.forms import Report, as_json, by_method, junit, mark_of, markdown
from bench.gate.frozen import dump, freeze, load
from bench.gate.kept import keep, verdicts_in
from bench.gate.rules import check
from bench.gate.samples import Samples
from bench.gate.shown import compare, show
from bench.gate.tolerances import Tolerance, check_tolerances, check_unread, tolerances
from bench.gate.verdicts import ORDER, Judgement, Verdict, counted, exit_code, overall
from bench.records.baseline import Frozen
from bench.suite.gates import Gate as Rule

__all__ = [
    "ORDER",
    "Frozen",
    "Judgement",
    "Report",
    "Rule",
    "Samples",
    "Tolerance",
    "Verdict",
    "against_baseline",
    "as_json",
    "by_method",
    "check",
    "check_tolerances",
    "check_unread",
    "compare",
    "counted",
    "dump",
    "exit_code",
    "freeze",
    "junit",
    "keep",
    "load",
    "mark_of",
    "markdown",
    "overall",
    "show",
    "tolerances",
    "verdicts_in",
]
