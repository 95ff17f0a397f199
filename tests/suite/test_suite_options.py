"""What `--set`, `--limit`, `--method` and `--metric` make of a suite, and the one line that a mistake in them gets."""

from __future__ import annotations

import pytest
from facts import missing
from stand_ins import (
    LINES,
    RULES,
    labels,
    parse,
    refused,
)
from stand_ins import plugins as plugins

from bench.suite import Control, Gate

pytestmark = pytest.mark.usefixtures("plugins")


def test_set_changes_the_document_before_validation() -> None:
    made = parse(
        overrides=["steps=20", "seeds=[0, 1]", "guidance=3.5", "methods.2.n=8", "metrics.1=preference", "title=a=b"]
    )
    assert (made.steps, made.seeds, made.guidance, made.title) == ((20,), (0, 1), (3.5,), "a=b")
    assert made.methods[2].chain[0].params == {"chooser": "preference", "n": 8}
    assert made.metrics == ("hpsv2", "preference")


def test_set_may_add_a_mapping_on_the_way() -> None:
    assert parse(overrides=["controls.inversion.effect=zero"]).controls == {"inversion": Control(effect="zero")}


def test_set_to_nothing_takes_the_models_default() -> None:
    assert parse(overrides=["steps="]).steps is None


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        ("setps=20", ["unknown key 'setps'", "did you mean 'steps'?"]),
        ("setps.x=20", ["unknown key 'setps'", "did you mean 'steps'?"]),
        ("steps", ["expected key=value", "steps=20"]),
        ("=20", ["expected key=value", "steps=20"]),
        ("methods..n=20", ["expected key=value", "methods.2.n=8"]),
        ("steps=x", ["'steps'", "whole number", "got 'x'"]),
        ("seeds=[0, 0]", ["duplicate", "seed 0"]),
        ("models=[]", ["'models' is empty", "at least one"]),
        ("methods.2.n=1", ["parameter 'n'", "method 'best_of_n'", "greater than or equal to 2,", "got 1"]),
        ("methods.2.m=1", ["unknown parameter", "method 'best_of_n'", "'m'", "chooser, n"]),
        ("methods.9.n=1", ["'methods' has 3 entries", "counted from 0", "no '9'"]),
        ("methods.best_of_4.n=1", ["'methods' has 3 entries", "counted from 0", "no 'best_of_4'"]),
        ("methods.1.n=1", ["'methods.1'", "'inversion'", "no keys"]),
        ("baseline=inverson", ["baseline 'inverson'", "did you mean 'inversion'?"]),
        ("seeds={from: 1, from: 2}", ["duplicate key 'from'"]),
        (
            "steps=!!python/name:os.system",
            ["tag '!!python/name:os.system'", "not allowed", "text, numbers, lists and mappings"],
        ),
        ("steps=[1", ["not valid YAML", "expected ',' or ']'"]),
    ],
)
def test_a_mistake_in_set_names_the_option(setting: str, facts: list[str]) -> None:
    said = refused(overrides=[setting])
    assert said.startswith(f"--set {setting}: ")
    assert missing(said, *facts) == []


def test_limit_is_a_positive_number() -> None:
    assert parse(limit=3).limit == 3
    assert missing(refused(limit=0), "--limit 0: ", "whole number", "at least 1") == []


def test_filters_keep_the_baseline_and_drop_rules_on_what_went() -> None:
    made = parse(LINES + RULES, methods=["best_of_4"], metrics=["clipscore"])
    assert labels(made) == ["standard", "best_of_4"]
    assert made.metrics == ("clipscore",)
    assert made.controls == {}
    assert made.gates == (
        Gate(metric="clipscore", delta=0.0),
        Gate(metric="calls", method="best_of_4", ratio=5),
    )


def test_filters_name_their_option() -> None:
    assert missing(refused(methods=["inverson"]), "--method inverson: ", "unknown", "did you mean 'inversion'?") == []
    assert missing(refused(metrics=["hpsv"]), "--metric hpsv: ", "unknown", "did you mean 'hpsv2'?") == []
