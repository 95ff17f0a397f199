"""`--twin` on a suite whose models are the embedded ones already."""

from __future__ import annotations

from pathlib import Path

from bench import suite


def test_a_suite_of_embedded_models_keeps_its_settings_and_files_on_the_twin(tmp_path: Path) -> None:
    """Nothing is exchanged, so steps, guidance and a file of prompts are the suite's own."""
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a red circle"}\n')
    text = (
        "name: own\nmodels: [shapes-sdxl]\nsamplers: [ddim]\nsteps: 7\nguidance: 2.0\nseeds: [0]\nbaseline: standard\n"
        f'prompts: ["file:{tmp_path}/mine.jsonl"]\nmethods: [standard, reseed]\nmetrics: [shapes-clipscore]\n'
    )
    there, twin = (suite.parse(text, file="own.yaml", twin=twin) for twin in (False, True))
    assert (twin.steps, twin.guidance, twin.prompts) == (there.steps, there.guidance, there.prompts)
    assert not twin.notes
