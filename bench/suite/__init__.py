"""A suite: what is compared, on what, and what is expected; read from YAML with strict keys and names.

Every mistake in a file is one UserError of one line, `suites/my.yaml:12: unknown method 'inverson'; did you mean
'inversion'?`; the first by line is named and the others are counted.
"""

from bench.suite.gates import COSTS, EVERY_PROMPT_SET, Gate
from bench.suite.narrowed import compiled
from bench.suite.reading import ENDINGS, load, of_document, parse, text_of
from bench.suite.schema import Control, Count, Guidance, Link, MethodSpec, Steps, Suite
from bench.suite.seeds import MAX_SEEDS, Seed
from bench.suite.written import Links

__all__ = [
    "COSTS", "ENDINGS", "EVERY_PROMPT_SET", "MAX_SEEDS", "Control", "Count", "Gate", "Guidance", "Link", "Links",
    "MethodSpec", "Seed", "Steps", "Suite", "compiled", "load", "of_document", "parse", "text_of",
]  # fmt: skip
