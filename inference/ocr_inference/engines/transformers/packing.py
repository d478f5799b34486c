"""Second copies of a decoder's weights, laid out for oneDNN: a CPU computes decoding steps with them.

`torch.nn.functional.linear` has the matrix library arrange a weight anew in each call, which costs more than the
product itself where there are few rows, and the library uses one core for those. oneDNN takes a weight that was
arranged once, and all cores. A single row gains nothing by the arrangement: its product is bound by reading the weight,
so the weight as it is gets shared out among the cores.

The copies belong to this process and are gone with `drop`; the weights themselves stay in the host tier. Packing the
same weights gives the same copies, so a model computes the same bits after any number of cycles.
"""

import contextlib
import ctypes
import math
import platform
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

_SPLIT_ELEMENTS = 1 << 21
"""Elements from which sharing out a single row's work gains more than waiting for the other cores costs."""
_FEW_ROWS = 32
"""Rows up to which each number has a program of its own; oneDNN makes one for each number and keeps it, 0.15 MiB for a
large layer, so more rows are rounded up, and cut into equal parts."""
_ROUND = 16
_MOST_ROWS = 256
_HINT = 16
"""Rows that the layout is made for; it is the same for any number but 1."""


@dataclass(frozen=True)
class Terms:
    """Terms on which weights are packed."""

    least_elements: int = 1 << 19
    """Elements of a weight from which it is: a call of oneDNN's takes 0.05 ms longer to begin, whatever its size."""
    spare_bytes: int = 1 << 30
    """Host memory that is left to pages."""


class PackedWeights:
    """Packed copies of one model's weights; none before `pack`."""

    def __init__(self, model: PreTrainedModel, least_elements: int) -> None:
        self._layers = _layers(model, least_elements)
        self._is_packed = False

    @property
    def nbytes(self) -> int:
        """Bytes that the copies take now."""
        return self.nbytes_packed if self._is_packed else 0

    @property
    def nbytes_packed(self) -> int:
        """Bytes that they take when they are there."""
        return sum(layer.weight.nbytes for layer in self._layers)

    def pack(self) -> None:
        """Make the copies, and have the layers compute with them, all or none. The weights have to be in host memory.
        Raises what torch raises where memory runs out."""
        if self._is_packed:
            return
        try:
            for layer in self._layers:
                layer.forward = _Forward(layer)  # type: ignore[method-assign]
        except BaseException:
            self.drop()
            raise
        self._is_packed = bool(self._layers)

    def drop(self) -> None:
        """Have the layers compute with their weights again, and give the copies' memory back to the system."""
        for layer in self._layers:
            vars(layer).pop("forward", None)
        if self._is_packed:
            self._is_packed = False
            with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
                ctypes.CDLL(None).malloc_trim(0)


def unfit(dtype: torch.dtype) -> str | None:
    """Return why weights of this type aren't packed on this machine; None if they are."""
    if dtype is not torch.float32:
        return f"only float32 was measured with it, this is {str(dtype).removeprefix('torch.')}"
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"it was measured on x86-64 only, this is {platform.machine()}"
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this torch is built without oneDNN"
    return None


def _layers(model: PreTrainedModel, least_elements: int) -> list[nn.Linear]:
    """Return the linear layers that decoding steps use. A vision tower has hundreds of rows at a time, for which the
    arrangement in each call costs little."""
    decoder = model.get_decoder()  # type: ignore[no-untyped-call]
    found = [*decoder.modules(), model.get_output_embeddings()]  # type: ignore[no-untyped-call]
    return [
        each
        for each in dict.fromkeys(found)
        if type(each) is nn.Linear
        and each.weight.dtype is torch.float32
        and each.weight.numel() >= least_elements
    ]


def _part(rows: int) -> int:
    """Return how many rows are computed at once: the same in all parts, so that none is too small for a call."""
    parts = -(-rows // _MOST_ROWS)
    return -(-rows // (parts * _ROUND)) * _ROUND


class _Forward:
    """Stands in for `forward` of a linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        self._weight: Tensor = layer.weight
        self._bias: Tensor | None = layer.bias
        with torch.inference_mode():
            self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _HINT)
        self._parts = 1
        if layer.weight.numel() >= _SPLIT_ELEMENTS:
            threads = torch.get_num_threads()
            self._parts = next(each for each in range(threads, 0, -1) if layer.out_features % each == 0)

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 the base class's signature
        rows = math.prod(input.shape[:-1])
        if rows == 1:
            return self._one(input)
        if rows <= _FEW_ROWS:
            return self._product(input)
        flat = input.reshape(rows, input.shape[-1])
        part = _part(rows)
        padded = functional.pad(flat, (0, 0, 0, -rows % part))
        parts = [self._product(each) for each in torch.split(padded, part)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return out[:rows].view(*input.shape[:-1], out.shape[-1])

    def _product(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")
        return out

    def _one(self, input: Tensor) -> Tensor:  # noqa: A002
        if self._parts == 1:
            return functional.linear(input, self._weight, self._bias)
        row = input.reshape(1, 1, -1).expand(self._parts, 1, -1)
        weight = self._weight.view(self._parts, -1, self._weight.shape[1])
        out = torch.bmm(row, weight.transpose(1, 2)).view(*input.shape[:-1], -1)
        return out if self._bias is None else out + self._bias
