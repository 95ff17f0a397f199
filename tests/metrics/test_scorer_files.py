"""Files of scorers that are not what they say, and the forms in which the right ones are published."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import small_blip
from reference import small_clips as small
from small_scorers import PROMPTS, entry_at, pictures
from small_scorers import hps as hps

from bench import registry
from bench.errors import UserError
from bench.metrics.checkpoint import Part, _fetched, tensors

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("hpsv2", r"lacks HPS_v2\.1_compressed\.pt"),
        ("hpsv2-v2.0", r"lacks HPS_v2_compressed\.pt"),
        ("pickscore", "lacks PickScore_v1"),
        ("aesthetic", r"lacks sac\+logos\+ava1-l14-linearMSE\.pth, clip-vit-large-patch14"),
        ("clipscore", r"lacks clip-vit-base-patch32; expected a folder that holds .* or ViT-B-32\.pt"),
    ],
)
def test_a_folder_without_the_published_names_is_refused(name: str, lacks: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=lacks) as caught:
        entry_at(name, tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such folder"):
        entry_at(name, tmp_path / "nowhere")


class Code:
    """What a pickle may hold that is no tensor."""

    def __reduce__(self) -> Any:
        return (Path.touch, (ran,))


ran = Path("ran")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a file of weights"),
        (b"<html>not found</html>", "nothing in it was executed"),
        (None, "truncated, or not a file of weights"),
        ("code", "nothing in it was executed"),
        ({"state_dict": {"other.weight": torch.zeros(2)}}, r"another version or architecture: it lacks"),
        ([1, 2], "holds no state dict"),
    ],
)
def test_a_file_that_is_no_such_checkpoint_is_one_line(content: Any, said: str, hps: Path, tmp_path: Path) -> None:
    global ran
    ran = tmp_path / "ran"
    folder = Path(shutil.copytree(hps, tmp_path / "hps"))
    file = folder / "HPS_v2.1_compressed.pt"
    if content is None:
        file.write_bytes(file.read_bytes()[:100_000])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "code":
        file.write_bytes(pickle.dumps(Code()))
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=said) as caught:
        entry_at("hpsv2", folder).scorer("cpu")
    assert "\n" not in str(caught.value)
    assert not ran.exists()


def test_offline_and_absent_is_one_line_with_the_way_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    part = Part("HPS_v2.1_compressed.pt", "someone/none", "0" * 40)
    with pytest.raises(UserError, match=r"someone/none@00000000 .* is not on this machine") as caught:
        _fetched("hpsv2", part, "a folder that holds HPS_v2.1_compressed.pt")
    assert "--metric hpsv2=FOLDER" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("BENCH_SCORERS", str(tmp_path / "scorers"))
    with pytest.raises(UserError, match="`python -m bench fetch --metric aesthetic` gets them; or give a folder"):
        registry.get("metrics", "aesthetic").check_here()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_openais_own_file_scores_as_the_folder_does(tmp_path: Path) -> None:
    """As a state dict, and as the TorchScript archive that OpenAI publishes."""
    from open_clip.model import CLIP

    small.in_folder("clip-vit-base-patch32", tmp_path / "folder", "both", act="quick_gelu")
    for place in ("file", "archive"):
        (tmp_path / place).mkdir()
        small.write_open_clip_config(tmp_path / place)
    torch.save(small.openai_state("both"), tmp_path / "file" / "ViT-B-32.pt")
    model = CLIP(**small.OPEN_CLIP, quick_gelu=True).eval()
    model.load_state_dict(small.openai_state("both"))
    given = (torch.zeros(1, 3, small.SIDE, small.SIDE), torch.zeros(1, small.LENGTH, dtype=torch.long))
    torch.jit.trace(model, given, check_trace=False).save(tmp_path / "archive" / "ViT-B-32.pt")
    one, *others = (
        [v.value for v in entry_at("clipscore", tmp_path / place).scorer("cpu").score(pictures(), PROMPTS)]
        for place in ("folder", "file", "archive")
    )
    assert others[0] == others[1]
    np.testing.assert_allclose(one, others[0], rtol=0, atol=5e-7)
    assert min(one) > 0.1


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Path.touch, 2), b"\x80\x02X\x01", pickle.dumps({"a": 1}, 2)[:-1]],
    ids=["code", "cut", "open"],
)
def test_an_archive_that_holds_more_than_tensors_is_refused(content: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ViT-B-32.pt", "w") as archive:
        archive.writestr("model/data.pkl", content)
        archive.writestr("model/constants.pkl", b"")
    with pytest.raises(UserError, match="nothing in it was executed"):
        tensors(tmp_path / "ViT-B-32.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "med_config.json").write_text("{}"), r"med_config\.json: not the text encoder's configuration"),
        (lambda f: torch.save({"mlp.layers.0.weight": torch.zeros(2, 2)}, f / "ImageReward.pt"), "does not load from"),
        (lambda f: shutil.rmtree(f / "bert-base-uncased"), "lacks bert-base-uncased"),
    ],
)
def test_what_is_wrong_with_a_folder_of_imagereward_is_one_line(change: Any, said: str, tmp_path: Path) -> None:
    folder = small_blip.reward_folder(tmp_path, "wrong")
    change(folder)
    with pytest.raises(UserError, match=said) as caught:
        entry_at("imagereward", folder).scorer("cpu")
    assert "\n" not in str(caught.value)
