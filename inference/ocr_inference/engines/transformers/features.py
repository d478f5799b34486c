"""Features of pictures that were encoded lately, in host memory, for pages that are asked again: by another task or
prompt, or since the first try failed.

A tower's result is small against what computing it takes: a page's tokens, each as wide as the decoder. The cache is
bounded by its bytes, and those that were used least lately leave first.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Final

import torch
from torch import Tensor

MIB: Final = 1 << 20


class Features:
    """Cache of one model. Called by one thread."""

    def __init__(self, most_bytes: int) -> None:
        """Make an empty one that never holds more than that; 0 keeps nothing."""
        self.most_bytes = most_bytes
        self.nbytes = 0
        self.takes_part = True
        """Whether the model takes features that were computed before, as far as is known."""
        self._kept: OrderedDict[bytes, Any] = OrderedDict()

    def get(self, picture: bytes | None, device: torch.device) -> Any | None:
        """Return the features of a picture, on the device: a tensor, or a list of one for each of its parts. None where
        they aren't kept."""
        if picture is None or (kept := self._kept.get(picture)) is None:
            return None
        self._kept.move_to_end(picture)
        return _mapped(kept, lambda each: each.to(device))

    def put(self, picture: bytes | None, features: Any) -> None:
        """Keep a copy of a picture's features, where they fit."""
        size = sum(each.nbytes for each in _tensors(features))
        if picture is None or picture in self._kept or size > self.most_bytes:
            return
        while self.nbytes + size > self.most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.nbytes -= sum(each.nbytes for each in _tensors(oldest))
        # A view would keep all of the group that it was computed with.
        self._kept[picture] = _mapped(features, lambda each: each.to("cpu", copy=True).contiguous())
        self.nbytes += size

    def clear(self) -> None:
        self._kept.clear()
        self.nbytes = 0


def digest(tensors: Mapping[str, Any], names: Collection[str]) -> bytes | None:
    """Return what pictures with these arguments of the tower are known by: pixels, and how they are cut. None where
    there is an argument of which that can't be said.

    Pages of different senders share a model, so equal digests have to mean equal pixels: SHA-256.
    """
    found = hashlib.sha256()
    for name in sorted(tensors.keys() & set(names)):
        value = tensors[name]
        if isinstance(value, Tensor):
            found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            found.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
        elif _is_plain(value):
            found.update(f"{name} {value!r} ".encode())
        else:
            return None
    return found.digest()


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _tensors(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)


def _mapped(features: Any, change: Any) -> Any:
    return change(features) if isinstance(features, Tensor) else [change(each) for each in features]
