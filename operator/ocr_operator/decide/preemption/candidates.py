"""From the states of pods to waiters and residents: nothing is believed beyond what the operator itself decided.

A pod counts only on a GPU that the operator pinned it to, with models that its resource declares, and with no more
memory than these declare. So a pod that lies can at most have idle models beside it offloaded, as often as the
rules allow, or have its own offloaded.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ocr_operator.decide import placement
from ocr_operator.decide.preemption.types import Copy, Resident, Waiter
from ocr_operator.resources.observed import Key, Pod
from ocr_wire.state import Model, PodState
from ocr_wire.states import Location, State


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPod:
    """One pod, its own state, and what the operator wants of it."""

    key: Key
    pod: Pod
    state: PodState
    live: Mapping[str, Any]
    """The values of the live settings that it should run with: priorities are the operator's word, not the pod's."""
    declared: Mapping[str, int]
    """Model → its `gpuMemory` in bytes."""


def view(reported: Iterable[ReportedPod], now: datetime) -> tuple[tuple[Waiter, ...], tuple[Resident, ...]]:
    """List the models that lack memory, and those that hold some, on shared GPUs."""
    waiters: list[Waiter] = []
    residents: list[Resident] = []
    for each in reported:
        if (pinned := _pinned(each, now)) is not None:
            for model in each.state.models:
                waiters.extend(pinned.waiters(model))
                residents.extend(pinned.residents(model))
    return tuple(waiters), tuple(residents)


def _pinned(each: ReportedPod, now: datetime) -> "_Pinned | None":
    """None for a pod that goes, or that isn't on a GPU which the operator pinned it to."""
    if each.pod.terminating or each.state.draining:
        return None
    uuid = each.state.device.uuid
    for entry in placement.reserved([each.pod]):
        if not entry.count and uuid is not None and uuid in entry.uuids:
            return _Pinned(each, uuid, not entry.on_demand, now)
    return None


@dataclass(frozen=True, slots=True)
class _Pinned:
    """One pod on its GPU."""

    reported: ReportedPod
    gpu: str
    reserved: bool
    now: datetime

    def waiters(self, model: Model) -> Iterator[Waiter]:
        lack = model.waits_for
        if lack is None or model.state not in (State.UNLOADED, State.OFFLOADED):
            return
        missing = min(lack.needed_bytes, self._declared(model)) - lack.free_bytes
        if missing > 0:
            yield Waiter(
                copy=self._copy(model),
                gpu=self.gpu,
                lack_bytes=missing,
                since=min(lack.since, self.now),
                priority=self._priority(model),
                reserved=self.reserved,
            )

    def residents(self, model: Model) -> Iterator[Resident]:
        held = min(model.memory_bytes, self._declared(model))
        if model.state is State.READY and model.location is Location.GPU and held > 0:
            used = model.in_flight or model.waiting or model.idle_since is None
            yield Resident(
                copy=self._copy(model),
                gpu=self.gpu,
                held_bytes=held,
                priority=self._priority(model),
                preload=self._live(model).get("preload") is True,
                reserved=self.reserved,
                ready_since=min(model.since, self.now) if model.since else None,
                idle_since=None if used or model.idle_since is None else min(model.idle_since, self.now),
            )

    def _copy(self, model: Model) -> Copy:
        return Copy(
            key=self.reported.key, pod=self.reported.pod.name, uid=self.reported.pod.uid, model=model.name
        )

    def _declared(self, model: Model) -> int:
        return self.reported.declared.get(model.name, 0)

    def _priority(self, model: Model) -> int:
        value = self._live(model).get("priority")
        return value if isinstance(value, int) else 0

    def _live(self, model: Model) -> Mapping[str, Any]:
        models = self.reported.live.get("models")
        found = models.get(model.name) if isinstance(models, Mapping) else None
        return found if isinstance(found, Mapping) else {}
