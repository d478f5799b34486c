"""The best reading of every GPU, kept as sources say something new: `readings.merge`, of what changed only.

    merged.set("exporter-1", readings)  # all that a source says, in place of what it said before
    merged.hear("uid-1", pod, state)    # what a pod measures
    merged.settle(now)                  # node → its readings, of those nodes where one changed

What passing time changes, because one source's data grows older than another's may be, is settled when it is due.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ocr_operator.gpuload import readings
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.gpuload.readings import FRESH, NO_GPU_NODES, USABLE, GpuNodes
from ocr_operator.resources.observed import Pod
from ocr_wire.state import PodState

_TICK: Final = timedelta(microseconds=1)
SLACK: Final = timedelta(seconds=1)
"""A clock that is set back by no more changes nothing that was settled."""
PODS: Final = "pod/"
"""Begins the names of sources that are pods."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
"""The time that readings of pods bear until they are settled: the same, or each would be a change."""


class MergedReadings:
    """Readings of all sources, one for each GPU or MIG instance."""

    def __init__(self) -> None:
        self._said: dict[str, Collection[GpuReading]] = {}
        """Source → all that it says."""
        self._groups: dict[str, dict[str, list[GpuReading]]] = {}
        """UUID → source → what it says of the GPU."""
        self._best: dict[str, list[GpuReading]] = {}
        """UUID → its reading, or those of its MIG instances."""
        self._nodes: dict[str, dict[str, list[GpuReading]]] = {}
        """Node → UUID → the same."""
        self._known = NO_GPU_NODES
        self._touched: set[str] = set()
        self._due: list[tuple[datetime, str]] = []
        self._now: datetime | None = None

    @property
    def sources(self) -> Collection[str]:
        """Names of those that say something."""
        return self._said.keys()

    def set(self, source: str, said: Collection[GpuReading]) -> None:
        """Take all that a source says; nothing where it is gone. The same object again costs nothing."""
        before = self._said.get(source, ())
        if said is before:
            return
        old, new = _by_uuid(before), _by_uuid(said)
        for uuid in old.keys() | new.keys():
            if old.get(uuid) != new.get(uuid):
                self._touched.add(uuid)
                group = self._groups.setdefault(uuid, {})
                if uuid in new:
                    group[source] = new[uuid]
                else:
                    group.pop(source, None)
        if said:
            self._said[source] = said
        else:
            self._said.pop(source, None)

    def hear(self, uid: str, pod: Pod | None, state: PodState | None) -> None:
        """Take what a pod measures; None for one that is gone, or can't be heard."""
        said = readings.of_pods([pod], {uid: state}, _EPOCH) if pod is not None and state is not None else ()
        self.set(PODS + uid, said)

    def know(self, known: GpuNodes) -> None:
        """Take which node has which GPU, which decides where sources disagree."""
        if known is not self._known:
            self._known = known
            self._touched.update(uuid for uuid, group in self._groups.items() if _disputed(group))

    def settle(self, now: datetime) -> Mapping[str, Sequence[GpuReading]]:
        """Merge what changed; returns all readings of each node where that made a difference. A pod's own readings are
        as young as its stream, whatever time they bear.
        """
        if self._now is None or now > self._now or self._now - now > SLACK:
            if self._now is not None and now < self._now:
                self._touched.update(self._groups)
            self._now = now
        while self._due and self._due[0][0] <= now:
            self._touched.add(heapq.heappop(self._due)[1])
        nodes: set[str] = set()
        for uuid in self._touched:
            nodes.update(self._settle(uuid, now))
        self._touched = set()
        return {node: self._of(node) for node in nodes}

    def _settle(self, uuid: str, now: datetime) -> Iterable[str]:
        """Merge the readings of a GPU; returns the nodes where it was or is."""
        group = self._groups.get(uuid, {})
        every = [_at(each, now) for said in group.values() for each in said]
        before = self._best.get(uuid, [])
        best = every if len(every) == 1 else readings.merge(every, now, self._known)
        if not group:
            self._groups.pop(uuid, None)
        if len(every) > 1 and (due := _due(every, now)) is not None:
            heapq.heappush(self._due, (due, uuid))
        if best == before:
            return ()
        nodes = {each.node for each in (*before, *best)}
        for node in nodes:
            self._nodes.setdefault(node, {}).pop(uuid, None)
        for each in best:
            self._nodes[each.node].setdefault(uuid, []).append(each)
        if best:
            self._best[uuid] = best
        else:
            self._best.pop(uuid, None)
        return nodes

    def _of(self, node: str) -> Sequence[GpuReading]:
        found = [each for best in self._nodes[node].values() for each in best]
        if not found:
            del self._nodes[node]
        return found


def _by_uuid(said: Iterable[GpuReading]) -> dict[str, list[GpuReading]]:
    found: dict[str, list[GpuReading]] = {}
    for each in said:
        found.setdefault(each.uuid, []).append(each)
    return found


def _disputed(group: Mapping[str, Collection[GpuReading]]) -> bool:
    return sum(len(said) for said in group.values()) > 1


def _at(each: GpuReading, now: datetime) -> GpuReading:
    return replace(each, read_at=now) if each.source is Source.POD else each


def _due(group: Iterable[GpuReading], now: datetime) -> datetime | None:
    """Return when the age of one of the readings will count otherwise."""
    ages = [each.read_at for each in group if each.read_at is not None and each.source is not Source.POD]
    turns = [at + span for at in ages for span in (-FRESH, FRESH + _TICK, USABLE + _TICK)]
    return min((at for at in turns if at > now), default=None)
