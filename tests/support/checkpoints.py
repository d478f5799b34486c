"""Tiny checkpoints with random weights, made on disk from a seed: what they write means nothing, but always the same.

Shapes are small, everything else (names of tensors, configuration, token ids, files) is as in what is published.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    DeepseekOcr2Config,
    DeepseekOcr2ForConditionalGeneration,
    PreTrainedModel,
    UnlimitedOcrConfig,
    UnlimitedOcrForConditionalGeneration,
)
from transformers.utils import logging

from ocr_inference.families import deepseek_ocr

VOCABULARY = 129_280
BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
DEEPSEEK_TOKENS: Mapping[int, str] = {
    0: BOS,
    1: EOS,
    2: PAD,
    128815: "<image>",
    128816: "<|ref|>",
    128817: "<|/ref|>",
    128818: "<|det|>",
    128819: "<|/det|>",
    128820: "<|grounding|>",
    128821: "<td>",
    128822: "</td>",
    128823: "<tr>",
    128824: "</tr>",
}
"""Special tokens at the ids of DeepSeek-OCR's tokenizer."""


def tokenizer(special: Mapping[int, str], size: int) -> Tokenizer:
    """Byte-level: a token for each byte, then words ` w<id>`, special tokens at their ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    free = iter(index for index in range(size) if index not in special)
    vocabulary = {text: index for index, text in special.items()}
    vocabulary.update({letter: next(free) for letter in alphabet})
    vocabulary.update({f"Ġw{index}": index for index in free})
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special.values()])
    return made


def randomise(model: PreTrainedModel, seed: int) -> None:
    """Weights of a scale that keeps signals alive, so that every picture and token matters for what comes out."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                noise = 1 + 0.1 * noise
            elif "embed_tokens" in name:
                noise = 0.1 * noise  # where the head is tied to it, a large one would repeat what it sees
            elif parameter.dim() > 1 and "embed" not in name:
                # Queries are large, so that attention chooses: what is written depends on what was.
                scale = 4.0 if "q_proj" in name else 1.0
                noise = noise * scale * (parameter.shape[1] * parameter[0, 0].numel()) ** -0.5
            elif name.endswith("bias"):
                noise = 0.1 * noise
            parameter.copy_(noise)


def save(model: PreTrainedModel, folder: Path, config: Mapping[str, Any] | None, shard_bytes: int) -> None:
    """Weights by their published names; `config` replaces the library's own config.json."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder, max_shard_size=shard_bytes)
    if config is not None:
        write_json(folder / "config.json", config)
    (folder / "generation_config.json").unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def deepseek_ocr_config(
    *, layers: int = 3, eos: int | Sequence[int] = 1, context: int = 8192, dtype: str = "bfloat16"
) -> dict[str, Any]:
    """As published at deepseek-ai/DeepSeek-OCR, with smaller numbers."""
    remote = "modeling_deepseekocr."
    language = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_deepseekv2.DeepseekV2Config",
            "AutoModel": "modeling_deepseek.DeepseekV2Model",
            "AutoModelForCausalLM": "modeling_deepseek.DeepseekV2ForCausalLM",
        },
        "bos_token_id": 0,
        "eos_token_id": eos,
        "first_k_dense_replace": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "kv_lora_rank": None,
        "lm_head": True,
        "max_position_embeddings": context,
        "moe_intermediate_size": 16,
        "n_group": 1,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "num_attention_heads": 2,
        "num_experts_per_tok": 2,
        "num_hidden_layers": layers,
        "num_key_value_heads": 2,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": False,
        "topk_group": 1,
        "topk_method": "greedy",
        "torch_dtype": dtype,
        "use_mla": False,
        "v_head_dim": 0,
        "vocab_size": VOCABULARY,
    }
    return {
        "_name_or_path": "deepseek-ai/DeepSeek-OCR",
        "candidate_resolutions": [[1024, 1024]],
        "global_view_pos": "head",
        "architectures": ["DeepseekOCRForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{remote}DeepseekOCRConfig",
            "AutoModel": f"{remote}DeepseekOCRForCausalLM",
        },
        "language_config": language,
        "model_type": "deepseek_vl_v2",
        "projector_config": {
            "input_dim": 64,
            "model_type": "mlp_projector",
            "n_embed": 32,
            "projector_type": "linear",
        },
        "tile_tag": "2D",
        "torch_dtype": dtype,
        "transformers_version": "4.46.3",
        "vision_config": {
            "image_size": 1024,
            "mlp_ratio": 3.7362,
            "model_name": "deeplip_b_l",
            "model_type": "vision",
            "width": {
                "clip-l-14-224": {"heads": 2, "image_size": 224, "layers": 2, "patch_size": 14, "width": 32},
                "sam_vit_b": {
                    "downsample_channels": [24, 32],
                    "global_attn_indexes": [1],
                    "heads": 2,
                    "layers": 2,
                    "width": 16,
                },
            },
        },
        **{key: value for key, value in language.items() if key not in ("architectures", "auto_map")},
    }


def make_deepseek_ocr(
    folder: Path,
    *,
    seed: int = 0,
    layers: int = 3,
    eos: int | Sequence[int] = 1,
    context: int = 8192,
    dtype: str = "bfloat16",
    shard_bytes: int = 1 << 40,
) -> Path:
    """DeepSeek-OCR v1 as on the hub: its own config with `auto_map`, its names, experts one by one. About 17 MB."""
    hub = deepseek_ocr_config(layers=layers, eos=eos, context=context, dtype=dtype)
    model = UnlimitedOcrForConditionalGeneration(UnlimitedOcrConfig(**deepseek_ocr.native_config(hub)))
    randomise(model, seed)
    save(model.to(getattr(torch, dtype)), folder, hub, shard_bytes)
    tokenizer(DEEPSEEK_TOKENS, VOCABULARY).save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "LlamaTokenizerFast", "bos_token": BOS, "eos_token": EOS, "pad_token": PAD},
    )
    (folder / "modeling_deepseekocr.py").write_text("raise SystemExit('remote code was executed')\n")
    return folder


def make_deepseek_ocr2(folder: Path, *, seed: int = 0, dtype: str = "bfloat16") -> Path:
    """DeepSeek-OCR-2 as at deepseek-community/DeepSeek-OCR-2: the library's own names. About 17 MB."""
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "n_group": 1,
        "topk_group": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    sam = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "global_attn_indexes": [1],
        "downsample_channels": [24, 32],
    }
    encoder = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 1,
    }
    config = DeepseekOcr2Config(
        text_config=text, vision_config={"sam_config": sam, "encoder_config": encoder}
    )
    model = DeepseekOcr2ForConditionalGeneration(config)
    randomise(model, seed)
    save(model.to(getattr(torch, dtype)), folder, None, 1 << 40)
    tokenizer(DEEPSEEK_TOKENS, VOCABULARY).save(str(folder / "tokenizer.json"))
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})
    write_json(
        folder / "processor_config.json",
        {
            "processor_class": "DeepseekOcr2Processor",
            "image_processor": {"image_processor_type": "DeepseekOcr2ImageProcessor"},
        },
    )
    return folder
