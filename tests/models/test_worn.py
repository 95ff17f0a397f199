"""A denoiser in other weights: what is kept, what is counted, and in what order things are put on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import tiny_unet
import torch

from bench.errors import UserError
from bench.models.base import Family
from bench.models.worn import dressed, load_network, place_of
from bench.sampling.meter import Meter
from bench.sampling.records import CONTROLNET, LORA, NETWORK, Weights
from bench.weights.files import pin

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("worn")
    tiny_unet.save_sd(found / "own", sharpness=1.0)
    tiny_unet.save_sd(found / "other", sharpness=1.0, seed=1)
    return found


@pytest.fixture(scope="module")
def whole(home: Path) -> Family:
    return tiny_unet.entry(home / "own").load("cpu")


@pytest.fixture
def family(whole: Family) -> Iterator[Family]:
    """A model in its own weights, whatever a test before has put on it."""
    yield whole
    whole.wear([])


def network(home: Path, name: str = "other") -> Weights:
    return pin(str(home / name), of="test")


def denoiser(family: Family) -> Any:
    return family.modules()["denoiser"]


def same(one: Any, other: Any) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(v, theirs[k]) for k, v in one.state_dict().items())


def test_a_network_is_loaded_once_and_the_models_own_comes_back(home: Path, family: Family) -> None:
    own = denoiser(family)
    family.wear([network(home)])
    worn = denoiser(family)
    assert worn is not own
    assert same(worn, tiny_unet.entry(home / "other").load("cpu").modules()["denoiser"])
    family.wear([])
    assert denoiser(family) is own
    family.wear([network(home)])
    assert denoiser(family) is worn


def test_the_same_weights_elsewhere_are_the_same_network(home: Path, family: Family, tmp_path: Path) -> None:
    shutil.copytree(home / "other", tmp_path / "moved")
    family.wear([network(home)])
    worn = denoiser(family)
    family.wear([pin(str(tmp_path / "moved"), of="test")])
    assert denoiser(family) is worn


def test_worn_networks_are_in_eval_mode_and_need_no_gradients(home: Path, family: Family) -> None:
    family.wear([network(home)])
    worn = denoiser(family)
    assert not worn.training
    assert not any(p.requires_grad for p in worn.parameters())
    assert (worn.dtype, str(worn.device)) == (family.latent_dtype, "cpu")


@pytest.mark.parametrize("file", [False, True])
def test_each_networks_calls_are_counted_once(home: Path, family: Family, file: bool) -> None:
    """Also where a network is a copy of the model's own, which has hooks already."""
    place = "other/unet/diffusion_pytorch_model.safetensors" if file else "other"
    meter = Meter(family.modules(), "cpu")
    embeds = family.encode(["a cat"])
    x = torch.zeros(1, *family.entry.latent)
    for weights in ([], [network(home, place)], [], [network(home, place)]):
        cost = meter.begin(1)
        family.wear(weights)
        meter.rebind(family.modules())
        with torch.no_grad():
            family.network(x, 500, embeds)
        assert cost.nfe(0).forwards == 1
    meter.close()


def test_attention_is_read_of_the_network_that_is_worn(home: Path, family: Family) -> None:
    own = {id(m) for _, m in family.attention("cross") or []}
    family.wear([network(home)])
    worn = {id(m) for _, m in family.attention("cross") or []}
    assert len(own) == len(worn) > 0
    assert own.isdisjoint(worn)


def test_kinds_that_no_denoiser_wears_are_refused(home: Path, family: Family) -> None:
    with pytest.raises(UserError, match="weights of the kind 'controlnet' cannot be put on a denoiser"):
        family.wear([Weights(str(home), CONTROLNET, "d")])
    assert same(denoiser(family), tiny_unet.entry(home / "own").load("cpu").modules()["denoiser"])


def test_a_network_that_does_not_load_leaves_the_models_own(home: Path, family: Family, tmp_path: Path) -> None:
    broken = shutil.copytree(home / "other" / "unet", tmp_path / "broken")
    (file,) = broken.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    weights = pin(str(broken), of="test")
    own = denoiser(family)
    with pytest.raises(UserError, match="these weights do not load on model 'own'") as error:
        family.wear([weights])
    assert "\n" not in str(error.value)
    assert denoiser(family) is own


def test_a_transformer_takes_a_network_and_says_that_it_takes_no_lora(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from safetensors.torch import save_file

    family = tiny_dit.entry(tiny_dit.save(tmp_path / "dit")).load("cpu")
    own = denoiser(family)
    found: Any = family
    assert same(dressed(found, own, [pin(str(tmp_path / "dit" / "transformer"), of="test")]), own)
    save_file({"unet.x.lora_A.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
    lora = pin(str(tmp_path / "lora.safetensors"), of="test")
    assert lora.kind == LORA
    with pytest.raises(UserError, match="diffusers loads no LoRA for its HunyuanDiT2DModel"):
        family.wear([lora])


def test_places_are_named_short_of_the_commit(home: Path) -> None:
    commit = "0123456789" * 4
    assert place_of(pin(f"a/b@{commit}:deep/x.safetensors", of="test")) == "a/b@01234567:deep/x.safetensors"
    assert place_of(network(home)) == str(home / "other" / "unet")


def test_a_network_is_loaded_by_its_own_class(home: Path, family: Family) -> None:
    weights = network(home)
    assert weights.kind == NETWORK
    assert same(
        load_network(type(denoiser(family)), weights, torch.float32), dressed(family, denoiser(family), [weights])
    )  # type: ignore[arg-type]
