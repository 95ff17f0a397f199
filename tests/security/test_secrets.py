"""Secrets are in no ledger, no report and no error line: those are what people send to others."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench
from suite_texts import write_suite

from bench import provenance
from bench.errors import UserError, first_line, masked, masked_word


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@example.org/a", "https://***@example.org/a"),
        ("https://only-a-token@example.org", "https://***@example.org"),
        ("s3://bucket/key?X-Amz-Signature=abc&part=1", "s3://bucket/key?X-Amz-Signature=***&part=1"),
        ("https://example.org/?key=abc", "https://example.org/?key=***"),
        ("judge.api_key=abc", "judge.api_key=***"),
        ("{'password': 'abc', 'n': 1}", "{'password': '***', 'n': 1}"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer ***"),
        ("got hf_abcdefghijklmnopqrst from you", "got *** from you"),
        # What is no secret stays: people read these lines.
        ("steps=20 tokens=4 author=joe", "steps=20 tokens=4 author=joe"),
        ("unknown token: foo; a bearer of news", "unknown token: foo; a bearer of news"),
        ("small/model@main, me@example.org", "small/model@main, me@example.org"),
        ("https://example.org/@someone?page=2", "https://example.org/@someone?page=2"),
    ],
)
def test_a_secret_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_API_KEY", "DB_PASSWORD"])
def test_what_a_secret_variable_holds_is_masked_anywhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "correct horse")
    monkeypatch.setenv("PLAIN_VARIABLE", "another text")
    assert masked("it said correct horse and another text") == "it said *** and another text"


def test_the_command_line_is_recorded_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    words = ["run", "a.yaml", "--set", "judge.token=two words", "--reference", "https://me:pw@host/x",
             "--set", "steps=4", "--runs", "correct-horse-battery"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    said = provenance.command()
    assert said == (
        "python -m bench run a.yaml --set 'judge.token=***' --reference 'https://***@host/x' --set steps=4 --runs '***'"
    )
    with provenance.called("bench.run('a.yaml', set={'judge.token': 'abc'})"):
        assert provenance.command() == "bench.run('a.yaml', set={'judge.token': '***'})"


def test_a_word_keeps_its_name_alone() -> None:
    assert masked_word("a.password=x y z") == "a.password=***"
    assert masked_word("steps=4") == "steps=4"


def test_no_file_of_a_run_holds_the_environments_token(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "hf-token-of-the-test-0123456789"
    suite = write_suite(tmp_path / "mine.yaml", methods=["standard", "inversion"], metrics=["shapes-imagereward"],
                        controls=None, steps=2)  # fmt: skip
    runs = tmp_path / f"runs-{secret}"
    words = ["run", suite, "--limit", 1, "--runs", runs, "--no-cache", "--device", "cpu"]
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
    done = bench(*words)
    assert done.code == 0, done.err
    (folder,) = [path for path in runs.iterdir() if path.is_dir()]
    ledger = sqlite3.connect(folder / "ledger.sqlite")
    recorded: Any = json.loads(ledger.execute("SELECT provenance FROM sessions").fetchone()[0])
    ledger.close()
    assert f"--runs '{tmp_path}/runs-***'" in recorded["command"]
    for file in folder.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file.name


def test_reasons_and_error_lines_hold_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert first_line(OSError("cannot reach https://me:pw@host/x\nmore")) == "cannot reach https://***@host/x"
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    done = bench("report", tmp_path / "correct-horse-battery")
    assert done.code == 2
    assert "correct-horse-battery" not in done.err

    import argparse

    from bench.cli.program import guarded

    def refused(_: argparse.Namespace) -> int:
        raise UserError("https://me:pw@host/x: not there")

    def broken(_: argparse.Namespace) -> int:
        raise RuntimeError("token=abcdef")

    assert guarded(refused, argparse.Namespace()) == 2
    assert guarded(broken, argparse.Namespace()) == 4
    err = capsys.readouterr().err
    assert "https://***@host/x" in err
    assert "token=***" in err
