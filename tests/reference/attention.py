"""Vectors of the public InitNO and Attend-and-Excite, made from checkouts that the user names.

    python tests/reference/attention.py --initno CHECKOUT --attend CHECKOUT [--seed N] [--out DIR]

Checkouts are work trees of github xiefan-guo/initno and yuval-alaluf/Attend-and-Excite; it takes `opencv-python` (for
InitNO's Otsu threshold) and `tqdm` besides the project's own dependencies. Both pipelines import names that today's
diffusers and transformers no longer have; those are filled in with empty classes, as no code that runs here uses them.
The U-Net is `Toy`, whose attention is a few matrix products, so the released loops run on a CPU in a second.

Each file holds the commit that it comes from, the seed, the inputs and what the released code makes of them.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from public_code import VECTORS, write

SIDE, HEADS, DIM, TOKENS = 16, 2, 6, 12
"""The public code has the side of 16 written into it."""
CASES = {"two": ([2, 5], 0.05), "three": ([2, 5, 8], 0.03), "one": ([4], 0.1), "attended": ([2, 8, 9], 0.05)}
"""Token positions of the cases' subjects, and how sharp their attention is; with seed 0 the last one's
cross loss is below a half, so that its conflict counts."""
INITNO = {
    "repository": "github.com/xiefan-guo/initno",
    "file": "initno/pipelines/pipeline_sd_initno.py, utils/attn_utils.py, utils/ptp_utils.py",
    "function": "fn_compute_loss, fn_initno, _perform_iterative_refinement_step, fn_get_otsu_mask, fn_clean_mask",
    "licence": "Apache-2.0",
}
ATTEND = {
    "repository": "github.com/yuval-alaluf/Attend-and-Excite",
    "file": "pipeline_attend_and_excite.py, utils/ptp_utils.py, utils/gaussian_smoothing.py",
    "function": "_aggregate_and_get_max_attention_per_token, _compute_loss, _update_latent, "
    "_perform_iterative_refinement_step",
    "licence": "MIT",
}


class Toy(torch.nn.Module):
    """A stand-in for the U-Net's attention: latents (1, 4, 16, 16) and text (1, T, 6) -> probabilities.

    Its weights are drawn from the seed on the CPU in fp32, and stored with the vectors.
    """

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.weights = weights
        self.store: Any = None

    @staticmethod
    def draw(seed: int, sharpness: float) -> dict[str, torch.Tensor]:
        """`place` varies over a few pixels, so that maps have regions; `sharpness` decides how high their peaks are."""
        generator = torch.Generator().manual_seed(seed)
        shapes = {"query": (HEADS, 4, DIM), "self_query": (HEADS, 4, DIM), "self_key": (HEADS, 4, DIM)}
        weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        coarse = torch.randn((1, 4, SIDE // 4, SIDE // 4), generator=generator)
        return {
            **weights,
            "query": sharpness * weights["query"],
            "place": 2 * torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic"),
            "text": torch.randn((1, TOKENS, DIM), generator=generator),
        }

    def attention(self, latents: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross- (heads, 256, T) and self-attention (heads, 256, 256)."""
        pixels = (latents / 4 + self.weights["place"]).flatten(2).transpose(1, 2)
        cross = (pixels @ self.weights["query"] @ text.transpose(1, 2)).softmax(-1)
        query, key = pixels @ self.weights["self_query"], pixels @ self.weights["self_key"]
        return cross, (query @ key.transpose(1, 2)).softmax(-1)

    def forward(self, latents: torch.Tensor, t: Any, *, encoder_hidden_states: torch.Tensor, **_: Any) -> Any:
        cross, own = self.attention(latents, encoder_hidden_states)
        # As both repositories file them: by place, of which one holds layers here.
        lists: dict[str, list[torch.Tensor]] = {
            f"{p}_{k}": [] for p in ("down", "mid", "up") for k in ("cross", "self")
        }
        self.store.attention_store = {**lists, "up_cross": [cross], "down_self": [own]}
        return types.SimpleNamespace(sample=torch.zeros_like(latents))


