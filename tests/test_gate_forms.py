"""Verdicts as Markdown, JUnit and JSON."""

from __future__ import annotations

import ast
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
from gate_rows import check, comparison, results
from resulted import resulted

from bench import gate
from bench.gate import Judgement, Rule

# Output ---------------------------------------------------------------------------------------------------------------


def test_markdown_puts_failures_first() -> None:
    found = results(comparison(0, -1, 1), comparison(0, -1, 1, method="<b>|`x`\n"))
    rules = [
        Rule(metric="preference", method="npnet", delta=-2.0),
        Rule(metric="preference", method="<b>|`x`\n", delta=4.0),
    ]
    text = gate.markdown(Judgement(check(found, rules)))
    assert text.startswith("## Gate: failed\n\n1 passed, 0 not comparable, 1 failed.\n\n| outcome | rule |")
    assert text.splitlines()[6].startswith("| 🔴 failed | preference delta >= +4 | &lt;b>\\|\\`x\\` |")
    assert text.splitlines()[7].startswith("| 🟢 passed | preference delta >= -2 | npnet |")


def test_markdown_without_rules() -> None:
    assert "No rule was checked." in gate.markdown(Judgement())


def test_junit_parses_and_counts() -> None:
    found = results(comparison(0, -1, 1), comparison(0, -1, 1, method="<b>\x00"))
    rules = [
        Rule(metric="preference", delta=-4.0),
        Rule(metric="preference", method="npnet", delta=4.0),
        Rule(metric="pick", delta=0.0),
    ]
    root = ET.fromstring(gate.junit(check(found, rules)).encode())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    cases = [(case.get("classname"), next(iter(case)).tag) for case in root.iter("testcase")]
    assert cases == [("npnet", "system-out"), ("<b>?", "system-out"), ("npnet", "failure"), ("any method", "error")]
    failure = root.find(".//failure")
    assert failure is not None
    assert "shown to be below 4" in str(failure.get("message"))


def test_junit_of_no_rule_is_an_error() -> None:
    root = ET.fromstring(gate.junit([]).encode())
    assert (root.get("tests"), root.get("errors")) == ("1", "1")


def test_notes_stand_below_the_table_and_act_as_nothing() -> None:
    text = gate.markdown(Judgement(notes=["weights of <b>|x` have changed"]))
    assert text.endswith("\n- weights of &lt;b>\\|x\\` have changed\n")


SCHEMAS = Path(gate.__file__).parents[1] / "schemas"


def test_the_committed_schema_is_of_what_is_written() -> None:
    stored = json.loads((SCHEMAS / "gate.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(stored)
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **gate.Report.model_json_schema()}
    assert stored == made, "write it again: json.dumps of the schema of bench.gate.Report"


@pytest.mark.parametrize("threshold", [-2.0, 2.0, None])
def test_json_keeps_to_its_schema(threshold: float | None) -> None:
    rules = [] if threshold is None else [Rule(metric="preference", delta=threshold), Rule(metric="pick", delta=0.0)]
    found = results(comparison(0, -1, 1))
    written = gate.as_json(Judgement(check(found, rules), ["a note"]), resulted(found))
    stored = json.loads((SCHEMAS / "gate.schema.json").read_text())
    jsonschema.Draft202012Validator(stored).validate(json.loads(json.dumps(written, allow_nan=False)))
    assert written["outcome"] == {-2.0: "not comparable", 2.0: "failed", None: "not comparable"}[threshold]
    assert written["exit_code"] == {-2.0: 3, 2.0: 1, None: 3}[threshold]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(stored).validate({**written, "outcome": "maybe"})


def test_no_row_of_results_or_of_a_baseline_is_read_by_a_string() -> None:
    """Only what is no record is: a file before it is read, a suite's own protocol, columns, counts, kinds."""
    found = set()
    for file in Path(gate.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            key: ast.AST | None = None
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                key = node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
                key = node.args[0]
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.add((file.name, key.value))
    assert found <= {
        ("common.py", "methods"), ("common.py", "label"), ("common.py", "chain"),  # of a suite
        ("samples.py", "job_id"), ("samples.py", "metrics"), ("forms.py", "noisebench gate"),
        ("frozen.py", "digest"), ("frozen.py", "schema"), ("frozen.py", "kind"), ("frozen.py", "kind"),
        ("against.py", ""), ("forms.py", "failed"), ("forms.py", "not comparable"), ("forms.py", "inconclusive"),
    }  # fmt: skip
