"""Simulated time: pods run by the server's own scheduler, with declared costs instead of processes.

    clock = Clock()
    pod = Pod(clock, "a", costs, effective(idle, max_pages=1), answered=lambda pod, ticket: …)
    clock.at(1.0, lambda: pod.request(7))
    clock.run(until=60.0)

Nothing waits, and nothing is drawn by chance: the same calls in the same order give the same times.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ocr_inference.config.settings import Batching, Effective, Idle, ModelPolicy, Queue
from ocr_inference.device.gpu import Device
from ocr_inference.manager import snapshot
from ocr_inference.protocol.engine import Footprint, ModelSpec
from ocr_inference.scheduling import scheduler
from ocr_inference.scheduling.commands import (
    Acquire,
    Cancel,
    Command,
    Finished,
    Help,
    MemoryProbed,
    OffloadIfIdle,
    Release,
    Tick,
)
from ocr_inference.scheduling.state import (
    Done,
    Effect,
    Grant,
    HandOver,
    Model,
    ProbeMemory,
    Reject,
    SchedulerState,
    StartCall,
    WakeAt,
)
from ocr_wire import state as document

MODEL: Final = "ocr"
PATIENT: Final = 1e9
"""Seconds until a request is refused: none is, whatever it waits for."""
_NO_PROCESSES: Final = snapshot.Processes({}, ())
_SPECS: Final = {MODEL: ModelSpec(name=MODEL, engine="fake", device="simulated")}


class Clock:
    """Events in the order of their times; of one time, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._numbers), event))

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        self.at(self.now + seconds, event)

    def run(self, until: float) -> None:
        """Do all that is due up to that time, which is then now."""
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until


@dataclass(frozen=True, slots=True)
class Costs:
    """What one model takes, in seconds and bytes."""

    load: float
    restore: float
    offload: float
    page: float
    unload: float = 0.0
    exit: float = 0.0
    starts_worker: float = 0.0
    """What a load or restore takes more where its worker process has exited."""
    gpu_bytes: int = 1

    def call(self, call: StartCall) -> float:
        match call.call:
            case "load":
                return self.load
            case "restore":
                return self.restore + (self.starts_worker if call.worker == call.serial else 0.0)
            case "offload":
                return self.offload
            case "unload" | "kill":
                return self.unload
            case "exit":
                return self.exit


def effective(
    idle: Idle, *, max_pages: int, patience_seconds: float = PATIENT, preload: bool = False
) -> Effective:
    """Return live settings of a server that refuses nothing."""
    queue = Queue(limit=1_000_000, patience_seconds=patience_seconds, deadline_seconds=PATIENT)
    policy = ModelPolicy(idle, priority=0, preload=preload)
    return Effective(Batching(max_pages, 0), queue, "info", {MODEL: policy})


@dataclass(eq=False)
class Gpu:
    """Memory that the pods on one GPU share."""

    memory_bytes: int
    uuid: str = "GPU-0"
    pods: list["Pod"] = field(default_factory=list)

    probing: set["Pod"] = field(default_factory=set)
    """Pods that look at its memory when it changes."""

    def changed(self, clock: Clock) -> None:
        pods, self.probing = sorted(self.probing, key=lambda pod: pod.name), set()
        for pod in pods:
            clock.after(0.0, pod.probed)

    def used_by_others(self, pod: "Pod") -> int:
        return sum(each.model.charged_bytes for each in self.pods if each is not pod)


