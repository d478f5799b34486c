"""Tiny language models with vision, with random weights, made in memory: for tests of what writes tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    UnlimitedOcrConfig,
    UnlimitedOcrForConditionalGeneration,
    UnlimitedOcrTextConfig,
)

WORDS = 97
EOS = 2
WINDOW = 8
_IMAGE = 90
_TEXT: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": EOS,
    "pad_token_id": 0,
}


def qwen(attention: str = "sdpa") -> PreTrainedModel:
    """With positions in three dimensions: a picture takes fewer positions than tokens."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "window_size": 16,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(  # type: ignore[call-arg]
        text_config={**_TEXT, "rope_parameters": rope},
        vision_config=vision,
        image_token_id=_IMAGE,
        vision_start_token_id=91,
        vision_end_token_id=92,
        attn_implementation=attention,
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()  # type: ignore[no-any-return, no-untyped-call]


def unlimited(
    layer_types: Sequence[str] = ("full_attention",) * 3, attention: str = "sdpa"
) -> PreTrainedModel:
    """DeepSeek-OCR's decoder: a mixture of experts, and windows that always see the prompt."""
    torch.manual_seed(0)
    text = UnlimitedOcrTextConfig(  # type: ignore[call-arg]
        **{**_TEXT, "num_key_value_heads": 4},
        moe_intermediate_size=24,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        first_k_dense_replace=1,
        sliding_window=WINDOW,
        layer_types=list(layer_types),
    )
    text._attn_implementation = attention
    sam = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "global_attn_indexes": [0],
        "output_channels": 8,
        "downsample_channels": [8, 8],
    }
    encoder = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = UnlimitedOcrConfig(  # type: ignore[call-arg]
        text_config=text,
        vision_config={"sam_config": sam, "encoder_config": {**encoder, "image_size": 32, "patch_size": 16}},
        image_token_id=_IMAGE,
        tie_word_embeddings=False,
        attn_implementation=attention,
    )
    return UnlimitedOcrForConditionalGeneration(config).eval()  # type: ignore[no-any-return, no-untyped-call]


def mistral(attention: str = "sdpa") -> PreTrainedModel:
    """A window in every layer."""
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Mistral3Config(  # type: ignore[call-arg]
        text_config={**_TEXT, "model_type": "mistral", "sliding_window": WINDOW},
        vision_config={**vision, "model_type": "pixtral", "image_size": 16, "patch_size": 4, "head_dim": 8},
        image_token_index=_IMAGE,
        attn_implementation=attention,
    )
    return Mistral3ForConditionalGeneration(config).eval()  # type: ignore[no-any-return, no-untyped-call]


def words(seed: int) -> dict[str, Any]:
    """A prompt without a picture, longer with the seed."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 80, (1, 5 + 3 * seed), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def picture(seed: int) -> dict[str, Any]:
    """A prompt with a picture, for `qwen`; its size depends on the seed."""
    return pictures(seed, [(4 + 2 * (seed % 3), 4 + 4 * (seed % 2))], before=4 + seed)


def pictures(seed: int, grids: Sequence[tuple[int, int]], before: int = 4) -> dict[str, Any]:
    """A prompt with pictures of so many patches by height and width, after so many words, for `qwen`."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randint(3, 80, (1, before), generator=generator)]
    parts += [torch.tensor([[91] + [_IMAGE] * (height * width // 4) + [92]]) for height, width in grids]
    ids = torch.cat([*parts, torch.randint(3, 80, (1, 3), generator=generator)], dim=1)
    patches = sum(height * width for height, width in grids)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(patches, 3 * 2 * 4 * 4, generator=generator),
        "image_grid_thw": torch.tensor([[1, height, width] for height, width in grids]),
        "mm_token_type_ids": (ids == _IMAGE).int(),
    }


def reference(model: PreTrainedModel, prompt: dict[str, Any], limit: int) -> list[int]:
    """What transformers writes by itself, greedily, without the end mark."""
    generate: Any = model.generate
    ids = generate(**prompt, do_sample=False, max_new_tokens=limit, eos_token_id=EOS)
    return [token for token in ids[0, prompt["input_ids"].shape[1] :].tolist() if token != EOS]
