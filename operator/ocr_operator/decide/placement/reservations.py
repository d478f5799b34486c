"""Reservations: which pod is promised which GPU. Kept nowhere but on the pods themselves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from ocr_operator.decide.placement import verify
from ocr_operator.decide.placement.types import CLAIMED, Reservation
from ocr_operator.resources.observed import Pod
from ocr_wire import names, placement
from ocr_wire.placement import Record
from ocr_wire.state import PodState

OVERHEAD_BYTES: Final = 2**30
"""What a worker may use beyond its model's own bytes (CUDA context, libraries: 0.3 to 0.8 GiB)."""


def record(pod: Pod) -> Record:
    """The pod's placement annotation; an empty record where it is missing or was damaged by hand."""
    found = placement.read(pod.annotation(names.ANNOTATION_PLACEMENT) or "{}")
    return found if isinstance(found, Record) else Record()


def reserved(
    pods: Iterable[Pod],
    needs: Mapping[str, int] | None = None,
    states: Mapping[str, PodState] | None = None,
) -> tuple[Reservation, ...]:
    """List the reservations of all placed pods, in order of their names; a terminating pod counts until it is gone.

    `needs`: bytes that a pod of `namespace/name` (the resource) needs, for pods whose annotation is missing or
    damaged. `states`: pod UID → its own state, for what it uses and, where the device plugin picked, which GPU
    it got. Foreign pods may be among `pods`: they count for the extended resources that they request.
    """
    entries = [entry for pod in pods for entry in _entries(pod, needs or {}, (states or {}).get(pod.uid))]
    return tuple(sorted(entries, key=lambda entry: (entry.pod, entry.uid, entry.resource)))


def _entries(pod: Pod, needs: Mapping[str, int], state: PodState | None) -> Iterator[Reservation]:
    """One entry for the pinned GPUs, else one per extended resource that the pod requests."""
    found = record(pod)
    node = pod.node or found.node
    if pod.finished or pod.gated or not node:
        return
    ours = f"{pod.namespace}/{pod.deployment}" if pod.deployment else ""
    need = found.memory_bytes if found.memory_bytes is not None else needs.get(ours, 0)
    base = Reservation(
        pod=pod.key,
        uid=pod.uid,
        deployment=ours,
        node=node,
        memory_bytes=need if ours else 0,
        placed=found.time,
        up=pod.ready,
        used_bytes=_used(state) if state else None,
        on_demand=pod.annotation(names.ANNOTATION_MEMORY_POLICY) == "onDemand",
    )
    got = verify.actual(state)
    pins = _pins(pod, found)
    # A pod that got another GPU than promised counts where it is as well as where it should be.
    uuids = tuple(sorted({*pins, *got}))
    if ours and pod.annotation(names.ANNOTATION_CLAIM):
        yield replace(base, resource=CLAIMED, count=1, uuids=uuids)
        return
    if pins:
        yield replace(base, uuids=uuids)
        return
    for resource, count in pod.requests.items():
        if count > 0:
            yield replace(base, resource=resource, count=count, uuids=got)


def _used(state: PodState) -> int | None:
    """A worker that runs has a context on the GPU besides its models; when all have exited, nothing is left."""
    reported = state.device.memory_used_bytes
    running = sum(model.worker == "running" for model in state.models)
    return None if reported is None else reported + running * OVERHEAD_BYTES


def _pins(pod: Pod, found: Record) -> tuple[str, ...]:
    """Return the pinned GPUs: the annotation that the container's environment is made from counts; the record only
    replaces a missing one, and says which of several the pod gets where it should go. Which one it gets elsewhere is
    known when its claim was read.
    """
    listed = pod.annotation(names.ANNOTATION_GPU_UUIDS)
    if found.elsewhere and "," in listed:
        return placement.uuids(placement.listed(found.gpus)) if pod.node in ("", found.node) else ()
    return placement.uuids(listed if listed.strip(",") else placement.listed(found.gpus))
