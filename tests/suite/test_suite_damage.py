"""Whatever is in a file or in `--set` is read, or refused in one line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from stand_ins import (
    KEYS,
    LINES,
    RULES,
    parse,
)
from stand_ins import plugins as plugins

from bench.errors import UserError

pytestmark = pytest.mark.usefixtures("plugins")


def is_read_or_refused_in_one_line(text: str, **options: Any) -> bool:
    try:
        parse(text, **options)
    except UserError as error:
        return str(error).startswith(("--set ", "suites/s.yaml:")) and len(str(error).splitlines()) == 1
    return True


quiet = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quiet
@given(
    steps=st.lists(st.integers(1, 1000), min_size=1, max_size=4, unique=True),
    guidance=st.lists(st.floats(0, 100).map(abs), min_size=1, max_size=4, unique=True),
    first=st.integers(0, 2**31 - 50),
    count=st.integers(1, 20),
    title=st.text(st.characters(exclude_categories=["C"]), max_size=20),
)
def test_what_is_written_is_what_is_read(
    steps: list[int], guidance: list[float], first: int, count: int, title: str
) -> None:
    # PyYAML writes such text without quotes; suites read it as a number, as YAML 1.2 does.
    assume(not re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", title))
    data = KEYS | {
        "steps": steps,
        "guidance": guidance,
        "title": title,
        "seeds": {"from": first, "to": first + count - 1},
    }
    made = parse(yaml.safe_dump(data, allow_unicode=True))
    assert (made.steps, made.guidance, made.title) == (tuple(steps), tuple(guidance), title)
    assert made.seeds == tuple(range(first, first + count))
    assert parse(yaml.safe_dump({**data, "seeds": list(made.seeds)}, sort_keys=False)).id == made.id


@quiet
@given(st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    text = LINES + RULES
    start = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.text(st.sampled_from("-[]{}:,&*!?|>'\"% \n\tax0.=<~@`#\x00\x85\u2028"), max_size=6))
    damaged = text[:start] + junk + text[data.draw(st.integers(start, min(start + 8, len(text)))) :]
    assert is_read_or_refused_in_one_line(damaged, twin=data.draw(st.booleans()))


@quiet
@given(
    path=st.lists(st.sampled_from(["methods", "gates", "seeds", "steps", "0", "1", "n", "metric", ""]), max_size=4),
    value=st.text(st.sampled_from("-[]{}:,&*!'\"a0. \n"), max_size=6),
)
def test_any_set_is_applied_or_refused_in_one_line(path: list[str], value: str) -> None:
    assert is_read_or_refused_in_one_line(LINES + RULES, overrides=[f"{'.'.join(path)}={value}"])
