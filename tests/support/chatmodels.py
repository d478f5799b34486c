"""Tiny checkpoints of chat models: one for each `model_type` that is tested. See `checkpoints`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.support import checkpoints

SIZE = 512
"""Of the vocabulary."""
TEXT = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
    "eos_token_id": 501,
    "pad_token_id": 500,
}
_MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
WIDE_HEADS = {
    "text_config": {
        "hidden_size": 128,
        "head_dim": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
    },
    "vision_config": {"hidden_size": 64, "out_hidden_size": 128, "num_heads": 2},
}
"""Sizes of a small qwen2_5_vl whose attention vLLM has kernels for."""
_QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}OPENMARKCLOSE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_GLM_TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_PADDLE_TEMPLATE = (
    "<|begin_of_sentence|>{% for message in messages %}User: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)


def qwen_template(start: str, mark: str, end: str) -> str:
    return _QWEN_TEMPLATE.replace("OPEN", start).replace("MARK", mark).replace("CLOSE", end)


@dataclass(frozen=True)
class Kind:
    """What makes a checkpoint of a model type."""

    config: Mapping[str, Any]
    special: tuple[str, ...]
    """Special tokens from id 500 on: padding, the end of an answer, …"""
    tokenizer: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    template: str | None
    processor: Mapping[str, Any] = field(default_factory=dict)


KINDS: Mapping[str, Kind] = {
    "qwen2_5_vl": Kind(
        {
            "text_config": {**TEXT, "rope_parameters": _MROPE, "layer_types": ["full_attention"] * 2},
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "out_hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "fullatt_block_indexes": [1],
                "patch_size": 14,
                "window_size": 112,
            },
            "image_token_id": 505,
            "video_token_id": 506,
            "vision_start_token_id": 503,
            "vision_end_token_id": 504,
            "tie_word_embeddings": True,
        },
        (
            *("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>"),
            *("<|image_pad|>", "<|video_pad|>"),
        ),
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "min_pixels": 3136,
            "max_pixels": 50176,
        },
        qwen_template("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"),
    ),
    "glm_ocr": Kind(
        {
            "text_config": {**TEXT, "rope_parameters": _MROPE},
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "out_hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "patch_size": 14,
                "image_size": 336,
            },
            "image_token_id": 505,
            "video_token_id": 506,
            "image_start_token_id": 503,
            "image_end_token_id": 504,
            "video_start_token_id": 507,
            "video_end_token_id": 508,
        },
        (
            *("<|endoftext|>", "<|user|>", "<|assistant|>", "<|begin_of_image|>", "<|end_of_image|>"),
            *("<|image|>", "<|video|>", "<|begin_of_video|>", "<|end_of_video|>", "[gMASK]", "<sop>"),
        ),
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
        },
        {
            "image_processor_type": "Glm46VImageProcessor",
            "processor_class": "Glm46VProcessor",
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "size": {"shortest_edge": 12544, "longest_edge": 100352},
        },
        _GLM_TEMPLATE,
    ),
    "got_ocr2": Kind(
        {
            "text_config": {"model_type": "qwen2", **TEXT},
            "vision_config": {
                "hidden_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "mlp_dim": 32,
                "output_channels": 8,
                "global_attn_indexes": [1],
                "window_size": 14,
                "image_size": 1024,
            },
            "image_token_index": 505,
            "image_seq_length": 256,
        },
        ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<img>", "</img>", "<imgpad>"),
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
        },
        {
            "image_processor_type": "GotOcr2ImageProcessor",
            "processor_class": "GotOcr2Processor",
            "size": {"height": 1024, "width": 1024},
        },
        None,
    ),
    "paddleocr_vl": Kind(
        {
            "text_config": {**TEXT, "rope_parameters": _MROPE},
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 112,
                "patch_size": 14,
            },
            "image_token_id": 505,
            "video_token_id": 506,
            "vision_start_token_id": 503,
            "vision_end_token_id": 504,
        },
        (
            *("<unk>", "</s>", "<|begin_of_sentence|>", "<|IMAGE_START|>", "<|IMAGE_END|>"),
            *("<|IMAGE_PLACEHOLDER|>", "<|video_pad|>"),
        ),
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "</s>",
            "pad_token": "<unk>",
            "extra_special_tokens": {"image_token": "<|IMAGE_PLACEHOLDER|>"},
        },
        {
            "image_processor_type": "PaddleOCRVLImageProcessor",
            "processor_class": "PaddleOCRVLProcessor",
            "patch_size": 14,
            "temporal_patch_size": 1,
            "merge_size": 2,
            "size": {"shortest_edge": 12544, "longest_edge": 100352},
        },
        _PADDLE_TEMPLATE,
    ),
    "lighton_ocr": Kind(
        {
            "text_config": {"model_type": "qwen3", **TEXT},
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 1540,
                "patch_size": 14,
            },
            "image_token_id": 505,
            "spatial_merge_size": 2,
        },
        (
            *("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|vision_pad|>", "<|vision_end|>"),
            "<|image_pad|>",
        ),
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "extra_special_tokens": {
                "image_token": "<|image_pad|>",
                "image_break_token": "<|vision_pad|>",
                "image_end_token": "<|vision_end|>",
            },
        },
        {
            "image_processor_type": "PixtralImageProcessor",
            "processor_class": "LightOnOcrProcessor",
            "patch_size": 14,
            "size": {"longest_edge": 308},
        },
        qwen_template("", "<|image_pad|>", ""),
        {"processor_class": "LightOnOcrProcessor", "patch_size": 14, "spatial_merge_size": 2},
    ),
}


def make(
    folder: Path,
    model_type: str,
    *,
    seed: int = 0,
    dtype: str = "bfloat16",
    sizes: Mapping[str, Any] | None = None,
    **fields: object,
) -> Path:
    """`sizes` replace those of the configuration, a part (`text_config`, `vision_config`) at a time; `fields` are its
    own."""
    kind = KINDS[model_type]
    resized = {part: kind.config[part] | fields for part, fields in (sizes or {}).items()}
    config = AutoConfig.for_model(model_type, **{**kind.config, **resized, **fields})
    model = AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]
    checkpoints.randomise(model, seed)
    checkpoints.save(model.to(getattr(torch, dtype)), folder, None, 1 << 40)
    special = dict(enumerate(kind.special, start=500))
    vocabulary = config.get_text_config(decoder=True).vocab_size
    checkpoints.tokenizer(special, vocabulary).save(str(folder / "tokenizer.json"))
    checkpoints.write_json(folder / "tokenizer_config.json", kind.tokenizer)
    checkpoints.write_json(folder / "preprocessor_config.json", kind.preprocessor)
    if kind.processor:
        checkpoints.write_json(folder / "processor_config.json", kind.processor)
    if kind.template is not None:
        (folder / "chat_template.jinja").write_text(kind.template, encoding="utf-8")
    return folder
