"""Real scorers on small random checkpoints: settings, digests, precision, memory, files that are not what they say."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import small_blip
from reference import small_clips as small

from bench import registry
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Part, _fetched, tensors
from bench.metrics.pixels import cropped, padded
from bench.prompts.base import Prompt

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = [Prompt(0, "a red circle"), Prompt(1, "a blue square")]


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.hps_folder(tmp_path_factory.mktemp("hps"), "settings")


@cache
def pictures() -> list[np.ndarray]:
    return small.images("settings")[1:3]


def entry_at(name: str, folder: Path, dtype: str = "fp32") -> MetricEntry:
    entry: MetricEntry = registry.get("metrics", name).configured(str(folder), dtype)
    return entry


def test_the_digest_follows_content_and_precision_not_place(hps: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(hps, tmp_path / "copy"))
    first, own = entry_at("hpsv2", hps).digest(), entry_at("hpsv2", hps).identify()
    assert entry_at("hpsv2", copy).digest() == first
    assert entry_at("hpsv2", copy, "bf16").identify() == f"{own}:bf16"
    file = copy / "HPS_v2.1_compressed.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    assert entry_at("hpsv2", copy).digest() != first
    assert registry.get("metrics", "hpsv2").digest() != first, "the published file is another one"
    second = entry_at("hpsv2", copy).digest()
    config = copy / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")
    assert entry_at("hpsv2", copy).digest() != second, "the same weights by another architecture"


def test_a_file_that_is_not_published_is_known_by_its_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry: MetricEntry = registry.get("metrics", "mps")
    digests = [entry.digest()]
    for place, content in (("one", b"a"), ("two", b"b"), ("three", b"a")):
        monkeypatch.setenv("BENCH_SCORERS", str(tmp_path / place))
        digests.append(entry.digest())
        assert digests[-1] == digests[0]
        assert not entry.of_this_machine
        (tmp_path / place).mkdir()
        (tmp_path / place / "MPS_overall_state.pth").write_bytes(content)
        digests.append(entry.digest())
        assert entry.of_this_machine
    assert digests[2] == digests[6]
    assert len(set(digests)) == 3


def test_half_precision_is_near_and_is_not_single(hps: Path) -> None:
    exact, half = (
        np.array([v.value for v in entry_at("hpsv2", hps, dtype).scorer("cpu").score(pictures(), PROMPTS)])
        for dtype in ("fp32", "bf16")
    )
    assert 1e-6 < np.abs(exact - half).max() < 0.03


def test_a_batch_that_does_not_fit_is_halved_until_it_does(hps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer: Any = entry_at("hpsv2", hps).scorer("cpu")
    expected = [v.value for v in scorer.score(pictures() * 3, PROMPTS * 3)]
    tried: list[int] = []
    judge = scorer.judge

    def little_memory(images: Any, prompts: Any) -> Any:
        tried.append(len(images))
        if len(images) > fits:
            raise torch.OutOfMemoryError("no room")
        return judge(images, prompts)

    monkeypatch.setattr(scorer, "judge", little_memory)
    fits = 2
    values = [v.value for v in scorer.score(pictures() * 3, PROMPTS * 3)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=5e-7)
    assert tried == [6, 3, 1, 1, 1, 1, 1, 1]
    fits = 0
    with pytest.raises(UserError, match="one image does not fit the memory of cpu"):
        scorer.score(pictures(), PROMPTS)


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


def test_pixels_are_torchvisions_and_transformers_own() -> None:
    """The two croppings differ where a margin is odd, and each is its library's."""
    from PIL import Image
    from torchvision import transforms
    from transformers import CLIPImageProcessorPil

    from bench.metrics.pixels import CLIP_MEAN, CLIP_STD

    resize = transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC)
    steps = [resize, transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(CLIP_MEAN, CLIP_STD)]
    theirs, processor = transforms.Compose(steps), CLIPImageProcessorPil()
    apart = 0
    for image in small.images("pixels"):
        ours = [cropped([image], 224, crop)[0] for crop in ("torchvision", "transformers")]
        torch.testing.assert_close(ours[0], theirs(Image.fromarray(image)), rtol=0, atol=5e-7)
        expected = processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(ours[1], expected, rtol=0, atol=5e-7)
        apart += not torch.equal(*ours)
    assert apart, "no margin of these sizes is rounded another way"


