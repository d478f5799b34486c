"""Passes pictures of several pages through a model's vision tower at once, ahead of their prompts.

A tower's result takes little memory, its computation much. So pages that come together are encoded in groups of a
bounded size, before their prompts are read in, and what was encoded is kept for a while (`features`).
"""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ocr_inference.engines.transformers import errors, joining
from ocr_inference.engines.transformers.features import Features, nbytes, of_picture
from ocr_inference.engines.transformers.generation import Prompt

log = logging.getLogger(__name__)

GROUP_ELEMENTS = 8 * 3 * 1024 * 1024
"""Most bytes of pixel tensors in one pass: eight views of 1024 px, whose attention biases take some 3 GB in
DeepSeek-OCR."""

_PIXELS = "pixel_values"
_TAKEN = frozenset({"pooler_output", "last_hidden_state", "hidden_states", "attentions"})
"""What of a tower's output a prompt takes, and what none takes."""


def arguments(model: PreTrainedModel) -> frozenset[str] | None:
    """Return the arguments of the model's tower; None where its `forward` doesn't take what a tower computed."""
    tower: Any = getattr(model, "get_image_features", None)
    if tower is None or joining.ENCODED not in inspect.signature(model.forward).parameters:
        return None
    return frozenset(inspect.signature(tower).parameters) - {"input_ids"}


@torch.inference_mode()
def seen(model: PreTrainedModel, prompts: Sequence[Prompt], features: Features) -> list[Prompt]:
    """Return the prompts with features in the place of pixels, as far as the model takes them; in order. Pictures that
    several prompts have are encoded once, and kept with the `features`.

    A group that can't be encoded stays as it is: each page is encoded with its prompt then, and fails by itself. So
    does a page with arguments that the tower doesn't name: its `forward` may hand them on in a way that can't be seen.
    Raises `Broken` only.
    """
    known = arguments(model)
    if known is None or not features.takes_part:
        return list(prompts)
    done, same = list(prompts), _same(prompts)
    left = [index for index, prompt in enumerate(prompts) if index not in same and not _is_encoded(prompt)]
    for group in _groups([prompts[index] for index in left], known, features):
        indexes = [left[each] for each in group]
        if len(indexes) == 1 and prompts[indexes[0]].picture is None:
            continue  # its pass is part of its prompt's
        parts = _together(model, [prompts[index] for index in indexes], features)
        for index, part in zip(indexes, parts, strict=False):
            _keep(features, prompts[index], part)
            done[index] = encoded(prompts[index], part)
    for index, first in same.items():
        if _is_encoded(done[first]):
            part = done[first].tensors[joining.ENCODED]["image"].pooler_output
            done[index] = encoded(prompts[index], part)
    return done


def encoded(prompt: Prompt, features: Any) -> Prompt:
    """Return a prompt with its picture's features in the place of its pixels."""
    tensors = without_pixels(prompt.tensors)
    return replace(prompt, tensors={**tensors, joining.ENCODED: joining.encoded(features)})


def without_pixels(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a prompt has beside the pixels of its picture."""
    return {name: value for name, value in tensors.items() if not name.startswith(_PIXELS)}


def _same(prompts: Sequence[Prompt]) -> dict[int, int]:
    """Return indexes of prompts whose picture another one before them has, with the index of the first of these."""
    firsts: dict[bytes, int] = {}
    found: dict[int, int] = {}
    for index, prompt in enumerate(prompts):
        if prompt.picture is not None and (first := firsts.setdefault(prompt.picture, index)) != index:
            found[index] = first
    return found


def _is_encoded(prompt: Prompt) -> bool:
    return joining.ENCODED in prompt.tensors


def _groups(prompts: Sequence[Prompt], known: frozenset[str], features: Features) -> Iterator[list[int]]:
    """Return indexes of prompts whose pictures go together."""
    found = {index: of_picture(prompt.tensors) for index, prompt in enumerate(prompts)}
    pictures = {
        index: each
        for index, each in found.items()
        if isinstance(each.get(_PIXELS), Tensor) and each.keys() <= known
    }
    sizes = [
        sum(value.numel() for value in each.values() if isinstance(value, Tensor))
        for each in pictures.values()
    ]
    indexes = list(pictures)
    for group in joining.groups(list(pictures.values()), sizes, GROUP_ELEMENTS if features.joins else 0):
        yield [indexes[each] for each in group]


def _together(model: Any, prompts: Sequence[Prompt], features: Features) -> Sequence[Any]:
    """Return the features of each prompt's picture; nothing where they can't be computed, or divided."""
    if not features.takes_part:  # since a group before this one
        return []
    try:
        arguments = joining.joined([of_picture(prompt.tensors) for prompt in prompts])
        output = model.get_image_features(**arguments, return_dict=True)
        found = output.pooler_output
        if set(output.keys()) - _TAKEN or found is None:
            features.takes_part = False  # such as features for several layers, which `ENCODED` hasn't
            return []
        parts = _divided(found, prompts)
    except Exception as error:  # noqa: BLE001 towers are of any kind, and the prompt's own pass says what is wrong
        _failed("pictures can't be encoded ahead of their prompts", error, features)
        return []
    if not parts:
        log.info("pictures of this model are encoded one by one: what several give together can't be divided")
        features.joins = False
    return parts


def _divided(found: Any, prompts: Sequence[Prompt]) -> Sequence[Any]:
    """Return the part of each prompt; nothing where that can't be said."""
    if len(prompts) == 1:
        return [found]
    if isinstance(found, Tensor):
        counts = [prompt.tensors[_PIXELS].shape[0] for prompt in prompts]
        return torch.split(found, counts) if sum(counts) == found.shape[0] else []
    counts = [_pictures(prompt.tensors) for prompt in prompts]
    if sum(counts) != len(found):
        return []
    left = iter(found)
    return [[next(left) for _ in range(count)] for count in counts]


def _keep(features: Features, prompt: Prompt, part: Any) -> None:
    try:
        features.put(prompt.picture, part, nbytes(prompt.tensors))
    except Exception as error:  # noqa: BLE001 no page may be lost for a copy
        _failed("features of a picture can't be kept", error, features)


def _failed(what: str, error: Exception, features: Features) -> None:
    """Make room where memory ran out; after any other error, leave the model's pictures to their prompts. Raises
    `Broken`."""
    errors.raise_if_broken(error)
    features.clear()
    refused = not errors.ran_out(error)
    log.warning("%s", errors.shown(what, error), exc_info=error if refused else None)
    if refused:
        log.warning("pictures of this model are encoded with their prompts from now on, and not kept")
        features.takes_part = False


def _pictures(tensors: Mapping[str, Any]) -> int:
    for name in ("image_grid_thw", "image_sizes", "num_local_patches", _PIXELS):
        if name in tensors:
            return len(tensors[name])
    return 0
