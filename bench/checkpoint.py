"""`python -m bench.checkpoint FOLDER published|short|tiny`: DeepSeek-OCR in its published form, with random weights.

What it writes means nothing; in its published size it loads, wakes and writes as fast as the real one. `short` is as
wide and has two of its layers. A process
of its own, since whoever measures that nothing is left on a device must not use it.
"""

import sys
from pathlib import Path
from typing import Any, Final

import torch
from transformers import UnlimitedOcrConfig, UnlimitedOcrForConditionalGeneration

from ocr_inference.families import deepseek_ocr
from tests.support import checkpoints

LANGUAGE: Final = {
    "hidden_size": 1280,
    "intermediate_size": 6848,
    "moe_intermediate_size": 896,
    "n_routed_experts": 64,
    "num_attention_heads": 10,
    "num_experts_per_tok": 6,
    "num_key_value_heads": 10,
}
CLIP: Final = {"heads": 16, "image_size": 224, "layers": 24, "patch_size": 14, "width": 1024}
SAM: Final = {
    "downsample_channels": [512, 1024],
    "global_attn_indexes": [2, 5, 8, 11],
    "heads": 12,
    "layers": 12,
    "width": 768,
}


LAYERS: Final = {"published": 12, "short": 2}


def published_config(layers: int) -> dict[str, Any]:
    """The hub's config.json, with the numbers that decide the size."""
    config = checkpoints.deepseek_ocr_config(layers=layers)
    config["language_config"] |= LANGUAGE
    config |= LANGUAGE
    config["projector_config"] |= {"input_dim": 2048, "n_embed": 1280}
    config["vision_config"]["width"] = {"clip-l-14-224": CLIP, "sam_vit_b": SAM}
    return config


def model_on(device: str, published: dict[str, Any]) -> UnlimitedOcrForConditionalGeneration:
    config = UnlimitedOcrConfig(**deepseek_ocr.native_config(published))
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            return UnlimitedOcrForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(before)


def make(folder: Path, layers: int) -> None:
    published = published_config(layers)
    model = model_on("cuda" if torch.cuda.is_available() else "cpu", published)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, 0.02)
    checkpoints.save(model, folder, published, 1 << 40)
    checkpoints.tokenizer(checkpoints.DEEPSEEK_TOKENS, checkpoints.VOCABULARY).save(
        str(folder / "tokenizer.json")
    )
    names = {"bos_token": checkpoints.BOS, "eos_token": checkpoints.EOS, "pad_token": checkpoints.PAD}
    checkpoints.write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizerFast"} | names
    )


if __name__ == "__main__":
    where, size = Path(sys.argv[1]), sys.argv[2]
    where.mkdir(exist_ok=True)
    if size in LAYERS:
        make(where, LAYERS[size])
    else:
        checkpoints.make_deepseek_ocr(where)
