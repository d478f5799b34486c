"""Decides what is tried for a page for which memory ran out: `next_rung(climbed, …)`, until nothing is left to try.

1. Alone: the worker has emptied its caches, and reads it with no other page.
2. Evicted: idle models make way, and it is read alone again.
3. Smaller: at each smaller size that its model was trained on, unless the request named a resolution.

Each is tried once, and the page is read anew each time; where host memory ran out only the first, since the
others free a device. Where a part of its answer was sent, only what gives the same answer is tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_SMALLER: Final = 4
"""Most smaller sizes that are tried: as many as any model has (`families.page_size`)."""


class Step(StrEnum):
    ALONE = "alone"
    EVICTED = "evicted"
    SMALLER = "smaller"


@dataclass(frozen=True, slots=True)
class Rung:
    """One further try."""

    step: Step
    read_at: str | None = None
    """Size at which the page is read; None: as before."""


WHY: Final = {
    Step.ALONE: "memory ran out beside other pages, or with full caches",
    Step.EVICTED: "memory ran out until idle models made way",
    Step.SMALLER: "memory ran out at a larger size",
}
"""What each step means for the person that gets the answer."""


def next_rung(
    climbed: Sequence[Rung], smaller: Sequence[str], *, fixed: bool, evictable: bool, of_host: bool = False
) -> Rung | None:
    """Return what to try next; None: nothing is left, and the page fails.

    `smaller` are the sizes below the one that memory ran out at, largest first; `fixed`: the size may not change, since
    the request names a resolution, or a part of the answer was sent; `evictable`: there are idle models that may make
    way; `of_host`: it is host memory that ran out.
    """
    tried = {rung.step for rung in climbed}
    if Step.ALONE not in tried:
        return Rung(Step.ALONE)
    if of_host:
        return None
    if evictable and not tried & {Step.EVICTED, Step.SMALLER}:
        return Rung(Step.EVICTED)
    sizes = [rung.read_at for rung in climbed if rung.step is Step.SMALLER]
    left = [size for size in smaller if size not in sizes]
    if fixed or not left or len(sizes) >= MAX_SMALLER:
        return None
    return Rung(Step.SMALLER, left[0])


_LARGER: Final = "use a smaller model, or a GPU with more memory: `ocr-inference check` says what fits"
_FREE: Final = (
    "free the GPU: offload other models with POST /gpu/offload, end other processes (nvidia-smi shows them)"
)
_HOST_SUGGESTIONS: Final = (
    "send a smaller picture, or the page in parts",
    "raise the container's memory limit, or lower server.limits.maxImagePixels to what it can read",
)
LOAD_SUGGESTIONS: Final = (
    _FREE,
    "compute in half precision: dtype bfloat16, or float16 on a GPU older than compute capability 8.0",
    _LARGER,
)
"""What helps where memory runs out while a model is loaded."""
NO_FIT_SUGGESTIONS: Final = ("lower gpuMemory, if the model needs less than it says", _LARGER)
"""What helps where a model needs more than the device has."""


def suggestions(smaller: Sequence[str], *, named: bool, of_host: bool = False) -> tuple[str, ...]:
    """Return what helps a page that failed on the last rung, for the person that sent it or runs the server."""
    if of_host:
        return _HOST_SUGGESTIONS
    found = []
    if named and smaller:
        found.append(f"leave resolution out, so that the page may be read smaller: at {', '.join(smaller)}")
    return (
        *found,
        "send a smaller picture, or the page in parts; bound the answer with max_tokens",
        _FREE,
        _LARGER,
    )
