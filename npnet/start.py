"""The network that a training begins with: a fresh one, or another model's checkpoint to fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench import suite_yaml
from bench.errors import UserError
from npnet import NPNetConfig
from npnet.batches import Pairs
from npnet.caches import Prompts

if TYPE_CHECKING:
    from npnet.model import NPNet

SMALL = 32
"""Latents up to this height and width get the small clean network unless the settings say otherwise."""


def origin_of(start: Path | None) -> dict[str, Any] | None:
    """What identifies the checkpoint that is fine-tuned."""
    if start is None:
        return None
    from npnet import checkpoint

    said = checkpoint.read_provenance(start)
    return {"file": said["file"], "digest": said["digest"], "model": said.get("model")}


def reads_text(settings: Mapping[str, Any], start: Path | None) -> bool:
    """Whether the network will read prompt embeddings."""
    if "text" in settings or start is None:
        return settings.get("text") != "none"
    from npnet import checkpoint

    return checkpoint.read(start).config.text != "none"


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
    start: Path | None,
    *,
    seed: int,
    say: Callable[[str], None],
) -> NPNet:
    """A fresh network, or that of the checkpoint `start` with a fresh text layer where the prompts are of another
    shape; UserError where the checkpoint does not fit the pairs or the settings.
    """
    import torch

    from npnet.model import NPNet

    torch.manual_seed(seed)
    prompt = prompts.shape if prompts is not None else None
    if start is None:
        return NPNet(network_config(settings, latent=pairs.protocol.latent, prompt=prompt)).requires_grad_(True)
    from npnet import checkpoint

    own = checkpoint.read(start)
    if own.config.latent != pairs.protocol.latent:
        raise UserError(
            f"{own.path}: a network for latents {own.config.latent}, and the pairs have {pairs.protocol.latent}; "
            "fine-tune the network of a model with the same latents"
        )
    wanted = _valid({**own.config.model_dump(), **settings, "prompt": prompt or own.config.prompt})
    other = prompt if prompt != own.config.prompt else None
    network = checkpoint.load(start, config=wanted, attention=settings.get("attention"), prompt=other)
    fresh = [k for k, v in network.state_dict().items() if k not in own.tensors or not torch.equal(v, own.tensors[k])]
    if fresh:
        shapes = f"prompts are {prompt}, {own.config.prompt} there" if other else "asked for by network:"
        say(f"{own.path}: replaced by fresh weights ({shapes}): {', '.join(fresh)}")
    return network.train().requires_grad_(True)
