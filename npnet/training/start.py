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


def origin_of(begun: Checkpoint | None) -> dict[str, Any] | None:
    """What identifies the checkpoint that is fine-tuned."""
    if begun is None:
        return None
    said = begun.provenance
    chosen_by = [*(said.get("selected_by") or ()), *choosers(said.get("teacher"))]
    return {
        "file": begun.path.name,
        "digest": begun.digest,
        "model": said.get("model"),
        "selected_by": list(dict.fromkeys(chosen_by)),
    }


def reads_text(settings: Mapping[str, Any], begun: Checkpoint | None) -> bool:
    """Whether the network will read prompt embeddings."""
    if "text" in settings or begun is None:
        return settings.get("text") != "none"
    return begun.config.text != "none"


def check_network(settings: Mapping[str, Any], latent: tuple[int, int, int], begun: Checkpoint | None) -> None:
    """UserError where settings, latents and checkpoint make no network, said before anything is read or encoded."""
    # How many tokens a prompt has, and how wide, is known once one is encoded, and decides nothing of this.
    prompt = (1, 1) if reads_text(settings, begun) else None
    if begun is not None and begun.config.latent != latent:
        raise UserError(
            f"{begun.path}: a network for latents {begun.config.latent}, and the pairs have {latent}; "
            "fine-tune the network of a model with the same latents"
        )
    made = _tuned_config(settings, begun, prompt) if begun else network_config(settings, latent=latent, prompt=prompt)
    if not made.svd and not made.residual and made.text == "none":
        raise UserError("network: svd, residual and text are all off, which leaves nothing to train; switch one on")


def _tuned_config(settings: Mapping[str, Any], begun: Checkpoint, prompt: tuple[int, int] | None) -> NPNetConfig:
    return _valid({**begun.config.model_dump(), **settings, "prompt": prompt or begun.config.prompt})


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
    begun: Checkpoint | None,
    *,
    seed: int,
    say: Callable[[str], None],
) -> NPNet:
    """A fresh network, or that of the checkpoint `begun` with a fresh text layer where the prompts are of another
    shape; UserError where the checkpoint does not fit the settings.
    """
    import torch

    from npnet.network.model import NPNet

    torch.manual_seed(seed)
    prompt = prompts.shape if prompts is not None else None
    if begun is None:
        return NPNet(network_config(settings, latent=pairs.protocol.latent, prompt=prompt)).requires_grad_(True)
    own = begun.config
    other = prompt if prompt != own.prompt else None
    wanted = _tuned_config(settings, begun, prompt)
    network = checkpoint.load(begun, config=wanted, attention=settings.get("attention"), prompt=other)
    held = begun.tensors
    fresh = [k for k, v in network.state_dict().items() if k not in held or not torch.equal(v, held[k])]
    if fresh:
        shapes = f"prompts are {prompt}, {own.prompt} there" if other else "asked for by network:"
        say(f"{begun.path}: replaced by fresh weights ({shapes}): {', '.join(fresh)}")
    return network.train().requires_grad_(True)
