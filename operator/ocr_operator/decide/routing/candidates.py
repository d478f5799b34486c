"""From pods and what they say of themselves to candidates, and from a decision back to their labels."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from ocr_operator.decide.routing.policies import POLICIES
from ocr_operator.decide.routing.types import Candidate, Eligibility, RoutingState, Warmth
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.spec import Routing
from ocr_wire import names
from ocr_wire.placement import at
from ocr_wire.routing import Record
from ocr_wire.state import Model, PodState
from ocr_wire.states import Location, State
from ocr_wire.text import clean

Operation = dict[str, Any]
"""Of a JSON patch."""

_ASLEEP: Final = frozenset({State.UNLOADED, State.UNLOADING, State.OFFLOADED, State.OFFLOADING})
_WARMTH: Final = {
    State.READY: Warmth.READY,
    State.RESTORING: Warmth.RESTORING,
    State.OFFLOADING: Warmth.CPU,
    State.OFFLOADED: Warmth.CPU,
    State.LOADING: Warmth.LOADING,
    State.UNLOADING: Warmth.UNLOADED,
    State.UNLOADED: Warmth.UNLOADED,
    State.FAILED: Warmth.FAILED,
    State.UNKNOWN: Warmth.UNKNOWN,
}


def candidates(
    pods: Iterable[Pod], states: Mapping[str, PodState], lost: Collection[str], models: Sequence[str]
) -> list[Candidate]:
    """List the pods that may be in the set. By UID: their states, and those that are unreachable.
    `models` are the resource's, the default model first.
    """
    model = asked_for(states.values(), models)
    return [
        _candidate(pod, states.get(pod.uid), pod.uid not in lost, model)
        for pod in pods
        if not pod.gated and not pod.terminating and not pod.finished
    ]


def _candidate(pod: Pod, state: PodState | None, reachable: bool, model: str) -> Candidate:
    label = pod.labels.get(names.LABEL_AWAKE)
    if not pod.ready:
        eligibility = Eligibility.OUT
    elif not reachable or (state is not None and state.draining):
        eligibility = Eligibility.DOUBTFUL
    else:
        eligibility = Eligibility.UNHEARD if state is None else Eligibility.USABLE
    if state is None:
        return Candidate(uid=pod.uid, name=pod.name, label=label, eligibility=eligibility)
    found = next((each for each in state.models if each.name == model), None)
    warmth = Warmth.UNKNOWN if found is None else _warmth(found)
    seconds = None
    if found is not None and warmth is not Warmth.READY:
        seconds = found.last_wake_seconds if found.location is Location.CPU else found.last_load_seconds
    return Candidate(
        uid=pod.uid,
        name=pod.name,
        label=label,
        eligibility=eligibility,
        warmth=warmth,
        wake_seconds=seconds,
        waiting=state.queue.waiting,
        in_flight=state.queue.in_flight,
    )


def asked_for(states: Iterable[PodState], models: Sequence[str]) -> str:
    """The model whose wake matters now: the one that most requests wait for, else the default model."""
    waiting = dict.fromkeys(models, 0)
    for state in states:
        for each in state.models:
            if each.name in waiting:
                waiting[each.name] += each.waiting
    return max(models, key=lambda name: waiting[name])


def _warmth(model: Model) -> Warmth:
    if model.failures and model.state in _ASLEEP:
        return Warmth.FAILED
    warmth = _WARMTH[model.state]
    return Warmth.EXITED if warmth is Warmth.CPU and model.worker == "exited" else warmth


def place(
    pod: Pod, routing: Routing, state: RoutingState, now: datetime
) -> tuple[RoutingState, list[Operation]]:
    """The label of a pod whose gate is lifted, for the patch that does it, behind the annotations that it adds: awake
    if the policy includes it at once.
    """
    if not POLICIES[routing.policy].includes_new_pod(state):
        members = len(state.members or {})
        others = "1 other pod was" if members == 1 else f"{members} other pods were"
        why = f"it was placed while {others} awake: it joins when their queue grows, or in place of one"
        return state, [_label(names.ASLEEP), _reason(awake=False, why=why, now=now)]
    why = "it was placed while no other pod was awake" if not state.members else "each pod is awake at once"
    after = replace(state, members={**(state.members or {}), pod.uid: pod.name})
    return after, [_label(names.AWAKE), _reason(awake=True, why=why, now=now)]


def patch(pod: Pod, why: Sequence[str], now: datetime, *, awake: bool) -> list[Operation]:
    """The label as a JSON patch of that very pod, with the sentences of the decision. Our pods have labels, or we would
    not know them.

    A label that is mended has no sentence: what was said of it stays true.
    """
    operations = [{"op": "test", "path": "/metadata/uid", "value": pod.uid}]
    operations.append(_label(names.AWAKE if awake else names.ASLEEP))
    if (
        why and pod.annotations
    ):  # those that were placed have some; of one without, the patch could only add all
        operations.append(_reason(awake=awake, why="; ".join(why), now=now))
    return operations


def _label(value: str) -> Operation:
    return {"op": "add", "path": f"/metadata/labels/{names.LABEL_AWAKE.replace('/', '~1')}", "value": value}


def _reason(*, awake: bool, why: str, now: datetime) -> Operation:
    record = Record(awake=awake, since=at(now), why=clean(why))
    path = f"/metadata/annotations/{names.ANNOTATION_ROUTING.replace('/', '~1')}"
    return {"op": "add", "path": path, "value": record.to_json()}
