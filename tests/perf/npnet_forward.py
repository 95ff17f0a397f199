"""What NPNet costs at SDXL's size: milliseconds and peak memory by branch, and FLOPs beside a 50-step SDXL run.

    python tests/perf/npnet_forward.py [--threads 2] [--batch 1 8] [--device cpu]

Weights are untrained: neither time nor FLOPs depend on them. SDXL's UNet is counted on the meta device from its
published configuration, so nothing is downloaded and nothing is computed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

STEPS = 50
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def milliseconds(call: Callable[[], object], *, repeats: int) -> float:
    """The median of `repeats` calls after one that warms up."""
    import torch

    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started))
    return sorted(times[1:])[repeats // 2]


def measure(batch: int, device: str, repeats: int) -> None:
    """One line a branch for one batch size, in a process of its own, so that its peak memory is its own."""
    import torch

    from npnet import NPNet, NPNetConfig
    from npnet.network.model import decompose

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = NPNet(NPNetConfig.sdxl()).eval().requires_grad_(False).to(device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 4, 128, 128, generator=generator).to(device)
    prompt = torch.randn(batch, 77, 2048, generator=generator).to(device)
    assert network.text is not None
    assert network.svd is not None
    assert network.residual is not None
    e, factors = network.text(x, prompt), decompose(x)
    parts: dict[str, Callable[[], object]] = {
        "text": lambda: network.text(x, prompt),  # type: ignore[misc]
        "svd": lambda: decompose(x),
        "svd_mlps": lambda: network.svd(x, factors),  # type: ignore[misc]
        "residual": lambda: network.residual(x + e, prompt),  # type: ignore[misc]
        "whole": lambda: network(x, prompt),
    }
    with torch.inference_mode():
        parts_ms = {name: milliseconds(call, repeats=repeats) for name, call in parts.items()}
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    kind = "process"
    if device != "cpu":
        peak, kind = torch.cuda.max_memory_allocated() / 2**20, "device"
    shown = ", ".join(f"{name} {ms:.1f} ms" for name, ms in parts_ms.items())
    print(f"batch {batch}: {shown}; peak {peak:.0f} MiB above the imports ({kind})")


def flops() -> tuple[float, float]:
    """FLOPs of NPNet on one latent, and of one guided call (a batch of two) of SDXL's UNet."""
    import torch
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    from npnet import NPNet, NPNetConfig

    network = NPNet(NPNetConfig.sdxl()).eval().requires_grad_(False)
    with FlopCounterMode(display=False) as small:
        network(torch.randn(1, 4, 128, 128), torch.randn(1, 77, 2048))
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL_UNET)
        conditions = {"text_embeds": torch.empty(2, 1280), "time_ids": torch.empty(2, 6)}
        with FlopCounterMode(display=False) as large:
            unet(
                torch.empty(2, 4, 128, 128),
                torch.tensor(901, device="meta"),
                encoder_hidden_states=torch.empty(2, 77, 2048),
                added_cond_kwargs=conditions,
            )
    return small.get_total_flops(), large.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import torch

        torch.set_num_threads(options.threads)
        measure(options.batch[0], options.device, options.repeats)
        return
    for batch in options.batch:
        given = ["--one", "--batch", str(batch), "--threads", str(options.threads), "--device", options.device]
        subprocess.run([sys.executable, __file__, *given, "--repeats", str(options.repeats)], check=True)
    small, large = flops()
    print(
        f"FLOPs, the decomposition itself not counted: NPNet {small / 1e9:.2f} G, a guided SDXL call "
        f"{large / 1e12:.2f} T; share of {STEPS} steps {small / (STEPS * large):.2e}"
    )


if __name__ == "__main__":
    main()
