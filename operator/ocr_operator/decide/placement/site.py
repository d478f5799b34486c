"""A node with all that is known of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ocr_operator.decide.placement import predicates
from ocr_operator.decide.placement.candidates import NEW
from ocr_operator.decide.placement.load import Load, loads
from ocr_operator.decide.placement.predicates import Usage
from ocr_operator.decide.placement.types import Reservation
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.gpuload.readings import FRESH, USABLE
from ocr_operator.resources.observed import Node
from ocr_operator.resources.tenant import Tenant

_TICK: Final = timedelta(microseconds=1)


@dataclass(slots=True, eq=False)
class Site:
    """A node with all that is known of it; written by `NodeIndex` only."""

    node: Node | None = None
    readings: Sequence[GpuReading] = ()
    usage: Usage = predicates.EMPTY
    """What is taken by the pods that are there."""
    coming: dict[str, Tenant] = field(default_factory=dict)
    """Pod UID → a pod that is on its way."""
    entries: dict[str, list[Reservation]] = field(default_factory=dict)
    """Pod UID → its reservations here."""
    loads: Sequence[Load] | None = None
    """With the reservations of all pods; None: to be found again."""
    due: datetime | None = None
    """`next_turn` as of the last look."""

    @property
    def empty(self) -> bool:
        return (
            not (self.node or self.readings or self.coming or self.entries) and self.usage == predicates.EMPTY
        )

    def here(self, *without: str) -> list[Reservation]:
        return [entry for uid, each in self.entries.items() if uid not in without for entry in each]

    def taken(self, without: str) -> Usage:
        coming = [each for uid, each in self.coming.items() if uid != without]
        return self.usage.plus(coming) if coming else self.usage

    def carried(self, now: datetime, *without: str) -> Sequence[Load]:
        """List what the GPUs carry, some pods left out; a pod's own reading is as young as its stream."""
        assert self.node is not None
        of_all = self.entries.keys().isdisjoint(without)
        if self.loads is not None and of_all:
            return self.loads
        said = [replace(each, read_at=now) if each.source is Source.POD else each for each in self.readings]
        found = loads(self.node, said, self.here(*without), now)
        if of_all:
            self.loads = found
        return found

    def next_turn(self, now: datetime) -> datetime | None:
        """Return when time alone changes something: the node or data grows too old, a promise becomes older than what a
        pod measures.
        """
        ages = [
            each.read_at
            for each in self.readings
            if each.read_at is not None and each.source is not Source.POD
        ]
        turns = [at + USABLE + _TICK for at in ages] + [at - FRESH for at in ages]
        if self.node is not None and self.node.created is not None:
            turns.append(self.node.created + NEW + _TICK)
        if any(each.source is Source.POD for each in self.readings):
            placed = (entry.placed for each in self.entries.values() for entry in each)
            turns += [at + _TICK for at in placed if at is not None]
        return min((at for at in turns if at > now), default=None)
