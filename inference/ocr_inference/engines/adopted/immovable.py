"""Says why a model's weights can't be moved; such a model is kept whole, and leaves the GPU only by being released.

A model is moved by giving its tensors other memory. That is wrong where something besides the tensors knows the memory:
compiled code, packed weights, hooks of another library that moves parts by itself.
"""

import itertools
import sys
from collections.abc import Sequence
from typing import Final

import torch

from ocr_inference.engines.transformers import torchweights
from ocr_inference.engines.transformers.torchweights import Site

_WRAPPERS: Final = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
_PLAIN: Final = (torch.Tensor, torch.nn.Parameter)

Tensors = Sequence[tuple[torch.Tensor, Sequence[Site]]]


def reason(modules: Sequence[torch.nn.Module], tensors: Tensors) -> str:
    """Return why these modules, with these tensors, can't be moved; empty where they can."""
    if not modules:
        return "there is no torch.nn.Module in it, a few attributes deep"
    for root in modules:
        if getattr(root, "is_quantized", False) or getattr(root, "quantization_method", None) is not None:
            return f"{_name(root)} is quantised"
        for part in root.modules():
            if found := _of_part(part):
                return found
    for tensor, sites in tensors:
        if found := _of_tensor(tensor):
            return f"{sites[0].name} {found}"
    devices = sorted({str(tensor.device) for tensor, _ in tensors})
    if len(devices) > 1:
        return f"its tensors are on {' and '.join(devices)}"
    return _shared_memory(tensors)


def _of_part(part: torch.nn.Module) -> str:
    name = _name(part)
    if _is_compiled(part):
        return f"{name} is compiled: its code may know where the weights are"
    if isinstance(part, torch.jit.ScriptModule):
        return f"{name} is a ScriptModule: its code may know where the weights are"
    if isinstance(part, _WRAPPERS):
        return f"{name} has copies on several devices"
    if "_hf_hook" in vars(part):
        return f"accelerate moves parts of it (a hook on {name}): load it without device_map"
    if any(isinstance(each, torch.ScriptObject) for each in vars(part).values()):
        return f"{name} has packed weights"
    return ""


def _is_compiled(part: torch.nn.Module) -> bool:
    # Imported by whatever compiles, and by nothing else: it takes seconds.
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return part._compiled_call_impl is not None or (
        dynamo is not None and isinstance(part, dynamo.OptimizedModule)
    )


def _of_tensor(tensor: torch.Tensor) -> str:
    if type(tensor) not in _PLAIN:
        return f"is a {type(tensor).__name__}, which has more than its elements"
    if tensor.is_nested:
        return "is nested: its parts have sizes of their own"
    if tensor.is_quantized or tensor.layout is not torch.strided:
        return f"is {'quantised' if tensor.is_quantized else tensor.layout}"
    if tensor.is_meta:
        return "is on meta: it was never filled"
    if tensor.dtype not in torchweights.WORDS:
        return f"has elements of a type that can't be stored, {tensor.dtype}"
    return ""


def _shared_memory(tensors: Tensors) -> str:
    """Return which two tensors share elements: what is written to one must be seen by the other."""
    places = sorted(
        (tensor.data_ptr(), tensor.data_ptr() + _span(tensor), sites[0].name)
        for tensor, sites in tensors
        if tensor.numel()
    )
    for (_, end, first), (begin, _, second) in itertools.pairwise(places):
        if begin < end:
            return f"{first} and {second} share memory"
    return ""


def _span(tensor: torch.Tensor) -> int:
    """Return the bytes from a tensor's first element to the end of its last one."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (steps + 1) * tensor.element_size()


def _name(module: torch.nn.Module) -> str:
    return type(module).__name__