def test_an_image_of_one_long_side_is_padded_with_black_on_both_sides() -> None:
    flat = padded([np.full((30, 448, 3), 255, np.uint8)], 224)[0]
    black, white = flat[:, 0, 0], flat[:, 112, 112]
    assert torch.equal(flat[:, :104].flatten(1).amax(1), black)
    assert torch.equal(flat[:, 119:].flatten(1).amax(1), black)
    assert torch.allclose(flat[:, 106:117].flatten(1).amin(1), white, atol=1e-3)
    # The package leaves an image of 224 by less as it is, and its network then fails; here it is padded too.
    assert padded([np.zeros((100, 224, 3), np.uint8)], 224).shape == (1, 3, 224, 224)
    assert padded([np.zeros((1, 1000, 3), np.uint8)], 224).shape == (1, 3, 224, 224)


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


@pytest.fixture(scope="module")
def mps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.mps_folder(tmp_path_factory.mktemp("mps"), "pairs")


def test_mps_prefers_one_image_as_far_as_it_refuses_the_other(mps: Path) -> None:
    scorer: Any = entry_at("mps", mps).loaded("cpu")
    ours, theirs = pictures(), small.near("settings")[1:3]
    there = scorer.score_pairs(theirs, ours, PROMPTS)
    back = scorer.score_pairs(ours, theirs, PROMPTS)
    logits = [v.value for v in scorer.score(ours, PROMPTS)]
    for one, other, logit in zip(there, back, logits, strict=True):
        assert one.value + other.value == pytest.approx(1, abs=1e-5)
        assert one.value == pytest.approx(1 / (1 + np.exp(one.detail["logits"][0] - one.detail["logits"][1])))
        assert one.detail["logits"][1] == pytest.approx(logit, abs=1e-4)
        assert abs(one.value - 0.5) > 1e-3
    assert [v.value for v in scorer.score_pairs(ours, ours, PROMPTS)] == pytest.approx([0.5, 0.5], abs=1e-5)


def test_mps_leaves_out_the_words_that_the_condition_does_not_ask_for(
    mps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer: Any = entry_at("mps", mps).loaded("cpu")
    found = []
    for threshold in (0.01, -1e9):
        monkeypatch.setattr("bench.metrics.mps.THRESHOLD", threshold)
        found.append([v.value for v in scorer.score(pictures(), PROMPTS)])
    assert np.abs(np.subtract(*found)).min() > 0.01


def test_a_logit_that_is_not_a_number_is_no_preference() -> None:
    from bench.metrics.mps import _logistic

    assert np.isnan(_logistic(float("nan")))
    assert [_logistic(x) for x in (-1000.0, 0.0, 1000.0)] == [0.0, 0.5, 1.0]


def test_a_state_dict_of_mps_without_its_cross_attention_is_refused(mps: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mps, tmp_path / "mps"))
    state = {n: v for n, v in small.mps_state("pairs").items() if not n.endswith("layers.1.0.fn.to_q.weight")}
    torch.save(state, folder / "MPS_overall_state.pth")
    with pytest.raises(UserError, match=r"another version or architecture: it lacks layers\.1\.0\.fn\.to_q\.weight"):
        entry_at("mps", folder).loaded("cpu")


def test_imagereward_cuts_a_prompt_at_35_tokens(tmp_path: Path) -> None:
    scorer: Any = entry_at("imagereward", small_blip.reward_folder(tmp_path, "cut")).scorer("cpu")
    texts = ["red cat " * n for n in (16, 17, 40)]  # 33 words of a prompt fit between the two tokens at its ends
    first, second, third = (
        scorer.score(pictures()[:1], [Prompt(0, text + end)])[0].value
        for text, end in zip(texts, (" dog", "", ""), strict=True)
    )
    assert second == third
    assert abs(first - second) > 1e-3


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