@contextmanager
def imports_from(checkout: Path) -> Iterator[None]:
    """Modules of the checkout come first, and are forgotten at the end: both call one `utils`."""
    before = set(sys.modules)
    sys.path.insert(0, str(checkout))
    try:
        yield
    finally:
        sys.path.remove(str(checkout))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in {"utils", "initno", "pipeline_attend_and_excite"}:
                del sys.modules[name]


def fill_in(module: str, *names: str) -> None:
    """Give a module the names that it no longer has, and make it if there is none."""
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        found = sys.modules[module] = types.ModuleType(module)
    for name in names:
        if not hasattr(found, name):
            setattr(found, name, type(name, (), {}))


def commit_of(checkout: Path, given: str | None) -> str:
    """The checkout's commit, from git unless it is given (as for an unpacked archive)."""
    if given:
        return given
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def initno(checkout: Path, seed: int) -> dict[str, Any]:
    """Losses, gradients, the optimised noise and a refined latent of the released InitNO."""
    fill_in(
        "diffusers.loaders", "LoraLoaderMixin", "TextualInversionLoaderMixin", "FromSingleFileMixin", "IPAdapterMixin"
    )
    fill_in("diffusers.models.lora", "adjust_lora_scale_text_encoder")
    fill_in("diffusers.utils", "USE_PEFT_BACKEND", "deprecate", "scale_lora_layers", "unscale_lora_layers")
    fill_in("matplotlib.pyplot")
    with imports_from(checkout):
        released = importlib.import_module("initno.pipelines.pipeline_sd_initno").StableDiffusionInitNOPipeline
        store_of = importlib.import_module("utils.ptp_utils").AttentionStore
        masks = importlib.import_module("utils.attn_utils")
        out: dict[str, Any] = {}
        for number, (case, (tokens, sharpness)) in enumerate(CASES.items()):
            toy = Toy(Toy.draw(seed + number, sharpness))
            start = torch.randn((1, 4, SIDE, SIDE), generator=torch.Generator().manual_seed(seed + 100 + number))
            pipe = released.__new__(released)
            scheduler = types.SimpleNamespace(timesteps=[0], set_timesteps=lambda *_, **__: None)
            fields = {"unet": toy, "scheduler": scheduler, "_internal_dict": {}, "cross_attention_maps_cache": None}
            pipe.__dict__.update(fields, attention_store=store_of((SIDE, SIDE)))
            pipe.__dict__["prepare_extra_step_kwargs"] = lambda *_: {}
            type(pipe)._execution_device = torch.device("cpu")
            toy.store = pipe.attention_store
            text = toy.weights["text"]

            latents = start.clone().requires_grad_()
            toy(latents, 0, encoder_hidden_states=text)
            joint, cross, conflict = pipe.fn_compute_loss(indices=tokens)
            gradient = torch.autograd.grad(joint.sum(), latents)[0]
            toy(start, 0, encoder_hidden_states=text)
            maps = (pipe.attention_store.aggregate_attention(("up",))[:, :, 1:-1] * 100).softmax(-1)
            smoothed = [masks.fn_smoothing_func(maps[:, :, i - 1]) for i in tokens]
            regions = []
            for image in smoothed:
                (peak,), _ = masks.fn_get_topk(image)
                regions.append(masks.fn_clean_mask(masks.fn_get_otsu_mask(image), *peak))

            both = torch.cat([text, text])
            optimised, succeeded, score = pipe.fn_initno(start, tokens, both, max_step=3)
            pipe.__dict__["cross_attention_maps_cache"] = None
            step = {"threshold": 0.999, "text_embeddings": text, "step_size": 2.0, "t": 0, "max_refinement_steps": 3}
            begin = {"cross_attn_loss": torch.ones(()), "self_attn_loss": torch.ones(()), "clean_loss": None}
            done = pipe._perform_iterative_refinement_step(start, tokens, **begin, **step)
            values = {
                **{f"weight_{name}": value for name, value in toy.weights.items()},
                **{"latents": start, "tokens": tokens, "maps": torch.stack(smoothed), "regions": torch.stack(regions)},
                **{"joint": joint, "cross": cross, "conflict": conflict, "gradient": gradient},
                **{"optimised": optimised, "succeeded": succeeded, "score": score, "refined": done[4]},
                **{f"refined_{name}": done[i] for i, name in enumerate(("joint", "cross", "conflict", "clean"))},
            }
            out |= {f"{case}_{name}": value for name, value in values.items()}
        mu, log_var = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(seed)).split(1)
        out |= {"mu": mu, "log_var": log_var, "kl": pipe.fn_calc_kld_loss_func(log_var, mu)}
    return out


