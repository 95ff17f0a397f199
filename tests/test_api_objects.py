"""What a notebook gives in the place of a suite's methods, prompts and metrics, and the one line for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from notebook_cells import BRIGHTER, SHIFTED, SUITE, Notebook
from notebook_cells import notebook as notebook

import bench as package
from bench.api.objects import suite_of
from bench.errors import UserError

ROOT = Path(__file__).parents[1]


def test_an_object_takes_the_place_of_the_suites_method_of_its_label() -> None:
    from bench.methods.inversion import Inversion

    suite = suite_of(SUITE, methods=[Inversion(inversion_guidance=3.0)])
    assert [m.label for m in suite.methods] == ["standard", "inversion"]
    assert suite.methods[1].chain[0].params["inversion_guidance"] == 3.0
    assert suite.controls == {}
    assert suite.gates == ()


def test_names_keep_what_the_suite_has_and_add_what_it_lacks() -> None:
    suite = suite_of(SUITE, methods=["reseed", "ays"], metrics=["shapes-preference", "shapes-geneval"], limit=3)
    assert [m.label for m in suite.methods] == ["standard", "reseed", "ays"]
    assert suite.metrics == ("shapes-geneval", "shapes-preference")
    assert suite.limit == 3
    assert suite_of(SUITE).id == suite_of(dict(reversed(SUITE.items()))).id


def test_other_prompts_leave_out_the_gates_of_those_that_they_replace() -> None:
    assert len(suite_of(SUITE).gates) == 1
    suite = suite_of(SUITE, prompts="shapes-drawbench")
    assert suite.prompts == ("shapes-drawbench",)
    assert suite.gates == ()


def test_a_file_and_a_mapping_of_it_are_one_suite(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "api.yaml").write_text(yaml.safe_dump(SUITE))
    assert suite_of(tmp_path / "api.yaml").id == suite_of(SUITE).id
    twin = suite_of(ROOT / "suites" / "sdxl_main.yaml", twin=True, limit=2, overrides={"steps": 3})
    assert twin.twin
    assert twin.steps == (3,)


def test_objects_run_as_they_are_beside_stand_ins(notebook: Notebook) -> None:
    notebook.cell(SHIFTED)
    notebook.cell(BRIGHTER)
    suite = suite_of(
        ROOT / "suites" / "sdxl_main.yaml", twin=True, methods=[notebook["Shifted"]()], prompts=["a red circle"],
        metrics=["clipscore", notebook["brighter"]],
    )  # fmt: skip
    assert suite.models == ("shapes-sdxl",)
    assert suite.metrics == ("shapes-clipscore", "brighter")
    assert [m.label for m in suite.methods] == ["standard", "shifted"]
    assert suite.prompts[0].startswith("prompts-")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"suite": {**SUITE, "methods": ["standard", "inverson"]}}, r"suite\['methods'\]\[1\]: .*'inversion'"),
        ({"suite": {**SUITE, "stpes": 3}}, r"suite\['stpes'\]: unknown key"),
        ({"suite": {**SUITE, "seeds": [object()]}}, r"suite\['seeds'\]\[0\]: expected text, a number"),
        ({"suite": "nowhere.yaml"}, "nowhere.yaml: no such file"),
        ({"methods": ["inverson"]}, r"methods\[0\]: .*'inversion'"),
        ({"methods": [3]}, "methods: expected a Method"),
        ({"methods": "inversion"}, r"methods: expected a list.*\['inversion'\]"),
        ({"methods": ["inversion"], "overrides": {"baseline": "reseed2"}}, "reseed2"),
        ({"prompts": []}, "empty list"),
        ({"prompts": ["a cat", "a cat"]}, r"prompts\[1\]: the same prompt as number 0"),
        ({"prompts": ["shapes-drawbench"]}, "is the name of a prompt set"),
        ({"prompts": [{"promt": "a cat"}]}, r"prompts\[0\]: .*'promt'"),
        ({"prompts": {"mine": [7]}}, r"prompts\['mine'\]\[0\]: expected text"),
        ({"metrics": [7]}, "metrics: expected a name"),
        ({"metrics": ["clipscroe"]}, "clipscore"),
        ({"limit": 0}, "limit"),
        ({"shard": (0, 4)}, r"shard=\(0, 4\): expected \(i, n\) with i from 1 to n, such as \(1, 8\)"),
        ({"shard": (5, 4)}, "expected .i, n. with i from 1 to n"),
        ({"shard": "1/4"}, "shard='1/4': expected"),
        (
            {"shard": (1, 4), "batch_size": "auto", "device": "cpu", "limit": 1},
            "shard= 1/4: batches of 50 images leave",
        ),
        ({"plugins": ["nowhere.py"]}, "nowhere.py: no such file"),
    ],
)
def test_bad_input_is_one_clear_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as error:
        package.run(**{"suite": SUITE, "runs": tmp_path, **change})
    assert len(str(error.value).splitlines()) == 1
    assert error.value.__suppress_context__
    assert not [*tmp_path.iterdir()]


def test_a_method_whose_parameters_cannot_be_written_down_is_refused(notebook: Notebook) -> None:
    notebook.cell(
        SHIFTED + "\n\nclass Called(Method):\n    name: str = 'a'\n\n    def noise(self, s, x):\n        return x"
    )
    with pytest.raises(UserError, match="cannot be called 'name'"):
        suite_of(SUITE, methods=[notebook["Called"]()])
    notebook.cell("class Odd(Shifted):\n    how: object = None")
    with pytest.raises(UserError, match="cannot be written down"):
        suite_of(SUITE, methods=[notebook["Odd"](how=object())])
