"""What to write and what to delete so that the owned objects become the desired ones.

Only the comparison of two lists of manifests: no client, no retry, no order of its own beyond the given one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """`why` has a sentence for each object of `apply`, `delete` and `blocked`, for the log."""

    apply: tuple[Manifest, ...] = ()
    """Desired manifests, to be written by server-side apply with our field manager, in this order."""
    delete: tuple[Manifest, ...] = ()
    """Owned objects as read, to be deleted with their uid as precondition."""
    why: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    """Sentences for desired objects whose name is taken by an object that isn't ours: nothing is written over
    it.
    """

    def __bool__(self) -> bool:
        return bool(self.apply or self.delete)


def plan(desired: Sequence[Manifest], owned: Sequence[Manifest]) -> Plan:
    """Compares by kind and name; all objects are of one namespace."""
    raise NotImplementedError
