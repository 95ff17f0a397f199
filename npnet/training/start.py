"""The network that a training begins with: a fresh one, or another model's checkpoint to fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.errors import UserError
from bench.suite import document as suite_yaml
from npnet import NPNetConfig
from npnet.network import checkpoint
from npnet.network.checkpoint import Checkpoint
from npnet.teachers.base import choosers
from npnet.training.caches import Prompts
from npnet.training.data import Pairs

if TYPE_CHECKING:
    from npnet.network.model import NPNet

SMALL = 32
"""Latents up to this height and width get the small clean network unless the settings say otherwise."""


def origin_of(base: Checkpoint | None) -> dict[str, Any] | None:
    """What identifies the checkpoint that is fine-tuned."""
    if base is None:
        return None
    said = base.provenance
    chosen_by = [*(said.get("selected_by") or ()), *choosers(said.get("teacher"))]
    return {
        "file": base.path.name,
        "digest": base.digest,
        "model": said.get("model"),
        "selected_by": list(dict.fromkeys(chosen_by)),
    }


def reads_text(settings: Mapping[str, Any], base: Checkpoint | None) -> bool:
    """Whether the network will read prompt embeddings."""
    if "text" in settings or base is None:
        return settings.get("text") != "none"
    return base.config.text != "none"


def check_network(settings: Mapping[str, Any], latent: tuple[int, int, int], base: Checkpoint | None) -> None:
    """UserError where settings, latents and checkpoint make no network, said before anything is read or encoded."""
    # How many tokens a prompt has, and how wide, is known once one is encoded, and decides nothing of this.
    prompt = (1, 1) if reads_text(settings, base) else None
    if base is not None and base.config.latent != latent:
        raise UserError(
            f"{base.path}: a network for latents {base.config.latent}, and the pairs have {latent}; "
            "fine-tune the network of a model with the same latents"
        )
    made = _tuned_config(settings, base, prompt) if base else network_config(settings, latent=latent, prompt=prompt)
    if not made.svd and not made.residual and made.text == "none":
        raise UserError("network: svd, residual and text are all off, which leaves nothing to train; switch one on")


def _tuned_config(settings: Mapping[str, Any], base: Checkpoint, prompt: tuple[int, int] | None) -> NPNetConfig:
    return _valid({**base.config.model_dump(), **settings, "prompt": prompt or base.config.prompt})


def network_config(
    settings: Mapping[str, Any], *, latent: tuple[int, int, int], prompt: tuple[int, int] | None
) -> NPNetConfig:
    """The network that settings ask for: the small clean one for small latents, else the published one."""
    swin = NPNetConfig.model_fields["backbone"].default
    published = settings.get("layout") == "published" or settings.get("backbone") == swin
    given = {"latent": latent, "prompt": prompt, **settings}
    if max(latent[1:]) <= SMALL and not published:
        given = {"backbone": "small", "layout": "clean", **given}
    return _valid(given)


def _valid(given: Mapping[str, Any]) -> NPNetConfig:
    try:
        return NPNetConfig(**given)
    except ValidationError as error:
        one = error.errors()[0]
        subject = repr("network." + ".".join(map(str, one["loc"])))
        raise UserError(suite_yaml.phrase(one, subject=subject)) from None


def make_network(
    settings: Mapping[str, Any],
    pairs: Pairs,
    prompts: Prompts | None,
    base: Checkpoint | None,
    *,
    seed: int,
    say: Callable[[str], None],
) -> NPNet:
    """A fresh network, or that of the checkpoint `base` with a fresh text layer where the prompts are of another
    shape; UserError where the checkpoint does not fit the settings.
    """
    import torch

    from npnet.network.model import NPNet

    torch.manual_seed(seed)
    prompt = prompts.shape if prompts is not None else None
    if base is None:
        return NPNet(network_config(settings, latent=pairs.protocol.latent, prompt=prompt)).requires_grad_(True)
    own = base.config
    other = prompt if prompt != own.prompt else None
    wanted = _tuned_config(settings, base, prompt)
    network = checkpoint.load(base, config=wanted, attention=settings.get("attention"), prompt=other)
    stored = base.tensors
    fresh = [k for k, v in network.state_dict().items() if k not in stored or not torch.equal(v, stored[k])]
    if fresh:
        shapes = f"prompts are {prompt}, {own.prompt} there" if other else "asked for by network:"
        say(f"{base.path}: replaced by fresh weights ({shapes}): {', '.join(fresh)}")
    return network.train().requires_grad_(True)
