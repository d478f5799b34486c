"""Finds the modules in what a load function returned: a module, a pipeline that holds some, a tuple of anything.

Pipelines (transformers, diffusers) aren't modules: they hold theirs as attributes, or in dictionaries. So attributes
are followed, a few steps deep: a pipeline in a service object is found, a registry of all models of a program isn't
meant to be.
"""

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

MAX_DEPTH: Final = 3
"""Steps from what was returned to a module: `service.pipelines["text"].model` is three."""
MAX_OBJECTS: Final = 10_000
"""Objects that are looked into. A tokenizer has some hundred; a long list of data isn't where a model is."""

_LEAVES: Final = (
    str,
    bytes,
    int,
    float,
    complex,
    torch.Tensor,
    torch.device,
    torch.dtype,
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
)


@dataclass(frozen=True)
class Found:
    modules: tuple[torch.nn.Module, ...]
    """The outermost modules, each once."""
    followers: tuple[dict[str, Any], ...] = ()
    """Attributes of objects with an own attribute `device`, by which pipelines send their inputs."""


def find(loaded: object) -> Found:
    """Return the modules in what a load function returned; none where there is none within the bounds."""
    modules: dict[int, torch.nn.Module] = {}
    followers: list[dict[str, Any]] = []
    seen: dict[int, object] = {}
    level: list[object] = [loaded]
    for depth in range(MAX_DEPTH + 1):
        below: list[object] = []
        for each in level:
            if id(each) in seen or isinstance(each, _LEAVES) or len(seen) >= MAX_OBJECTS:
                continue
            seen[id(each)] = each  # kept, so that no other object gets its number meanwhile
            if isinstance(each, torch.nn.Module):
                modules[id(each)] = each
                continue
            if depth < MAX_DEPTH:
                below.extend(_parts(each))
            own = getattr(each, "__dict__", None)
            if isinstance(own, dict) and isinstance(own.get("device"), torch.device):
                followers.append(own)
        level = below
    return Found(_outermost(modules.values()), tuple(followers))


def _parts(each: object) -> Iterator[object]:
    if isinstance(each, Mapping):
        yield from each.values()
    elif isinstance(each, list | tuple | set | frozenset):
        yield from each
    own = getattr(each, "__dict__", None)
    if isinstance(own, dict):
        yield from tuple(own.values())


def _outermost(modules: Iterable[torch.nn.Module]) -> tuple[torch.nn.Module, ...]:
    """Return the modules that are no part of another one of them: pipelines often hold a part beside the whole."""
    every = tuple(modules)
    inner = {id(part) for module in every for part in module.modules() if part is not module}
    return tuple(module for module in every if id(module) not in inner)
