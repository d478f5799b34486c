"""Arguments of several pages made those of one forward pass, where their shapes allow it.

Pages of one size and one prompt have prompts of one length, so they need no padding and no mask: each row computes what
it would compute by itself. Whatever differs in more than its first dimension stays apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

ENCODED = "mm_encoder_outputs"
"""Argument with the features of pictures, by modality, in the place of pixels."""


def groups(pages: Sequence[Mapping[str, Any]], sizes: Sequence[int], most: int) -> list[list[int]]:
    """Return indexes of pages that go together, those that came first first: same arguments, same shapes but for the
    first dimension, and sizes that sum up to `most`. A larger page goes alone."""
    done: list[list[int]] = []
    open_: dict[object, list[int]] = {}
    for index, page in enumerate(pages):
        kind = tuple((name, _shape(value)) for name, value in sorted(page.items()))
        group = open_.setdefault(kind, [])
        if group and sum(sizes[each] for each in group) + sizes[index] > most:
            done.append(group)
            group = open_[kind] = []
        group.append(index)
    return sorted([*done, *open_.values()])


def joined(pages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments for all pages of a group."""
    if len(pages) == 1:
        return dict(pages[0])
    return {name: _joined([page[name] for page in pages]) for name in pages[0]}


def encoded(features: Any) -> dict[str, BaseModelOutputWithPooling]:
    """Return `ENCODED` for a page's features: a tensor, or one for each picture."""
    return {"image": BaseModelOutputWithPooling(pooler_output=features)}


def _shape(value: object) -> object:
    if isinstance(value, Tensor):
        return tuple(value.shape[1:]), value.dtype
    if isinstance(value, Mapping):
        return tuple((name, _shape(each)) for name, each in sorted(value.items()))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return "list" if isinstance(value, list | tuple) else id(value)  # whatever else it is, it joins no other


def _joined(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values), dim=0)
    if isinstance(first, BaseModelOutputWithPooling):
        return BaseModelOutputWithPooling(pooler_output=_joined([each.pooler_output for each in values]))
    if isinstance(first, Mapping):
        return {name: _joined([value[name] for value in values]) for name in first}
    if isinstance(first, list | tuple):
        return [each for value in values for each in value]
    return first
