"""`{use: MODEL, size: ..., dtype: ...}` in a suite: what is made, what is in the id, what is refused."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_unet
from conftest import call
from PIL import Image
from suite_texts import TWO_ARMS, suite_text

from bench import registry, suite
from bench.errors import UserError
from bench.models.base import ModelEntry
from bench.models.loading import OPTIONS
from bench.runner.generator import Generator
from bench.runner.plan import make_plan
from bench.store import Ledger
from bench.store.images import pixel_digest, read_png
from bench.suite.models import ModelSettings

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
PLAIN = "{use: shapes-sdxl}"


def text_of(model: str) -> str:
    """A suite whose model is as a user writes it, on line 2: what is tested is the format."""
    plain = {"steps": 2, "guidance": None, "methods": ["standard"], "metrics": ["shapes-imagereward"]}
    return f"name: configured\nmodels: [{model}]\n" + suite_text(TWO_ARMS, name=None, models=None, **plain)


def parsed(model: str, **given: object) -> suite.Suite:
    return suite.parse(text_of(model), file="configured.yaml", limit=1, **given)  # type: ignore[arg-type]


def ids(model: str) -> set[str]:
    return set(make_plan(parsed(model)).jobs)


def run(model: str, tmp_path: Path) -> list[np.ndarray]:
    """The image (H, W, 3) of a run of one prompt."""
    (file := tmp_path / "configured.yaml").write_text(text_of(model))
    shutil.rmtree(runs := tmp_path / "runs", ignore_errors=True)
    assert call("run", str(file), "--limit", "1", "--no-cache", "--runs", str(runs)).code == 0
    (folder,) = (p for p in runs.iterdir() if p.is_dir())
    images = Ledger(folder).images()
    return [
        read_png(folder / images[cell.job_id].file, advice="").astype(int) for cell in make_plan(parsed(model)).cells
    ]


def test_a_mapping_keeps_the_name_and_the_settings_apart() -> None:
    made = parsed("{use: shapes-sdxl, size: [64, 128], vae_tiling: true}")
    assert made.models == ("shapes-sdxl",)
    assert made.running["shapes-sdxl"].model_dump(exclude_defaults=True) == {"size": (64, 128), "vae_tiling": True}
    assert suite.Suite.model_validate(made.model_dump(mode="json")) == made


def test_the_time_that_is_planned_grows_with_the_number_of_pixels() -> None:
    plain, large = (make_plan(parsed(m)).costs()["seconds"] for m in ("shapes-sdxl", "{use: shapes-sdxl, size: 128}"))
    assert large == pytest.approx(4 * plain)


def test_a_suite_without_settings_keeps_its_id_and_its_jobs() -> None:
    plain = parsed("shapes-sdxl")
    assert "running" not in plain.canonical()
    assert parsed("{use: shapes-sdxl, vae_tiling: true}").id != plain.id
    assert ids(PLAIN) == ids("shapes-sdxl")


@pytest.mark.parametrize(
    "given",
    ["size: 128", "dtype: bf16", "variant: fp16", "vae_tiling: true", "attention_slicing: true", "compile: true",
     "channels_last: true"],
)  # fmt: skip
def test_what_may_change_pixels_is_in_every_job_id(given: str) -> None:
    assert not ids(f"{{use: shapes-sdxl, {given}}}") & ids("shapes-sdxl")


def test_what_only_moves_networks_is_not() -> None:
    assert ids("{use: shapes-sdxl, offload: model}") == ids("shapes-sdxl")


def test_every_option_of_loading_can_be_written() -> None:
    assert set(OPTIONS) < set(ModelSettings.model_fields)


def test_precision_of_a_model_stands_before_the_suites() -> None:
    plan = make_plan(parsed("{use: shapes-sdxl, dtype: bf16}", overrides=["dtype=fp32"]))
    assert {job.dtype for job in plan.jobs.values()} == {"bf16"}


def test_a_twin_runs_as_it_is_and_says_so() -> None:
    made = parsed("{use: sdxl, size: 768}", twin=True)
    assert (made.models, made.running) == (("shapes-sdxl",), {})
    assert "settings of sdxl play no part: the stand-ins run as they are" in made.notes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("size: 60", "size 60x60 is no multiple of 8"),
        ("size: [64]", "'size' should be pixels, or [height, width], from 8 to 16384, got [64]"),
        ("size: big", "from 8 to 16384, got 'big'"),
        ("size: true", "from 8 to 16384, got true"),
        ("size: 4", "from 8 to 16384, got 4"),
        ("dtype: fp8", "'dtype' of model 'shapes-sdxl'"),
        ("offload: disk", "'offload' of model 'shapes-sdxl'"),
        ("vae_tilling: true", "'vae_tilling'"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(given: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(f"{{use: shapes-sdxl, {given}}}")
    assert str(caught.value).startswith("configured.yaml:2: ")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_transformer_has_whole_patches() -> None:
    with pytest.raises(UserError, match="size 1032x1032 is no multiple of 16, the factor of its autoencoder times its"):
        parsed("{use: hunyuan-dit, size: 1032}")


@pytest.mark.parametrize("given", ["[{size: 64}]", "[3]", "[{use: nothing, size: 64}]"])
def test_a_model_without_a_name_is_one_line(given: str) -> None:
    with pytest.raises(UserError, match=r"configured.yaml:2: .*model"):
        parsed(given[1:-1])


def test_another_size_makes_images_of_that_size(tmp_path: Path) -> None:
    assert [image.shape for image in run("{use: shapes-sdxl, size: [64, 96]}", tmp_path)] == [(64, 96, 3)]


def made(model: str) -> np.ndarray:
    """The image (H, W, 3) of the suite's one job, as a run's generator makes it."""
    found = parsed(model)
    with found.configured():
        generator = Generator("cpu")
        (png,) = generator.make(list(make_plan(found).jobs.values())).pngs
        generator.close()
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.fixture(scope="module")
def plain(one_thread: None) -> np.ndarray:
    """The image without any setting."""
    return made("shapes-sdxl")


@pytest.mark.parametrize("given", ["vae_tiling: true", "attention_slicing: true", "channels_last: true"])
def test_what_saves_memory_or_time_makes_the_same_picture(given: str, plain: np.ndarray) -> None:
    """To rounding: an image of one tile is decoded as it is, and the other two only order sums differently."""
    assert abs(plain - made(f"{{use: shapes-sdxl, {given}}}")).max() <= 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SDXL's folder."""
    return tiny_unet.save_sdxl(tmp_path_factory.mktemp("settings") / "tiny")


