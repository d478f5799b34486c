"""Features of pictures that were encoded lately, in host memory, for pages that are asked again: by another task or
prompt, or since the first try failed.

A tower's result is small against what computing it takes: a page's tokens, each as wide as the decoder. The cache is
bounded by its bytes, and those that were used least lately leave first.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Final

import torch
from torch import Tensor

MIB: Final = 1 << 20
TEXT: Final = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})
"""Arguments of `forward` that say nothing of a picture."""


class Features:
    """Cache of one model. Called by one thread, except for `may_keep`."""

    def __init__(self, most_bytes: int) -> None:
        """Make an empty one that never holds more than that; 0 keeps nothing."""
        self.most_bytes = most_bytes
        self.nbytes = 0
        self.takes_part = True
        """Whether the model takes features that were computed before, as far as is known."""
        self.joins = True
        """Whether what several pictures gave together can be divided among them, as far as is known."""
        self._too_large = math.inf
        """Size of the smallest picture whose features were larger than all that may be kept."""
        self._kept: OrderedDict[bytes, Any] = OrderedDict()

    def may_keep(self, tensors: Mapping[str, Any]) -> bool:
        """Whether features of a picture with these tensors may fit, as far as is known from others."""
        return self.takes_part and self.most_bytes > 0 and nbytes(tensors) < self._too_large

    def get(self, picture: bytes | None, device: torch.device) -> Any | None:
        """Return the features of a picture, on the device: a tensor, or a list of one for each of its parts. None where
        they aren't kept."""
        if picture is None or (kept := self._kept.get(picture)) is None:
            return None
        self._kept.move_to_end(picture)
        return _mapped(kept, lambda each: each.to(device))

    def put(self, picture: bytes | None, features: Any, of_bytes: float = math.inf) -> None:
        """Keep a copy of a picture's features, where they fit; `of_bytes` is the picture's own size (`nbytes`).

        A copy from a GPU waits for it, so what went wrong there before is raised here.
        """
        size = sum(each.nbytes for each in _tensors(features))
        if size > self.most_bytes:
            self._too_large = min(self._too_large, of_bytes)
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


def nbytes(tensors: Mapping[str, Any]) -> int:
    """Return the size of a prompt's pictures as the tower gets them, in bytes."""
    return sum(each.nbytes for each in of_picture(tensors).values() if isinstance(each, Tensor))


def of_picture(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a prompt has beside its text: pixels, how they are cut, and what else its model asks for."""
    return {name: value for name, value in tensors.items() if name not in TEXT}


def digest(tensors: Mapping[str, Any], names: Collection[str]) -> bytes | None:
    """Return what the pictures of a prompt are known by: pixels, and how they are cut. `names` are the arguments that
    the tower has. None where the prompt has others, which a tower may be given in ways that its signature hides, or one
    of which it can't be said whether it is the same.

    Pages of different senders share a model, so equal digests have to mean equal features: SHA-256.
    """
    pictures = of_picture(tensors)
    if not pictures or pictures.keys() - set(names):
        return None
    found = hashlib.sha256()
    for name, value in sorted(pictures.items()):
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
