"""Passes pictures of several pages through a model's vision tower at once, ahead of their prompts.

A tower's result takes little memory, its computation much. So pages that come together are encoded in groups of a
bounded size, before their prompts are read in.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ocr_inference.engines.transformers import joining
from ocr_inference.engines.transformers.generation import Prompt

GROUP_ELEMENTS = 8 * 3 * 1024 * 1024
"""Most bytes of pixel tensors in one pass: eight views of 1024 px, whose attention biases take some 3 GB in
DeepSeek-OCR."""

_PIXELS = "pixel_values"


@torch.inference_mode()
def seen(model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts with features in the place of pixels, as far as the model takes them; in order.

    A group that can't be encoded together (such as for lack of memory) stays as it is: each page is encoded by itself
    then, and fails by itself.
    """
    tower: Any = getattr(model, "get_image_features", None)
    if tower is None or joining.ENCODED not in inspect.signature(model.forward).parameters:
        return list(prompts)
    known = frozenset(inspect.signature(tower).parameters) - {"input_ids"}
    done = list(prompts)
    for group in _groups(prompts, known):
        if len(group) > 1:
            for index, prompt in zip(
                group, _together(tower, [prompts[index] for index in group], known), strict=True
            ):
                done[index] = prompt
    return done


def _groups(prompts: Sequence[Prompt], known: frozenset[str]) -> Iterator[list[int]]:
    """Return indexes of prompts whose pictures go together."""
    found = {index: _picture(prompt, known) for index, prompt in enumerate(prompts)}
    pictures = {index: each for index, each in found.items() if isinstance(each.get(_PIXELS), Tensor)}
    sizes = [
        sum(value.numel() for value in each.values() if isinstance(value, Tensor))
        for each in pictures.values()
    ]
    indexes = list(pictures)
    for group in joining.groups(list(pictures.values()), sizes, GROUP_ELEMENTS):
        yield [indexes[each] for each in group]


def _picture(prompt: Prompt, known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in prompt.tensors.items() if name in known}


def _together(tower: Any, prompts: Sequence[Prompt], known: frozenset[str]) -> Sequence[Prompt]:
    arguments = joining.joined([_picture(prompt, known) for prompt in prompts])
    try:
        features = tower(**arguments, return_dict=True).pooler_output
    except (RuntimeError, MemoryError):
        return prompts
    if isinstance(features, Tensor):
        counts = [prompt.tensors[_PIXELS].shape[0] for prompt in prompts]
        if sum(counts) != features.shape[0]:
            return prompts
        parts: list[Any] = list(torch.split(features, counts))
    else:
        counts = [_pictures(prompt.tensors) for prompt in prompts]
        if sum(counts) != len(features):
            return prompts
        left = iter(features)
        parts = [[next(left) for _ in range(count)] for count in counts]
    return [_with(prompt, part) for prompt, part in zip(prompts, parts, strict=True)]


def _pictures(tensors: Mapping[str, Any]) -> int:
    for name in ("image_grid_thw", "image_sizes", "num_local_patches", _PIXELS):
        if name in tensors:
            return len(tensors[name])
    return 0


def _with(prompt: Prompt, features: Any) -> Prompt:
    tensors = {name: value for name, value in prompt.tensors.items() if not name.startswith(_PIXELS)}
    return replace(prompt, tensors={**tensors, joining.ENCODED: joining.encoded(features)})
