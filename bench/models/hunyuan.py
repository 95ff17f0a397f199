"""The Hunyuan-DiT family (2405.08748): `HunyuanDiTPipeline`, from the hub or from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.models.base import Embeddings, ModelEntry
from bench.models.pipeline import PipelineFamily
from bench.needs.base import Package
from bench.registry import add_plugin

if TYPE_CHECKING:
    import torch

add_plugin(
    "models",
    "hunyuan-dit",
    ModelEntry(
        name="hunyuan-dit",
        adapter="bench.models.hunyuan:HunyuanDiT",
        source="Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
        revision="5e96094e0ad19e7f475de8711f03634ca0ccc40c",
        steps=50,
        guidance=5.0,
        size=(1024, 1024),
        latent=(4, 128, 128),
    ),
    "bench",
)

_TOKENS = {"": 77, "_2": 256}
"""Tokens of each text encoder's prompt, by the end of its arguments' names; the transformer has a place for each."""
_TRAINED_SIZE = (1024, 1024)
"""What the pipeline says of the original image's height and width, whatever the size asked for."""
_ROTARY_SIZE = 512
"""Pixels along the longer side of the grid of positions; every other size is stretched over it."""
_FACTOR = 8
"""Pixels of a latent's side, as the pipeline has it for the grid."""


class HunyuanDiT(PipelineFamily):
    """A bilingual BERT-like CLIP and a T5 encoder, a transformer that predicts velocity and variance, and a VAE.

    `prompt_embeds` are the first encoder's (B, 77, W), which is what the published NPNet reads, and `prompt_embeds_2`
    the second's (B, 256, W2); each has its attention mask. The pipeline takes neither timesteps nor sigmas, and its
    sizes are not mapped to the nearest of its list, for a latent has the shape of the size asked for.
    """

    pipeline_class = "HunyuanDiTPipeline"
    network_name = "transformer"
    patch = 2
    packages = (
        Package("sentencepiece", "sentencepiece"),
        Package("google.protobuf", "protobuf"),
    )

    def __init__(self, entry: ModelEntry, device: str, dtype: str):
        _check_tokenizer(entry)
        super().__init__(entry, device, dtype)

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        found: Embeddings = {}
        for encoder, (end, tokens) in enumerate(_TOKENS.items()):
            embeds, _, mask, _ = self.pipeline.encode_prompt(
                list(prompts),
                device=self.device,
                dtype=self.latent_dtype,
                do_classifier_free_guidance=False,
                max_sequence_length=tokens,
                text_encoder_index=encoder,
            )
            found |= {f"prompt_embeds{end}": embeds, f"prompt_attention_mask{end}": mask}
        return found

    def encode_negative(self, prompt: str) -> Embeddings:
        return self.encode([prompt])

    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        import torch

        transformer = self.pipeline.transformer
        n, dtype = len(x), self.latent_dtype
        # Models before v1.2 read style and sizes; from then on the network does not look at them.
        sizes = [*_TRAINED_SIZE, *self.entry.size, 0, 0]
        y: torch.Tensor = transformer(
            x.to(dtype),
            torch.full((n,), float(t), dtype=dtype, device=x.device),
            encoder_hidden_states=embeds["prompt_embeds"],
            text_embedding_mask=embeds["prompt_attention_mask"],
            encoder_hidden_states_t5=embeds["prompt_embeds_2"],
            text_embedding_mask_t5=embeds["prompt_attention_mask_2"],
            image_meta_size=torch.tensor([sizes] * n, dtype=dtype, device=x.device),
            style=torch.zeros(n, dtype=torch.long, device=x.device),
            image_rotary_emb=self._rotary(),
            return_dict=False,
        )[0]
        return y.chunk(2, dim=1)[0]  # the second half is the learned variance, which no sampler here uses

    def _rotary(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (patches, head width) of the patches' places, by diffusers' own functions."""
        from diffusers.models.embeddings import get_2d_rotary_pos_embed
        from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

        transformer = self.pipeline.transformer
        patch = _FACTOR * transformer.config.patch_size
        height, width = self.entry.size
        grid = (height // patch, width // patch)
        region = get_resize_crop_region_for_grid(grid, _ROTARY_SIZE // patch)
        head = transformer.inner_dim // transformer.num_heads
        cosines, sines = get_2d_rotary_pos_embed(head, region, grid, device=self.device, output_type="pt")
        return cosines, sines


def _check_tokenizer(entry: ModelEntry) -> None:
    """UserError, before anything is downloaded, where the packages that read a SentencePiece file are missing.

    The published T5 tokenizer is one; transformers, without them, asks for a package that would not help.
    """
    from transformers.utils import is_protobuf_available, is_sentencepiece_available

    if entry.folder is not None:
        tokenizer = entry.folder / "tokenizer_2"
        if (tokenizer / "tokenizer.json").is_file() or not (tokenizer / "spiece.model").is_file():
            return
    if not (is_sentencepiece_available() and is_protobuf_available()):
        raise UserError(
            f"model {entry.name!r}: its T5 tokenizer needs sentencepiece and protobuf; "
            "pip install sentencepiece protobuf"
        )
