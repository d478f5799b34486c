"""One resource in simulated time: its pods (`simulated`), its Service, and the operator that decides which are awake.

The decision is the operator's own (`ocr_operator.decide.routing`); what lies between a pod, the operator and the
Service is `Delays`. A Service gives each request to a random one of its pods, as kube-proxy does.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from bench.simulated import MODEL, Clock, Pod
from ocr_operator.decide import routing
from ocr_operator.decide.routing import Candidate, RoutingState
from ocr_operator.resources import observed
from ocr_operator.resources.spec import Routing
from ocr_wire import names
from ocr_wire.state import Device, Identity, PodState, Queue
from ocr_wire.states import DeviceKind


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds between the programs."""

    report: float = 0.02
    """From a change in a pod to the operator's look at it."""
    label: float = 0.05
    """From a decision to the Service that follows it."""
    call: float = 0.02
    """From a decision to the pod that is called."""
    spacing: float = 0.2
    """Between two looks that aren't urgent (`controllers.workqueue`)."""
    urgent_spacing: float = 0.1
    """Between two crossings of the queue's threshold that are urgent (`pods.client`)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to treat bursts."""

    name: str
    hands_over: bool = False
    """What waits in one pod is read by others: what the operator does."""
    joins_early: bool = False
    """All join as soon as two requests wait: the earliest that any prediction could have them join."""
    rests: bool = False
    """A member with more than two requests beyond the emptiest one's gets none until it has caught up."""


HANDS_OVER: Final = Variant("pages are handed over", hands_over=True)


class Replicas:
    """The pods of one resource, as clients see them."""

    def __init__(
        self,
        clock: Clock,
        routing_spec: Routing,
        rng: random.Random,
        *,
        pages: int = 1,
        variant: Variant = HANDS_OVER,
        delays: Delays = Delays(),
    ) -> None:
        """`pages` is `batching.maxPages`. Nobody is asked before `start`."""
        self.pods: dict[str, Pod] = {}
        self._clock, self._rng = clock, rng
        self._spec, self._pages = routing_spec, pages
        self._variant, self._delays = variant, delays
        self._state = RoutingState()
        self._labels: dict[str, str] = {}
        self._endpoints: list[str] = []
        self._next_look = math.inf
        self._looked = -math.inf
        self._over: set[str] = set()
        self._crossed = -math.inf

    def start(self, pods: Sequence[Pod]) -> None:
        """Decide for the first time, among these pods; the Service follows at once."""
        self.pods = {pod.name: pod for pod in pods}
        self._labels = dict.fromkeys(self.pods, names.ASLEEP)
        self._look()
        self._endpoints = self._selected()

    def request(self, ticket: int) -> None:
        self.pods[self._rng.choice(self._endpoints)].request(ticket)

    def changed(self, pod: Pod) -> None:
        """Take what a pod reports; a queue that grows over the threshold is urgent, once until it has halved."""
        if not self._endpoints:
            return
        bar, now = self._spec.max_queue_per_pod, self._clock.now
        was = pod.name in self._over
        if pod.waiting > (bar // 2 if was else bar):
            self._over.add(pod.name)
        else:
            self._over.discard(pod.name)
        soon = now + self._delays.report
        if not was and pod.name in self._over and now - self._crossed >= self._delays.urgent_spacing:
            self._crossed = now
            self._ask(soon)
        else:
            self._ask(max(soon, self._looked + self._delays.spacing))

    def _ask(self, time: float) -> None:
        if time < self._next_look:
            self._next_look = time
            self._clock.at(time, lambda: self._look() if self._next_look == time else None)

    def _look(self) -> None:
        self._next_look, self._looked = math.inf, self._clock.now
        found = self._candidates()
        decision = routing.decide(found, self._spec, self._pages, self._state, self._clock.now)
        self._state = decision.state
        self._labels |= dict.fromkeys(decision.joins, names.AWAKE)
        self._labels |= dict.fromkeys(decision.leaves, names.ASLEEP)
        if (selected := self._selected()) != self._endpoints:
            self._clock.after(self._delays.label, lambda: self._select(selected))
        for name in decision.wakes:
            self._clock.after(self._delays.call, self.pods[name].wake)
        for each in decision.helps if self._variant.hands_over else ():
            helped, helper = self.pods[each.helped], self.pods[each.helper]
            self._clock.after(self._delays.call, partial(helped.help_from, helper))
        if decision.again is not None:
            self._ask(self._clock.now + decision.again)

    def _candidates(self) -> list[Candidate]:
        states = {name: self._state_of(pod) for name, pod in self.pods.items()}
        pods = [
            observed.Pod(
                name=name,
                namespace="ocr",
                uid=name,
                ready=True,
                labels={names.LABEL_AWAKE: self._labels[name]},
            )
            for name in self.pods
        ]
        found = routing.candidates(pods, states, (), [MODEL])
        if not self._variant.joins_early or sum(each.waiting for each in found) < 2:
            return found
        many = self._spec.max_queue_per_pod * len(found)
        return [replace(each, waiting=each.waiting + many) if each.waiting else each for each in found]

    def _state_of(self, pod: Pod) -> PodState:
        return PodState(
            pod=Identity(name=pod.name, uid=pod.name),
            device=Device(kind=DeviceKind.SIMULATED),
            models=(pod.report(),),
            queue=Queue(waiting=pod.waiting, in_flight=pod.in_flight),
        )

    def _selected(self) -> list[str]:
        awake = [name for name, label in self._labels.items() if label == names.AWAKE]
        if not self._variant.rests:
            return awake
        loads = {name: self.pods[name].waiting + self.pods[name].in_flight for name in awake}
        least = min(loads.values(), default=0)
        return [name for name in awake if loads[name] <= least + 2]

    def _select(self, endpoints: list[str]) -> None:
        self._endpoints = endpoints or self._endpoints
