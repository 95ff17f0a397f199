"""NPNet, the noise prompt network of "Golden Noise for Diffusion Models", on top of `bench`.

    from npnet import NPNet

    npnet = NPNet.from_pretrained(path)  # a published .pth, a safetensors file, or a folder that holds one
    latents = npnet(latents, prompt_embeds)

What the network is, `NPNetConfig`, is plain data and loads no torch; `NPNet` is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npnet import moved
from npnet.network.architecture import NPNetConfig

if TYPE_CHECKING:
    from npnet.network.model import NPNet

__all__ = ["NPNet", "NPNetConfig"]

moved.install()


def __getattr__(name: str) -> Any:
    if name == "NPNet":
        from npnet.network.model import NPNet

        return NPNet
    raise AttributeError(f"module 'npnet' has no attribute {name!r}")
