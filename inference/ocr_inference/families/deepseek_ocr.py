"""DeepSeek-OCR, version 1, as published at deepseek-ai/DeepSeek-OCR (`model_type` `deepseek_vl_v2`).

transformers has its architecture under another name: Unlimited-OCR grew from it and differs in the decoder's
attention alone. `native_config` says so in Unlimited-OCR's words; what the checkpoint's own code would do beyond
that is here (prompts, resolutions) and in `tiling`.
"""

from collections.abc import Mapping
from typing import Any, Final

from ocr_inference.families.grounded import IMAGE_TOKEN_ID
from ocr_inference.families.loops import LoopGuard
from ocr_inference.families.tiling import Resolution, Views

MODEL_TYPE: Final = "deepseek_vl_v2"
ARCHITECTURE: Final = "DeepseekOCRForCausalLM"
"""DeepSeek-VL2 has the same model type and another architecture."""

RESOLUTIONS: Final[Mapping[str, Resolution]] = {
    "tiny": Resolution(512, "stretch"),
    "small": Resolution(640, "stretch"),
    "base": Resolution(1024, "pad"),
    "large": Resolution(1280, "pad"),
    "gundam": Resolution(1024, "pad", tile=640, most_tiles=9),
}
DEFAULT_RESOLUTION: Final = "gundam"
GUARD: Final = LoopGuard(ngram=30, window=90, allowed=frozenset({128821, 128822}))
"""The numbers and the two table tags (`<td>`, `</td>`) that the model's authors use for pictures."""
_PIXELS_PER_TOKEN: Final = 64

DROPPED: Final = frozenset(
    {
        *("auto_map", "architectures", "torch_dtype", "lm_head", "rm_head", "use_mla"),
        *("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
    }
)
"""Of `language_config`: names of remote code, and fields of an attention that this model doesn't have."""


def image_tokens(views: Views) -> int:
    """Count the picture tokens in the prompt: each row of a view ends with a mark, the views with another."""
    whole = views.side // _PIXELS_PER_TOKEN
    count = whole * (whole + 1) + 1
    if views.grid and views.tile:
        (columns, rows), tile = views.grid, views.tile // _PIXELS_PER_TOKEN
        count += rows * tile * (columns * tile + 1)  # the rows of all tiles are joined before they are marked
    return count


class UnfitConfig(ValueError):
    """A config.json that isn't this family's; `field` is where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def native_config(hub: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the hub's configuration into arguments of `UnlimitedOcrConfig`. Raises `UnfitConfig`."""
    if ARCHITECTURE not in (hub.get("architectures") or ()):
        raise UnfitConfig(
            "architectures", f"{ARCHITECTURE} is missing: of {MODEL_TYPE} models only DeepSeek-OCR is known"
        )
    language = hub.get("language_config")
    if not isinstance(language, dict):
        raise UnfitConfig("language_config", "is missing")
    if language.get("use_mla"):
        raise UnfitConfig("language_config.use_mla", "multi-head latent attention is not DeepSeek-OCR's")
    layers = language.get("num_hidden_layers")
    if not isinstance(layers, int) or not 0 < layers <= 1000:
        raise UnfitConfig("language_config.num_hidden_layers", "is not a number of layers")
    text = {key: value for key, value in language.items() if key not in DROPPED}
    # Without this every layer would look at a sliding window of 128 tokens, as Unlimited-OCR's do.
    text["layer_types"] = ["full_attention"] * layers
    return {
        "text_config": text,
        "vision_config": _vision(hub.get("vision_config")),
        "image_token_id": IMAGE_TOKEN_ID,
        "tie_word_embeddings": False,
    }


def _vision(hub: Any) -> dict[str, Any] | None:
    """Return sizes of the two encoders; None for those that were published, which are the native defaults."""
    width = hub.get("width") if isinstance(hub, dict) else None
    if width is None:
        return None
    try:
        sam, clip = width["sam_vit_b"], width["clip-l-14-224"]
        return {
            "sam_config": {
                "hidden_size": sam["width"],
                "num_hidden_layers": sam["layers"],
                "num_attention_heads": sam["heads"],
                "mlp_dim": 4 * sam["width"],
                "global_attn_indexes": sam["global_attn_indexes"],
                "downsample_channels": sam["downsample_channels"],
            },
            "encoder_config": {
                "hidden_size": clip["width"],
                "intermediate_size": 4 * clip["width"],
                "num_hidden_layers": clip["layers"],
                "num_attention_heads": clip["heads"],
                "image_size": clip["image_size"],
                "patch_size": clip["patch_size"],
            },
        }
    except (KeyError, TypeError) as error:
        raise UnfitConfig(
            "vision_config.width", f"lacks what DeepSeek-OCR's encoders need: {error}"
        ) from error
