"""Which promises of GPU memory are undone where two operators gave away the same.

    late = overbooked.late(pods, sizes)         # UID → why, for the pods of a node

Operators that don't share a Lease don't see each other's choice before its patch is answered. So each looks again when
it sees another promise on a GPU of its own, and goes by an order that is the same for both: pods that have started keep
theirs, then the earlier promise does, then the lower UID. The later one is undone by the operator that made it.

No two are undone for each other. A pod that has started stays so; hence one that lost to it on one side can't be won
against on the other, where its deletion is guarded by the version at which it hadn't started.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from ocr_operator.decide.placement.messages import size
from ocr_operator.decide.placement.reservations import reserved
from ocr_operator.decide.placement.types import Reservation
from ocr_operator.resources.observed import Pod

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class _Held(NamedTuple):
    """Bytes of a GPU that earlier promises have."""

    firm: int = 0
    on_demand: int = 0
    """The most that one of them takes in turn with others."""

    def plus(self, entry: Reservation) -> "_Held":
        if entry.on_demand:
            return self._replace(on_demand=max(self.on_demand, entry.memory_bytes))
        return self._replace(firm=self.firm + entry.memory_bytes)

    @property
    def bytes(self) -> int:
        return self.firm + self.on_demand


def begins(pod: Pod) -> bool:
    """Return whether the pod was placed, doesn't run yet, and another would follow it: its promise may be undone."""
    return not (pod.gated or pod.terminating) and pod.phase in ("", "Pending") and pod.owner is not None


def late(
    pods: Iterable[Pod], sizes: Mapping[str, int], needs: Mapping[str, int] | None = None
) -> Mapping[str, str]:
    """List the pods whose promise goes beyond their GPU, by UID, each with the sentence that says so.

    `pods` are all pods of a node; those that end count no more, or two could be undone for each other. `sizes`: bytes
    of each GPU. A pod that has started is never listed, nor one that wouldn't fit on the GPU alone: such a size says
    nothing of others. `needs` is that of `reserved`.
    """
    by_uid = {pod.uid: pod for pod in pods if not (pod.terminating or pod.finished)}
    entries = [
        each
        for each in reserved(by_uid.values(), needs)
        if each.deployment and len(each.uuids) == 1 and not each.resource
    ]
    held: dict[str, _Held] = {}
    found: dict[str, str] = {}
    for entry in sorted(entries, key=lambda each: _order(by_uid[each.uid], each)):
        [uuid] = entry.uuids
        before, total = held.get(uuid, _Held()), sizes.get(uuid)
        after = before.plus(entry)
        if total is not None and entry.memory_bytes > total:
            continue
        if total is not None and after.bytes > total and begins(by_uid[entry.uid]):
            found[entry.uid] = (
                f"{entry.pod} is replaced before it starts: earlier promises have {size(before.bytes)} of {uuid}, "
                f"{size(total)} in all, which another operator made at the same moment"
            )
            continue
        held[uuid] = after
    return found


def _order(pod: Pod, entry: Reservation) -> tuple[bool, datetime, str]:
    """Return its place among the promises of a GPU; one without a time, as after an edit by hand, was there before."""
    return begins(pod), entry.placed or _LONG_AGO, entry.uid
