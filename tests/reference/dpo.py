"""Vectors of Diffusion-DPO's loss: the statements of SalesforceAIResearch/DiffusionDPO's train.py, and its gradient.

Command: python tests/reference/dpo.py --checkout DIR [--seed N] [--out DIR]
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from public_code import Source, arguments, branch, cited, generator, write

SOURCE = Source(
    repository="SalesforceAIResearch/DiffusionDPO",
    commit="5233e75919f912f3f631958ee4ebb5b5204382d9",
    path="train.py",
    blob="d52c9015e5af3764404709bde7b1ec8f31adbd8e",
    licence="Apache-2.0",
)
PAIRS = 3
BETAS = (1.0, 2000.0, 5000.0)


def loss(code: Any, beta: float, model: torch.Tensor, reference: torch.Tensor, noise: torch.Tensor) -> dict[str, Any]:
    """All names that the public statements leave behind."""
    names: dict[str, Any] = {
        "torch": torch,
        "F": F,
        "args": SimpleNamespace(beta_dpo=beta, train_method="dpo"),
        "model_pred": model,
        "target": noise,
        "ref_unet": lambda *_, **__: SimpleNamespace(sample=reference),
        "model_batch_args": (),
        "added_cond_kwargs": None,
    }
    exec(code, names)
    return names


def main(argv: list[str] | None = None) -> None:
    given = arguments(__doc__, checkout="a checkout of SalesforceAIResearch/DiffusionDPO", argv=argv)
    code = branch(SOURCE.read(given.checkout), holding="inside_term")
    for beta in BETAS:
        name = f"dpo-beta{beta:g}"
        rng = generator(name, given.seed)
        noise = torch.from_numpy(rng.standard_normal((PAIRS, 4, 8, 8))).repeat(2, 1, 1, 1)
        # Preferred predictions first, then the others, as the public code stacks them. The differences of errors
        # are of the size of 1 / beta, where the loss is neither flat nor saturated.
        draws = torch.from_numpy(rng.standard_normal((2, *noise.shape)))
        reference = noise + 0.3 * draws[0]
        model = (reference + 0.3 * draws[1] / (1 + beta**0.5)).requires_grad_()
        left = loss(code, beta, model, reference, noise)
        left["loss"].backward()
        write(
            given.out,
            f"{name}-seed{given.seed}",
            {**cited(SOURCE), "function": "the loss in main()", "seed": given.seed},
            {
                "beta": beta,
                "noise": noise,
                "model_pred": model,
                "ref_pred": reference,
                "model_losses": left["model_losses"],
                "ref_losses": left["ref_losses"],
                "inside_term": left["inside_term"],
                "implicit_acc": left["implicit_acc"],
                "loss": left["loss"],
                "gradient": model.grad,
            },
        )


if __name__ == "__main__":
    main()
