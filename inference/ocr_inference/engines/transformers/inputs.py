"""Turns a page and what is requested of it into the tensors that a model's `forward` takes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from transformers.models.deepseek_ocr2.image_processing_pil_deepseek_ocr2 import DeepseekOcr2ImageProcessorPil

from ocr_inference.engines import pictures
from ocr_inference.families import grounded, page_size
from ocr_inference.families.loops import LoopGuard
from ocr_inference.families.tiling import Resolution, Views, views
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, InferRequest, Shortage
from ocr_wire.tasks import Task

GREY = (127, 127, 127)
"""Colour that pads a page to a square: about the middle, so nothing after normalisation."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a page, on the CPU."""

    tensors: Mapping[str, Any]
    """Arguments of `forward` besides the cache: `input_ids` `[1, n]`, `pixel_values` in the model's dtype, …"""
    prompt_tokens: int
    """Tokens of the prompt: text and the places of picture tokens."""
    width: int
    height: int
    """Pixels of the upright page."""
    max_new_tokens: int
    """Requested number of tokens, bounded by what is left of the model's context."""
    banned: Callable[[Sequence[int]], Collection[int]] | None = None
    """The loop guard: tokens written so far → tokens that must not come next."""
    read_at: str | None = None
    """The request's `read_at`, where that made the page smaller."""
    shortage: Shortage | None = None
    """Why it is smaller."""
    picture: bytes | None = None
    """What its pictures are known by (`features.digest`); None where their features aren't kept."""


@dataclass(frozen=True)
class Grounded:
    """Builds the inputs of DeepSeek-OCR, either version."""

    tokenizer: Tokenizer
    bos: int
    resolutions: Mapping[str, Resolution]
    default: str
    image_tokens: Callable[[Views], int]
    says_grid: bool
    """Whether `forward` needs the grid of tiles: version 1 marks the ends of their rows."""
    guard: LoopGuard
    dtype: torch.dtype
    max_context: int

    def __call__(self, request: InferRequest) -> Inputs:
        name = request.resolution or request.read_at or self.default
        if (resolution := self.resolutions.get(name)) is None:
            message = f"this model has no resolution {name!r}; it has {', '.join(self.resolutions)}"
            raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="resolution"))
        if request.parts:
            raise one_alone()
        page = pictures.decode(request.image, request.max_pixels)
        seen = views(page.width, page.height, resolution)
        words = grounded.prompt(
            Task(request.task), request.find_term, request.prompt, grounding=request.grounding
        )
        text = self.tokenizer.encode(words, add_special_tokens=False).ids
        ids = [self.bos, *[grounded.IMAGE_TOKEN_ID] * self.image_tokens(seen), *text]
        tensors: dict[str, Any] = {
            "input_ids": torch.tensor([ids]),
            "pixel_values": self._normalised([whole(page, seen)]),
            "num_local_patches": [seen.tiles],
        }
        if seen.grid:
            tensors["pixel_values_local"] = self._normalised(tiles(page, seen))
        if self.says_grid:
            tensors["patches_grid"] = [list(seen.grid or (1, 1))]
        return Inputs(
            tensors,
            len(ids),
            page.width,
            page.height,
            tokens_left(len(ids), request.max_tokens, self.max_context),
            self.guard.banned if request.loop_guard else None,
            read_at=request.read_at if request.resolution is None else None,
        )

    def smaller(self, request: InferRequest, read: Inputs | None) -> tuple[str, ...]:  # noqa: ARG002 views have fixed sizes
        """Return the sizes below the one that the request is read at, largest first."""
        name = request.resolution or request.read_at or self.default
        return page_size.smaller_resolutions(self.resolutions, name)

    def _normalised(self, squares: Sequence[Image.Image]) -> torch.Tensor:
        """Normalise to -1 to 1, by the processor of version 2: its arithmetic is that of both versions."""
        side = squares[0].width
        processor = DeepseekOcr2ImageProcessorPil(crop_to_patches=False, tile_size=side)
        pixels = processor(list(squares), return_tensors="np")["pixel_values"]
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self.dtype)


def whole(page: Image.Image, seen: Views) -> Image.Image:
    """Return the page as one square."""
    size = (seen.side, seen.side)
    if seen.fit == "stretch":
        return page.resize(size, Image.Resampling.BICUBIC)
    return ImageOps.pad(page, size, Image.Resampling.BICUBIC, color=GREY)


def tiles(page: Image.Image, seen: Views) -> list[Image.Image]:
    """Stretch the page over the grid and cut it, row by row."""
    assert seen.grid
    assert seen.tile
    (columns, rows), side = seen.grid, seen.tile
    large = page.resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    corners = [(column * side, row * side) for row in range(rows) for column in range(columns)]
    return [large.crop((x, y, x + side, y + side)) for x, y in corners]


def one_alone() -> EngineError:
    """Return the refusal of several pictures by a model that was made for one."""
    message = "this model reads one picture at a time: send a request for each"
    return EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="file"))


def tokens_left(prompt: int, asked: int | None, context: int) -> int:
    """Return how many tokens may be written. Raises where the prompt leaves none."""
    left = context - prompt
    if left < 1:
        message = f"the prompt and the picture take {prompt} tokens, and the model's context has {context}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="resolution"))
    return left if asked is None else min(asked, left)
