"""Kubernetes Events, on transitions only and from the conditions alone, so that the two can't disagree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ocr_operator.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def events(
    before: Mapping[str, Any], after: Mapping[str, Any], placements: Iterable[Placement] = ()
) -> list[Event]:
    """What changed between two statuses; `placements` are those made (and accepted) in this pass."""
    raise NotImplementedError
