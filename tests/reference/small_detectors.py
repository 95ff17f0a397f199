"""Small random detectors and readers as checkpoint folders of transformers, under the names that scorers look for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from reference import small_clips as small


def _filled(network: Any, case: str) -> Any:
    """Weights that follow from `case` and their names; counters and constants stay."""
    state = network.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = small.drawn(case, name, tuple(value.shape) or (1,)).reshape(value.shape)
    network.load_state_dict(state)
    return network.eval()


SMALL_SWIN: dict[str, Any] = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
SMALL_SHAPE: dict[str, Any] = {
    "hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "num_attention_heads": 2,
    "encoder_feedforward_dim": 16, "dim_feedforward": 16, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 12,
}  # fmt: skip


def mask2former_folder(
    folder: Path,
    case: str,
    *,
    labels: int = 80,
    swin: dict[str, Any] = SMALL_SWIN,
    shape: dict[str, Any] = SMALL_SHAPE,
) -> Path:
    """A Mask2Former, by default on a Swin with one block a stage, whose classes are distinguished by far."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    stages: list[Any] = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(**swin, out_features=stages, window_size=7)
    config = Mask2FormerConfig(backbone_config=backbone, num_labels=labels, **shape)
    network = _filled(Mask2FormerForUniversalSegmentation(config), case)
    with torch.no_grad():
        network.class_predictor.weight.mul_(12)
        network.class_predictor.bias[-1] -= 40  # "no object"
    network.save_pretrained(folder)
    return folder


def geneval_folder(folder: Path, case: str, *, file: bool = False) -> Path:
    """The detector beside CLIP, as a folder or as OpenAI's file."""
    mask2former_folder(folder / "mask2former-swin-small-coco-instance", case)
    if file:
        small.write_open_clip_config(folder)
        torch.save(small.openai_state(case), folder / "ViT-L-14.pt")
    else:
        small.clip_folder(folder / "clip-vit-large-patch14", case, act="quick_gelu")
    return folder


def _bert(folder: Path) -> None:
    """BERT's tokenizer whose words `yes`, `no` and BLIP's two have the published numbers."""
    found = [f"[unused{i}]" for i in range(30524)]
    found[0], found[100], found[101], found[102], found[103] = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    for i, word in enumerate((*"abcdefghijklmnopqrstuvwxyz?-", "red", "green", "blue", "bench", "bowl", "the")):
        found[1000 + i] = word
        found[1500 + i] = f"##{word}"
    found[2748], found[2053], found[30522], found[30523] = "yes", "no", "[DEC]", "[ENC]"
    (folder / "vocab.txt").write_text("\n".join([*found, ""]), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')


SMALL_ENCODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL_BLIP = {
    "text": {**SMALL_ENCODER, "encoder_hidden_size": 32, "max_position_embeddings": 64},
    "vision": {**SMALL_ENCODER, "image_size": 96, "patch_size": 16},
}


def blip_folder(folder: Path, case: str, size: dict[str, Any] = SMALL_BLIP) -> Path:
    """A BLIP that answers questions, by default with 96 pixels of its own, and BERT's numbers for words."""
    from transformers import BlipConfig, BlipForQuestionAnswering

    text, vision = {**size["text"], "vocab_size": 30524, "bos_token_id": 30522}, size["vision"]
    network = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision))
    _filled(network, case).save_pretrained(folder)
    _bert(folder)
    return folder


SMALL_OWL = {"text": SMALL_ENCODER, "vision": SMALL_BLIP["vision"], "projection": 32}


def owl_folder(folder: Path, case: str, size: dict[str, Any] = SMALL_OWL) -> Path:
    """An OWLv2, by default of 96 pixels, whose confidences are far apart, with CLIP's tokenizer."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    text = {**size["text"], "vocab_size": small.WORDS, "max_position_embeddings": 16}
    config = Owlv2Config(text_config=text, vision_config=size["vision"], projection_dim=size["projection"])
    network = Owlv2ForObjectDetection(config)
    _filled(network, case).save_pretrained(folder)
    small.write_tokenizer(folder)
    return folder


def dpt_folder(folder: Path, case: str) -> Path:
    """A hybrid DPT of 96 pixels: stages of a convolutional network, then a transformer."""
    from transformers import DPTConfig, DPTForDepthEstimation

    stages = {"model_type": "bit", "global_padding": "same", "layer_type": "bottleneck", "depths": [1, 1, 1],
              "hidden_sizes": [16, 24, 32, 32], "embedding_size": 8, "num_groups": 4, "embedding_dynamic_padding": True,
              "out_features": ["stage1", "stage2", "stage3"]}  # fmt: skip
    config = DPTConfig(
        is_hybrid=True, image_size=96, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 24, 32, 32], fusion_hidden_size=16,
        reassemble_factors=[1, 1, 1, 0.5], neck_ignore_stages=[0, 1], readout_type="project",
        backbone_featmap_shape=[1, 32, 6, 6], backbone_config=stages,
    )  # fmt: skip
    _filled(DPTForDepthEstimation(config), case).save_pretrained(folder)
    return folder


def compbench_folder(folder: Path, case: str) -> Path:
    """BLIP, OWLv2, DPT and CLIP B/32 under their published names."""
    dpt_folder(folder / "dpt-hybrid-midas", case)
    blip_folder(folder / "blip-vqa-capfilt-large", case)
    owl_folder(folder / "owlv2-base-patch16-ensemble", case)
    small.clip_folder(folder / "clip-vit-base-patch32", case, act="quick_gelu")
    return folder


def qwen_folder(folder: Path, case: str) -> Path:
    """A Qwen3-VL of two layers, with a tokenizer of bytes that knows `Yes` and the control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessorPil, Qwen3VLConfig
    from transformers import Qwen3VLForConditionalGeneration as Qwen

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Y", "e"), ("Ye", "s"), ("y", "e"), ("ye", "s"), ("Ġ", "yes"), ("Ġ", "Yes"), ("t", "w"), ("tw", "o")]
    words = {word: i for i, word in enumerate([*letters, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=control)
    place = dict(zip(control, fast.convert_tokens_to_ids(control), strict=True))
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    text |= {"num_key_value_heads": 1, "vocab_size": len(fast)}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 5e6}}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=place["<|image_pad|>"],
        video_token_id=place["<|video_pad|>"],
        vision_start_token_id=place["<|vision_start|>"],
        vision_end_token_id=place["<|vision_end|>"],
    )
    _filled(Qwen(config), case).save_pretrained(folder)
    fast.save_pretrained(folder)
    size = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
    Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, size=size).save_pretrained(folder)
    return folder