def attend(checkout: Path, seed: int) -> dict[str, Any]:
    """Losses, gradients and a refined latent of the released Attend-and-Excite, with and without its SD 2.1 option."""
    fill_in("transformers", "CLIPFeatureExtractor")
    fill_in("diffusers.models.cross_attention", "CrossAttention")
    fill_in("diffusers.utils", "is_accelerate_available", "randn_tensor")
    fill_in("IPython")
    fill_in("IPython.display", "display")
    with imports_from(checkout):
        released = importlib.import_module("pipeline_attend_and_excite").AttendAndExcitePipeline
        store_of = importlib.import_module("utils.ptp_utils").AttentionStore
        out: dict[str, Any] = {}
        for number, (case, (tokens, sharpness)) in enumerate(CASES.items()):
            toy = Toy(Toy.draw(seed + number, sharpness))
            start = torch.randn((1, 4, SIDE, SIDE), generator=torch.Generator().manual_seed(seed + 100 + number))
            pipe = released.__new__(released)
            toy.store = store_of()
            text = toy.weights["text"]
            end = TOKENS - 2  # position of the end of text that the stand-in for a tokenizer reports
            words = types.SimpleNamespace(decode=lambda _: "word")
            pipe.__dict__.update(unet=toy, prompt="a prompt", tokenizer=_Ends(end, words))
            values: dict[str, Any] = {f"weight_{name}": value for name, value in toy.weights.items()}
            values |= {"latents": start, "tokens": tokens, "end": end}
            for name, eot in (("", False), ("eot_", True)):
                how = {"smooth_attentions": True, "normalize_eot": eot}
                latents = start.clone().requires_grad_()
                toy(latents, 0, encoder_hidden_states=text)
                peaks = pipe._aggregate_and_get_max_attention_per_token(toy.store, tokens, **how)
                loss = pipe._compute_loss(peaks)
                moved = pipe._update_latent(latents, loss, 20.0)
                inputs = types.SimpleNamespace(input_ids=[[0] * TOKENS])
                step: dict[str, Any] = {"threshold": 0.999, "text_embeddings": torch.cat([text, text])}
                step |= {"text_input": inputs, "attention_store": toy.store, "step_size": 2.0, "t": 0}
                after, refined, _ = pipe._perform_iterative_refinement_step(
                    start, tokens, torch.ones(()), max_refinement_steps=3, **step, **how
                )
                made = {"peaks": torch.stack(peaks), "loss": loss, "moved": moved, "refined": refined, "after": after}
                values |= {name + key: value for key, value in made.items()}
            out |= {f"{case}_{name}": value for name, value in values.items()}
    return out


class _Ends:
    """Stands in for a tokenizer: every prompt ends at one position."""

    def __init__(self, end: int, words: Any) -> None:
        self.end, self.decode = end, words.decode

    def __call__(self, _: str) -> dict[str, list[int]]:
        return {"input_ids": [0] * (self.end + 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--initno", type=Path, required=True, help="work tree of xiefan-guo/initno")
    parser.add_argument("--attend", type=Path, required=True, help="work tree of yuval-alaluf/Attend-and-Excite")
    parser.add_argument("--initno-commit", help="its commit, where the work tree has no .git")
    parser.add_argument("--attend-commit", help="its commit, where the work tree has no .git")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=VECTORS)
    args = parser.parse_args()
    torch.nn.Module.cuda = lambda self, *_: self  # type: ignore[method-assign,assignment] # one module asks for a GPU
    for name, make, source, checkout, given in (
        ("initno", initno, INITNO, args.initno, args.initno_commit),
        ("attend", attend, ATTEND, args.attend, args.attend_commit),
    ):
        origin = {**source, "commit": commit_of(checkout, given), "seed": args.seed}
        write(args.out, f"attention-{name}-seed{args.seed}", origin, make(checkout, args.seed))


if __name__ == "__main__":
    main()
