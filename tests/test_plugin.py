"""A noise method of another package: installed with pip, listed with its source, and run like our own."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Bench, Run
from suite_texts import BEST_OF_2, write_suite

from bench.sampling import noise


def test_a_method_of_another_package_is_listed_with_its_source(bench_forked: Bench, installed: dict[str, str]) -> None:
    done = bench_forked("ls", "methods", env=installed)
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.split()[:1] == ["flip"]]
    assert line.endswith("at no cost  [bench-example-plugin]")
    (ours,) = [line for line in done.out.splitlines() if line.split()[:1] == ["inversion"]]
    assert not ours.endswith("]")


def test_a_method_of_another_package_is_unknown_without_it(bench_forked: Bench) -> None:
    assert "flip" not in bench_forked("ls", "methods").out.split()


def test_a_method_of_another_package_runs_beside_ours(
    bench_forked: Bench, installed: dict[str, str], tmp_path: Path
) -> None:
    flipped = tmp_path / "flipped.yaml"
    unmoved = {"use": "flip", "name": "unmoved", "strength": 0}
    methods = ["standard", "flip", unmoved, BEST_OF_2, "reseed"]
    write_suite(flipped, models=["sdxl"], prompts=["pick-a-pic"], methods=methods)
    options = ("--twin", "--limit", 2, "--runs", tmp_path, "--no-cache", "--set", "steps=4", "--device", "cpu")
    done = bench_forked("run", flipped, *options, env=installed)
    assert done.code == 0, done.err
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    results = json.loads((folder / "results.json").read_text())
    arms = {a["method"]: a for a in results["arms"] if a["prompts"] == "*"}
    assert arms["flip"]["complete"]
    assert arms["flip"]["cost"]["calls_total"] == arms["standard"]["cost"]["calls_total"]
    run = Run(flipped, tmp_path, tmp_path, folder)
    rows = run.rows(
        "SELECT method, prompt, seed, latent_digest, digest FROM cells JOIN images USING (job_id) "
        "WHERE method IN ('flip', 'unmoved', 'standard')"
    )
    images: dict[str, dict[str, str]] = {}
    for method, prompt, seed, latent_digest, digest in rows:
        latent = noise.draw(prompt, seed, (4, 8, 8)) * (-1 if method == "flip" else 1)
        assert latent_digest == noise.digest(latent), f"{method} got another latent than it should"
        images.setdefault(prompt, {})[method] = digest
    assert len(images) == 2
    for of in images.values():
        assert of["flip"] != of["standard"]
        assert of["unmoved"] == of["standard"]
