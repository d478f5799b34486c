"""Decide the order in which Kubernetes ends pods when there are to be fewer: those first whose end costs least.

A ReplicaSet ends pods that don't run yet or aren't ready before all others; among ready ones it goes by the annotation
`controller.kubernetes.io/pod-deletion-cost`, lowest first.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ocr_operator.resources.observed import Pod
from ocr_wire import names
from ocr_wire.state import PodState
from ocr_wire.states import Location

_LOCATIONS: Final = {Location.UNLOADED: 0, Location.CPU: 100, Location.GPU: 200}
_AWAKE: Final = 50
"""Between two of the same location: the one that gets no requests goes first."""
_BUSY: Final = 300
"""Requests run or wait in it."""


def costs(pods: Iterable[Pod], states: Mapping[str, PodState]) -> dict[str, str]:
    """Return the annotation's value of each pod that could be ended, by UID; `states` are those of pods that can be
    heard. One that can't be counts as one without a model.
    """
    return {
        pod.uid: str(_cost(pod, states.get(pod.uid)))
        for pod in pods
        if not pod.gated and not pod.terminating and not pod.finished
    }


def _cost(pod: Pod, state: PodState | None) -> int:
    if state is None:
        return 0
    warmest = max((_LOCATIONS.get(each.location, 0) for each in state.models), default=0)
    busy = _BUSY if state.queue.waiting + state.queue.in_flight else 0
    return warmest + busy + (_AWAKE if pod.labels.get(names.LABEL_AWAKE) == names.AWAKE else 0)
