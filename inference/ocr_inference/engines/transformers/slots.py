"""Keys and values of several pages in one set of tensors: a slot for each page, filled by the prefill that reads it in.

transformers' caches hold one batch that begins and ends together. This one has a write position per row, so a page that
ends gives its slot to the next one while other pages go on. Occupied slots are always the first ones, so a decoding
step computes no idle rows; all layers keep every position, and windows are a matter of the mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

_ROUND = 64
"""Step to which lengths are rounded up, so that kernels see few shapes and memory grows in few steps."""


class Slots:
    """`[slots, heads, positions, dim]` keys and values per layer, allocated as pages need them."""

    def __init__(self) -> None:
        self.count = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    @property
    def bytes(self) -> int:
        return sum(each.numel() * each.element_size() for each in (*self._keys, *self._values))

    @property
    def held(self) -> int:
        """Slots that there is memory for, in every layer."""
        return self._keys[-1].shape[0] if self._keys else 0

    def clear(self) -> None:
        """Free all slots and their memory."""
        self.count = 0
        self._keys.clear()
        self._values.clear()

    def forget(self, held: int) -> None:
        """Free the slots beyond so many `held` ones, which a prefill that failed has taken in some layers."""
        if self.count == 0:
            self.clear()
        for store in (self._keys, self._values):
            for layer, each in enumerate(store):
                if each.shape[0] > held:
                    store[layer] = each[:held].clone()

    def open(self) -> "Prefill":
        """Return the cache for a prefill into the next free slots, which are taken by `count` when that went well."""
        return Prefill(self)

    def step(self, lengths: Sequence[int], positions: Tensor, *, exact: bool) -> "Step":
        """Return the cache for one token of each occupied slot; `lengths` and `positions` (the same, on the device) are
        where it is written. `exact` shows attention no more positions than there are, for kernels that take any number
        of them equally well."""
        longest = max(lengths) + 1
        for layer in range(len(self._keys)):
            self._reserve(layer, self.count, _rounded(longest), like=None)
        return Step(self, longest if exact else _rounded(longest), positions)

    def remove(self, slot: int, last_length: int) -> None:
        """Free a slot: the last page, of `last_length` positions, moves into it."""
        self.count -= 1
        if slot != self.count:
            for each in (*self._keys, *self._values):
                each[slot, :, :last_length] = each[self.count, :, :last_length]
        if self.count == 0:
            self.clear()

    def put(self, layer: int, slot: int, keys: Tensor, values: Tensor) -> None:
        """Write the first positions of a slot and those after it; `keys` and `values` are `[slots, heads, n, dim]`."""
        end, length = slot + keys.shape[0], keys.shape[2]
        self._reserve(layer, end, _rounded(length + 1), like=(keys, values))
        self._keys[layer][slot:end, :, :length] = keys
        self._values[layer][slot:end, :, :length] = values

    def append(
        self, layer: int, length: int, positions: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write a position of each occupied slot; returns the first `length` positions of all of them."""
        count = self.count
        rows = torch.arange(count, device=positions.device)
        self._keys[layer][rows, :, positions] = keys[:, :, 0]
        self._values[layer][rows, :, positions] = values[:, :, 0]
        return self._keys[layer][:count, :, :length], self._values[layer][:count, :, :length]

    def _reserve(self, layer: int, slots: int, length: int, like: tuple[Tensor, Tensor] | None) -> None:
        """Grow one layer, so that growing needs the memory of one layer twice, never that of all."""
        if layer == len(self._keys):
            assert like is not None
            keys, values = like
            self._keys.append(keys.new_zeros((0, keys.shape[1], 0, keys.shape[3])))
            self._values.append(values.new_zeros((0, values.shape[1], 0, values.shape[3])))
        held_slots, _, held_length, _ = self._keys[layer].shape
        if slots <= held_slots and length <= held_length:
            return
        if length > held_length > 0:
            length = _rounded(max(length, held_length + held_length // 4))
        shape = (max(slots, held_slots), max(length, held_length))
        for store in (self._keys, self._values):
            store[layer] = _grown(store[layer], *shape)


def _rounded(length: int) -> int:
    return -(-length // _ROUND) * _ROUND


def _grown(old: Tensor, slots: int, length: int) -> Tensor:
    # Zeros, since masked positions still take part in sums: what is left in fresh memory may be NaN.
    new = old.new_zeros((slots, old.shape[1], length, old.shape[3]))
    new[: old.shape[0], :, : old.shape[2]] = old
    return new


class Prefill(Cache):
    """Cache that is empty to the model; what it writes goes to the slots, and attention sees just that."""

    def __init__(self, slots: Slots) -> None:
        super().__init__(layers=[])
        self._slots = slots
        self._slot = slots.count
        self.length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        self._slots.put(layer_idx, self._slot, key_states, value_states)
        self.length = key_states.shape[2]
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 the base class's signature
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:  # noqa: ARG002
        return query_length, 0


class Step(Cache):
    """Cache for one token of each occupied slot."""

    def __init__(self, slots: Slots, length: int, positions: Tensor) -> None:
        super().__init__(layers=[])
        self._slots = slots
        self._positions = positions
        self.length = length
        """Number of positions that attention sees, the masked ones included."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        return self._slots.append(layer_idx, self.length, self._positions, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        return self.length - 1

    def get_query_offset(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        return self.length - 1

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:  # noqa: ARG002
        return self.length, 0
