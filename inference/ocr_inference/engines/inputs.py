"""From a page and what is asked of it to the tensors that a model's `forward` takes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Inputs:
    """A page, ready for its model, on the CPU."""

    tensors: Mapping[str, Any]
    """Arguments of `forward` besides the cache: `input_ids` `[1, n]`, `pixel_values` in the model's dtype, …"""
    prompt_tokens: int
    """What the model sees: text and the places of picture tokens."""
    width: int
    height: int
    """Pixels of the page as it is looked at."""
    max_new_tokens: int
    """What was asked for, bounded by what is left of the model's context."""
    banned: Callable[[Sequence[int]], Collection[int]] | None = None
    """The loop guard: tokens written so far → tokens that must not come next."""
