"""Layers that a CPU computes with packed copies of their weights: they stand in for `forward` of those of a model.

`_reorder_linear_weight` and `_linear_pointwise` are what torch's own compiler calls, without a promise; nothing else
here calls them.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import SiLUActivation

_SPLIT_ELEMENTS = 1 << 21
"""Elements from which sharing out a single row's work gains more than waiting for the other cores costs."""
_OWN_ROWS = 8
"""Rows up to which each number has a program of its own; oneDNN makes one for each number and each kind of layer and
keeps it, up to 0.7 MiB, so more rows are rounded up, and cut into equal parts."""
_MOST_ROWS = 1024
"""More are quicker the more there are, up to here: with a quarter of it, prompts took a twelfth longer."""
_STEPS: Final = ((16, 2), (32, 4), (256, 16), (512, 32))
"""Up to so many rows they are rounded up to a multiple of that."""
_LAST_STEP: Final = 64
_HINT = 16
"""Rows that the layout is made for; it is the same for any number but 1."""


class PackedLinear:
    """Stands in for `forward` of a linear layer; the copy is made here. Raises what torch raises where memory runs
    out."""

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
        return self._one(input) if _rows(input) == 1 else _in_parts(input, self.product)

    def product(self, rows: Tensor, activation: str = "none") -> Tensor:
        """Return the product of `[rows, in]`, with an activation of oneDNN's."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, activation, [], "")
        return out

    def times(self, rows: Tensor, other: Tensor) -> Tensor:
        """Return the product of `[rows, in]`, each number of it multiplied by the one of `other`, `[rows, out]`."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, other, self._packed, self._bias, "mul")
        return out

    def _one(self, input: Tensor) -> Tensor:  # noqa: A002
        if self._parts == 1:
            return functional.linear(input, self._weight, self._bias)
        row = input.reshape(1, 1, -1).expand(self._parts, 1, -1)
        weight = self._weight.view(self._parts, -1, self._weight.shape[1])
        out = torch.bmm(row, weight.transpose(1, 2)).view(*input.shape[:-1], -1)
        return out if self._bias is None else out + self._bias


class PackedGate:
    """Stands in for `forward` of a block that computes `down(silu(gate(x)) * up(x))`, as most decoders' do: activation
    and product are applied where the numbers come to be, not in passes of their own."""

    def __init__(self, block: nn.Module, gate: PackedLinear, up: PackedLinear, down: PackedLinear) -> None:
        self._own: Callable[[Tensor], Tensor] = type(block).forward.__get__(block)
        self._gate, self._up, self._down = gate, up, down

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002
        return self._own(input) if _rows(input) == 1 else _in_parts(input, self._product)

    def _product(self, rows: Tensor) -> Tensor:
        return self._down.product(self._up.times(rows, self._gate.product(rows, "swish")))


def _returned(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


def _named(self: Any, x: Tensor) -> Tensor:
    down_proj = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
    return down_proj  # type: ignore[no-any-return]  # noqa: RET504 as most models have it


def _code(function: Any) -> tuple[object, ...] | None:
    """Return what a function does, apart from its names; None for what isn't written in Python."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    return (
        code.co_code,
        code.co_names,
        code.co_consts[1:],
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_flags,
    )


_KNOWN: Final = frozenset(map(_code, (_returned, _named)))


def gate_of(block: nn.Module) -> PackedGate | None:
    """Return what stands in for a block whose linear layers are packed already; None where it is no such block, or its
    code isn't known to the letter: others limit or scale what is in between."""
    layers: list[Any] = [
        vars(layer).get("forward") if isinstance(layer := getattr(block, name, None), nn.Linear) else None
        for name in ("gate_proj", "up_proj", "down_proj")
    ]
    gate, up, down = layers
    if (
        all(isinstance(each, PackedLinear) for each in layers)
        and type(getattr(block, "act_fn", None)) in (nn.SiLU, SiLUActivation)
        and "forward" not in vars(block)
        and _code(type(block).forward) in _KNOWN
    ):
        return PackedGate(block, gate, up, down)
    return None


def _rows(input: Tensor) -> int:  # noqa: A002
    return math.prod(input.shape[:-1])


def _in_parts(input: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:  # noqa: A002
    """Compute `[..., in]` in parts of rows of which there are few different sizes."""
    rows = _rows(input)
    flat = input.reshape(rows, input.shape[-1])
    part = _part(rows)
    if rows % part:
        flat = functional.pad(flat, (0, 0, 0, -rows % part))
    parts = [compute(each) for each in torch.split(flat, part)]
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out[:rows].view(*input.shape[:-1], out.shape[-1])


def _part(rows: int) -> int:
    """Return how many rows are computed at once: the same in all parts, so that none is too small for a call."""
    if rows <= _OWN_ROWS:
        return max(1, rows)
    most = -(-rows // -(-rows // _MOST_ROWS))
    # Few rows cost little more than fewer, since reading the weight takes the time.
    step = next((step for limit, step in _STEPS if most <= limit), _LAST_STEP)
    return -(-most // step) * step
