"""DeepSeek-OCR-2 (`model_type` `deepseek_ocr2`), native in transformers.

Its views are 768 or 1024 pixels: other sizes have no learned queries, so fewer resolutions are offered than for
version 1. Prompts, tags and decoder are version 1's.
"""

from collections.abc import Mapping
from typing import Final

from ocr_inference.families.loops import LoopGuard
from ocr_inference.families.tiling import Resolution, Views

MODEL_TYPE: Final = "deepseek_ocr2"

RESOLUTIONS: Final[Mapping[str, Resolution]] = {
    "small": Resolution(768, "pad"),
    "base": Resolution(1024, "pad"),
    "gundam": Resolution(1024, "pad", tile=768, most_tiles=6),
}
DEFAULT_RESOLUTION: Final = "gundam"
GUARD: Final = LoopGuard(ngram=30, window=90, allowed=frozenset({128821, 128822}))
_PIXELS_PER_TOKEN: Final = 64


def image_tokens(views: Views) -> int:
    """Count the picture tokens in the prompt: all views without marks of rows, and one mark after them."""
    tile = (views.tile or 0) // _PIXELS_PER_TOKEN
    return (views.side // _PIXELS_PER_TOKEN) ** 2 + views.tiles * tile * tile + 1