def test_options_reach_the_networks(tiny: Path) -> None:
    entry = tiny_unet.entry(tiny)
    family = entry.configured(vae_tiling=True, attention_slicing=True, channels_last=True).load("cpu")
    parts = family.modules()
    assert parts["vae"].use_tiling
    assert {type(p).__name__ for p in parts["denoiser"].attn_processors.values()} == {"SlicedAttnProcessor"}
    weight = parts["denoiser"].conv_in.weight
    assert weight.stride()[1] == 1 != weight.contiguous().stride()[1]
    plain = entry.load("cpu").modules()
    assert not plain["vae"].use_tiling


def test_a_compiled_denoiser_is_counted_as_before_and_its_copies_are_their_own(tiny: Path) -> None:
    from bench.models.worn import _copied

    own = tiny_unet.entry(tiny).configured(compile=True).load("cpu").modules()
    network = own["denoiser"]
    assert "forward" in vars(network)
    copied = _copied(network)
    assert "forward" not in vars(copied)
    assert copied.forward.__self__ is copied


def test_a_variant_reads_its_files(tiny: Path, tmp_path: Path) -> None:
    """Only files of the variant are there, so that reading any other would fail."""
    folder = shutil.copytree(tiny, tmp_path / "tiny")
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    entry = tiny_unet.entry(folder)
    entry.configured(variant="fp16").load("cpu")
    with pytest.raises(UserError, match="does not load from"):
        entry.load("cpu")


def test_offload_without_a_gpu_is_one_line(tiny: Path) -> None:
    entry = tiny_unet.entry(tiny).configured(offload="model")
    with pytest.raises(UserError, match=r"^model 'tiny': offload model moves .* device is cpu; leave it out"):
        entry.load("cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["model", "sequential"])
def test_offload_changes_no_pixel(how: str) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    x = torch.randn(1, *entry.latent, generator=torch.Generator().manual_seed(0)).to("cuda", torch.float16)
    digests = {pixel_digest(e.load("cuda").decode(x)[0]) for e in (entry, entry.configured(offload=how))}
    assert len(digests) == 1


def test_a_configured_entry_is_another_identity(tmp_path: Path) -> None:
    entry = tiny_unet.entry(tiny_unet.save_sd(tmp_path / "tiny"))
    assert entry.configured() == entry
    assert entry.configured(size=(64, 64)).digest() == entry.digest()  # the size is in the job id on its own
    assert entry.configured(size=(64, 32)).latent == (4, 32, 16)
    assert entry.configured(compile=True).digest() != entry.digest()