class Pod:
    """Inference server with one model."""

    def __init__(
        self,
        clock: Clock,
        name: str,
        costs: Costs,
        settings: Effective,
        *,
        answered: Callable[["Pod", int], None],
        changed: Callable[["Pod"], None] = lambda _: None,
        gpu: Gpu | None = None,
        hop: float = 0.005,
    ) -> None:
        """`answered` hears of each request by its ticket, `changed` of each change of what the pod reports. A page that
        is handed over takes `hop` seconds there, and as long back."""
        self._hop = hop
        self._helpers: dict[str, Pod] = {}
        self._elsewhere: dict[int, tuple[Pod, int]] = {}
        """Requests of other pods, by our ticket for them: whose they are, and their ticket there."""
        self._probed: int | None = None
        self._on_ready: dict[int, Callable[[], None]] = {}
        self.name = name
        self.clock = clock
        self.gpu = gpu
        self._costs = costs
        self._answered, self._changed = answered, changed
        self._serial = itertools.count(-1, -1)
        """Tickets of its own, which nobody waits for."""
        self._wake_number = 0
        self._done: dict[int, Callable[[bool], None]] = {}
        self.gpu_seconds = 0.0
        """Time for which the model had memory of the GPU, until it was seen last."""
        self._seen = 0.0
        model = Model(MODEL, settings.models[MODEL], declared_bytes=costs.gpu_bytes, last_activity=clock.now)
        budget = None if gpu is None else gpu.memory_bytes
        self.state = SchedulerState({MODEL: model}, settings, budget)
        if gpu is not None:
            gpu.pods.append(self)
        self.send(Tick())

    @property
    def model(self) -> Model:
        return self.state.models[MODEL]

    @property
    def waiting(self) -> int:
        return self.model.waiting

    @property
    def in_flight(self) -> int:
        return len(self.model.leases)

    def settle(self) -> float:
        """Return the seconds on the GPU up to now."""
        if self.model.charged_bytes:
            self.gpu_seconds += self.clock.now - self._seen
        self._seen = self.clock.now
        return self.gpu_seconds

    def report(self) -> document.Model:
        """Return what the pod says of its model."""
        taken = snapshot.take(self.state, _SPECS, _NO_PROCESSES, _DEVICE, epoch=0.0, now=self.clock.now)
        return taken.models[0]

    def request(self, ticket: int, since: float | None = None) -> None:
        self.send(Acquire(ticket, MODEL, self.clock.now + PATIENT, since, movable=ticket >= 0))

    def cancel(self, ticket: int) -> None:
        self.send(Cancel(ticket))

    def wake(self, ready: Callable[[], None] = lambda: None) -> None:
        """Make the model ready, as `POST /gpu/load` does: by a request that reads nothing. `ready` is called then."""
        ticket = next(self._serial)
        self._on_ready[ticket] = ready
        self.request(ticket)

    def help_from(self, other: "Pod") -> None:
        """Let another pod read pages that wait here, as `POST /v1/helpers` does: when its model is ready."""
        self._helpers[other.name] = other
        told = Help(other.name, MODEL, self.state.effective.batching.max_pages)
        other.wake(lambda: self.send(told))

    def read_for(self, other: "Pod", ticket: int, since: float) -> None:
        """Read a page of another pod, as `POST /v1/pages` does: it is as old here as there."""
        ours = next(self._serial)
        self._elsewhere[ours] = other, ticket
        self.request(ours, since)

    def offload_if_idle(self, min_resident_seconds: float, ended: Callable[[bool], None]) -> None:
        """Make way for another pod, if the model is idle; `ended` hears whether it went."""
        ticket = next(self._serial)
        self._done[ticket] = ended
        self.send(OffloadIfIdle(ticket, MODEL, min_resident_seconds))

    def send(self, command: Command) -> None:
        self.settle()
        before = self.model
        self.state, effects = scheduler.decide(self.state, command, self.clock.now)
        for effect in effects:
            self._carry_out(effect)
        if self.gpu is not None and self.model.charged_bytes != before.charged_bytes:
            self.gpu.changed(self.clock)
        if self.model is not before:
            self._changed(self)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case StartCall():
                self.clock.after(self._costs.call(effect), lambda: self._finished(effect))
            case Grant(ticket):
                self.clock.after(
                    0.0 if ticket in self._on_ready else self._costs.page, lambda: self._read(ticket)
                )
            case WakeAt(time):
                self._wake_number += 1
                if time is not None:
                    number = self._wake_number
                    self.clock.at(time, lambda: self._tick(number))
            case ProbeMemory():
                assert self.gpu is not None
                # While nothing changes, looking again finds the same: it is left out.
                if self.gpu.used_by_others(self) == self._probed and self.model.waits_for is not None:
                    self.gpu.probing.add(self)
                else:
                    self.clock.after(0.0, self.probed)
            case HandOver(ticket, _, helper, since):
                self.clock.after(self._hop, lambda: self._helpers[helper].read_for(self, ticket, since))
            case Reject(ticket) if ticket in self._done:
                self._done.pop(ticket)(False)
            case Done(ticket):
                self._done.pop(ticket)(True)
            case _:
                raise AssertionError(f"{self.name}: {effect}")

    def probed(self) -> None:
        """Report what other pods hold of the GPU."""
        assert self.gpu is not None
        self._probed = self.gpu.used_by_others(self)
        self.send(MemoryProbed(self._probed))

    def _finished(self, call: StartCall) -> None:
        taken = self._costs.gpu_bytes if call.call in ("load", "restore") else 0
        self.send(Finished(MODEL, call.serial, Footprint(device_bytes=taken)))

    def _read(self, ticket: int) -> None:
        self.send(Release(ticket))
        if ticket in self._on_ready:
            self._on_ready.pop(ticket)()
        elif ticket in self._elsewhere:
            other, theirs = self._elsewhere.pop(ticket)
            self.clock.after(self._hop, lambda: other.read_elsewhere(theirs))
        else:
            self._answered(self, ticket)

    def read_elsewhere(self, ticket: int) -> None:
        """Take the answer of a page that another pod has read."""
        self.send(Release(ticket))
        self._answered(self, ticket)

    def _tick(self, number: int) -> None:
        if number == self._wake_number:
            self.send(Tick())


_DEVICE: Final = Device("simulated")
