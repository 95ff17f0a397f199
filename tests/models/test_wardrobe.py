"""Where denoisers in other weights wait, and LoRAs as other tools write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_unet
import torch
from safetensors.torch import load_file, save_file

from bench.errors import UserError
from bench.models.base import Family
from bench.models.worn import Wardrobe
from bench.sampling.records import Weights
from bench.weights.files import pin

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
RANK, ALPHA = 4, 2.0


class Network:
    """Stands for a denoiser that says where it is."""

    def __init__(self) -> None:
        self.device = "cuda"

    def to(self, device: str) -> Network:
        self.device = device
        return self


class OnGpu:
    device = "cuda"


def test_a_gpu_holds_two_denoisers_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while another is made, which needs the model's own beside it."""
    networks = [Network()]
    wardrobe = Wardrobe(networks[0])

    def present() -> int:
        return sum(network.device == "cuda" for network in networks)

    def dressed(family: Any, own: Network, weights: Any) -> Network:
        networks.append(Network())
        assert own.device == "cuda"
        assert present() <= 2
        return networks[-1]

    monkeypatch.setattr("bench.models.worn.dressed", dressed)
    for turn in ("", "a", "b", "", "a", "a", "b", "c", "", "c", "b"):
        found = wardrobe.network(OnGpu(), [Weights(turn, "network", turn)] if turn else [])  # type: ignore[arg-type]
        assert found.device == "cuda"
        assert present() <= 2
    assert len(networks) == 4


def test_two_that_take_turns_stay_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = Network(), Network()
    monkeypatch.setattr("bench.models.worn.dressed", lambda family, own, weights: other)
    wardrobe = Wardrobe(own)
    for turn in ("a", "", "a", ""):
        wardrobe.network(OnGpu(), [Weights(turn, "network", turn)] if turn else [])  # type: ignore[arg-type]
        assert (own.device, other.device) == ("cuda", "cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_unet.save_sdxl(tmp_path_factory.mktemp("base") / "tiny-sdxl", sharpness=1.0)


@pytest.fixture(scope="module")
def family(folder: Path) -> Family:
    pytest.importorskip("peft")
    return tiny_unet.entry(folder).load("cpu")


def updates(folder: Path, *, width: int | None = None) -> dict[str, torch.Tensor]:
    """A random LoRA under the names that LCM-LoRA's file has, with alphas that are not its rank."""
    generator = torch.Generator().manual_seed(3)
    found: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        if name.endswith("to_q.weight"):
            flat = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            found[f"{flat}.lora_down.weight"] = torch.randn((RANK, width or weight.shape[1]), generator=generator)
            found[f"{flat}.lora_up.weight"] = torch.randn((len(weight), RANK), generator=generator)
            found[f"{flat}.alpha"] = torch.tensor(ALPHA)
    return found


def test_alphas_of_a_lora_count(family: Any, folder: Path, tmp_path: Path) -> None:
    """W + (alpha / rank) up down: an update whose alpha were lost would be twice as large here."""
    given = updates(folder)
    save_file(given, tmp_path / "lcm.safetensors")
    own = {k: v.clone() for k, v in family.modules()["denoiser"].state_dict().items()}
    family.wear([pin(str(tmp_path / "lcm.safetensors"), of="lcm")])
    worn = family.modules()["denoiser"].state_dict()
    changed = 0
    for name, weight in own.items():
        flat = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        expected = weight
        if f"{flat}.alpha" in given:
            changed += 1
            expected = weight + ALPHA / RANK * given[f"{flat}.lora_up.weight"] @ given[f"{flat}.lora_down.weight"]
        torch.testing.assert_close(worn[name], expected, atol=1e-5, rtol=1e-5)
    assert changed > 3
    family.wear([])
    assert all(torch.equal(v, own[k]) for k, v in family.modules()["denoiser"].state_dict().items())


def test_a_lora_of_another_width_is_refused_with_the_layer(family: Family, folder: Path, tmp_path: Path) -> None:
    save_file(updates(folder, width=9), tmp_path / "wide.safetensors")
    with pytest.raises(UserError, match=r"architecture than model 'tiny-sdxl' has \(\S+to_q: 9 wide there, 16 here\)"):
        family.wear([pin(str(tmp_path / "wide.safetensors"), of="lcm")])


def test_a_lora_of_text_encoders_is_refused(family: Family, folder: Path, tmp_path: Path) -> None:
    path = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    text = {f"{path}.lora_A.weight": torch.zeros(4, 32), f"{path}.lora_B.weight": torch.zeros(32, 4)}
    unet = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    both = {**text, f"{unet}.lora_A.weight": torch.zeros(4, 16), f"{unet}.lora_B.weight": torch.zeros(16, 4)}
    for name, tensors, said in (
        ("text", text, "none of its updates is for the unet of model 'tiny-sdxl'"),
        ("both", both, "it changes text_encoder too"),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(UserError, match=said):
            family.wear([pin(str(tmp_path / f"{name}.safetensors"), of="lcm")])
