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
import platform
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from ocr_inference.engines.transformers.packedlayers import PackedGate, PackedLinear, gate_of


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
        self._modules = _modules(model)
        self._layers = _layers(self._modules, least_elements)
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
                layer.forward = PackedLinear(layer)  # type: ignore[method-assign]
            for block in self._modules:
                if (gate := gate_of(block)) is not None:
                    block.forward = gate
        except BaseException:
            self.drop()
            raise
        self._is_packed = bool(self._layers)

    def drop(self) -> None:
        """Have the layers compute with their weights again, and give the copies' memory back to the system."""
        for module in self._modules:
            if isinstance(vars(module).get("forward"), PackedLinear | PackedGate):
                del module.forward
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


def _modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return what decoding steps use. A vision tower has hundreds of rows at a time, for which the arrangement in each
    call costs little."""
    decoder = model.get_decoder()  # type: ignore[no-untyped-call]
    return list(dict.fromkeys([*decoder.modules(), model.get_output_embeddings()]))  # type: ignore[no-untyped-call]


def _layers(modules: list[nn.Module], least_elements: int) -> list[nn.Linear]:
    return [
        each
        for each in modules
        if type(each) is nn.Linear
        and each.weight.dtype is torch.float32
        and each.weight.numel() >= least_elements
    ]
