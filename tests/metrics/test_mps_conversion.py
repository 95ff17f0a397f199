"""MPS's pickled module becomes a state dict in a process of its own, and nothing in the file is executed."""

from __future__ import annotations

import pickle
import runpy
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call
from reference import small_clips as small

from bench import registry
from bench.errors import UserError
from bench.metrics.conversion import STATE, _convert, convert_mps
from bench.metrics.networks import cross
from bench.metrics.networks.module import module_state
from bench.prompts.base import Prompt

pytestmark = pytest.mark.usefixtures("one_thread")


def pickled(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole small MPS as its authors' code saves it: classes of `trainer.models` and transformers, hooks and all."""
    from transformers import CLIPConfig, CLIPModel

    home = types.ModuleType("trainer.models.cross_modeling")
    for name in ("Norm", "Gate", "Rotary", "Cross", "Own", "Residual", "CrossModel"):
        monkeypatch.setattr(getattr(cross, name), "__module__", home.__name__)
        setattr(home, name, getattr(cross, name))
    names = {"__module__": "trainer.models.clip_model"}
    whole = types.ModuleType("trainer.models.clip_model")
    whole.XCLIPModel = type("XCLIPModel", (CLIPModel,), dict(names))  # type: ignore[attr-defined]
    whole.CLIPModel = type("CLIPModel", (torch.nn.Module,), dict(names))  # type: ignore[attr-defined]
    for module in (types.ModuleType("trainer"), types.ModuleType("trainer.models"), home, whole):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    small.clip_folder(path.parent / "clip", "pairs", act="gelu")
    state = small.mps_state("pairs")
    model: Any = whole.CLIPModel()
    model.model = whole.XCLIPModel(CLIPConfig.from_pretrained(path.parent / "clip"))
    below = {n.removeprefix("cross_model."): v for n, v in state.items() if n.startswith("cross_model.")}
    model.cross_model = cross.CrossModel.of(below)
    model.cross_model.load_state_dict(below)
    model.model.load_state_dict(
        {n.removeprefix("model."): v for n, v in state.items() if n.startswith("model.")}, strict=False
    )
    torch.save(model, path)
    monkeypatch.undo()
    assert "trainer.models" not in sys.modules
    return path


def test_the_converted_file_scores_as_the_state_dict_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pickled(tmp_path / "MPS_overall_checkpoint.pth", monkeypatch)
    with pytest.raises(Exception, match=r"trainer|Weights only"):
        torch.load(source, weights_only=True)
    expected = small.mps_folder(tmp_path / "expected", "pairs")
    out = tmp_path / "converted"
    small.clip_folder(out / "CLIP-ViT-H-14-laion2B-s32B-b79K", "pairs", act="gelu")
    done = call("convert", "mps", source, out)
    assert done.code == 0, done.err
    assert str(out / STATE) in done.out
    written = torch.load(out / STATE, weights_only=True)
    for name, value in small.mps_state("pairs").items():
        assert torch.equal(written[name], value), name
    prompts = [Prompt(0, "a red circle"), Prompt(1, "a blue square")]
    ours, theirs = small.images("pairs")[1:3], small.near("pairs")[1:3]
    one, other = (
        [
            v.value
            for v in registry.get("metrics", "mps")
            .configured(str(f), "fp32")
            .loaded("cpu")
            .score_pairs(theirs, ours, prompts)
        ]
        for f in (out, expected)
    )
    assert one == other


def run_here(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    """A module's program in this process: the one above has imported torch in its own."""
    python, flag, module, *arguments = words
    assert (python, flag) == (sys.executable, "-m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        patch.delitem(sys.modules, module)
        runpy.run_module(module, run_name="__main__")
    return subprocess.CompletedProcess(words, 0, "", "")


def test_without_a_target_it_lies_where_scorers_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pickled(tmp_path / "MPS_overall_checkpoint.pth", monkeypatch)
    monkeypatch.setenv("BENCH_SCORERS", str(tmp_path / "kept"))
    monkeypatch.setattr(subprocess, "run", run_here)
    assert convert_mps(source) == tmp_path / "kept" / STATE
    assert (tmp_path / "kept" / STATE).is_file()


class Call:
    """What a pickle may ask to be called."""

    def __init__(self, function: Any, *arguments: Any):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("function", [Path.touch, subprocess.run, getattr], ids=lambda f: f.__name__)
def test_what_no_network_is_made_of_is_refused(function: Any, tmp_path: Path) -> None:
    ran, file = tmp_path / "ran", tmp_path / "MPS_overall_checkpoint.pth"
    arguments = {"touch": (ran,), "run": (["touch", str(ran)],), "getattr": ("a", "upper")}[function.__name__]
    torch.save(Call(function, *arguments), file)
    with pytest.raises(UserError, match="nothing in it was executed") as caught:
        _convert(file, tmp_path / "out" / STATE)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    assert not (tmp_path / "out").exists()


def test_a_function_of_a_network_s_package_is_not_called_either(tmp_path: Path) -> None:
    ran, file = tmp_path / "ran", tmp_path / "file.pth"
    module = torch.nn.Linear(2, 2)
    module.extra = Call(torch.save, {"a": 1}, str(ran))
    torch.save(module, file)
    assert set(module_state(file)) == {"weight", "bias"}
    assert not ran.exists()
    torch.load(file, weights_only=False)
    assert ran.exists(), "loading it as PyTorch does runs it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": torch.zeros(1)}, "holds no module"),
        (torch.nn.Linear(2, 2), "a module, but not MPS: it has no model.text_projection.weight"),
        (b"<html>", "not a file of torch.save"),
        ("cut", "not a module of tensors|not a file of torch.save"),
        ("empty", "no pickle in it"),
    ],
)
def test_another_file_is_one_line(content: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "MPS_overall_checkpoint.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "empty":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("MPS/version", "3")
    elif content == "cut":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("MPS/data.pkl", pickle.dumps(torch.nn.Module, 2)[:-3])
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=said) as caught:
        _convert(file, tmp_path / STATE)
    assert "\n" not in str(caught.value)
    done = call("convert", "mps", tmp_path / "absent.pth", tmp_path)
    assert done.code == 2
    assert "no such file" in done.error
