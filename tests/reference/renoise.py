"""Vectors of re-noise, the one-step RePaint: `call_renoise` of xie-lab-ml/Golden-Noise-for-Diffusion-Models.

Command: python tests/reference/renoise.py --checkout DIR [--seed N] [--out DIR]
"""

from __future__ import annotations

from typing import Any

import torch
from public_code import Source, arguments, cited, module, write
from released_pipelines import CHECKOUT, case, pipeline

SOURCE = Source(
    repository="xie-lab-ml/Golden-Noise-for-Diffusion-Models",
    commit="aa7103edd7746dab9793aac9e785515d57316ace",
    path="training/utils/pipeline_stable_diffusion_xl.py",
    blob="da35aaf9bdbd41a6dfccb5b53a46185e4fd9fe49",
    licence="Apache-2.0",
)
GUIDANCE = 5.5
CASES = (("closed", 4, "first"), ("closed", 10, "first"), ("closed", 10, "every"), ("unet", 4, "first"))
"""Network, steps, and after which steps noise is added: `first` as released, `every` after each but the last."""
FIRST, EVERY = "i < 1:", "i + 1 < len(timesteps):"


def main(argv: list[str] | None = None) -> None:
    given = arguments(__doc__, checkout=CHECKOUT, argv=argv)
    text = SOURCE.read(given.checkout)
    assert FIRST in text
    texts = {"first": text, "every": text.replace(FIRST, EVERY)}
    for network, steps, which in CASES:
        released = module(texts[which], f"released_renoise_{which}")
        name = f"renoise-{network}-n{steps}-{which}"
        made = case(name, given.seed, network=network)
        pipe, down, _ = pipeline(released, made.unet)
        draw, noises, weights, after = released.randn_tensor, [], [], []
        # The callback hands out the loop's own local variables by name.
        pipe._callback_tensor_inputs = [*pipe._callback_tensor_inputs, "weight"]

        def kept(*shape: Any, _draw: Any = draw, _noises: list[Any] = noises, **options: Any) -> Any:
            _noises.append(_draw(*shape, **options))
            return _noises[-1]

        def step_end(_pipe: Any, i: int, t: Any, values: Any, _weights: Any = weights, _after: Any = after) -> Any:
            _weights.append(values["weight"].double())
            _after.append(values["latents"].clone())
            return values

        released.randn_tensor = kept
        torch.manual_seed(given.seed)
        final = pipe.call_renoise(
            **made.arguments(),
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            callback_on_step_end=step_end,
            callback_on_step_end_tensor_inputs=["latents", "weight"],
        ).images
        added = {"first": 1, "every": steps - 1}[which]
        assert len(noises) == added
        assert len(down.results) == steps + added
        write(
            given.out,
            f"{name}-seed{given.seed}",
            {**cited(SOURCE), "function": "call_renoise", "seed": given.seed, "network": network, "which": which},
            {
                **made.stored,
                "guidance": GUIDANCE,
                "timesteps": pipe.scheduler.timesteps,
                "x_t0": down.samples[0],
                "e1": down.outputs[0],
                "x_t1": down.results[0],
                "weight": torch.stack(weights[:added]),
                "z": torch.stack(noises),
                "renoised": down.samples[1],
                "e2": down.outputs[1],
                "x_t1_again": down.results[1],
                "after_step": torch.stack(after),
                "final": final,
                **(down.stacked("down") if which == "every" else {}),
            },
        )


if __name__ == "__main__":
    main()
