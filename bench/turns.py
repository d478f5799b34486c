"""A seeded storm through the pure parts of both sides together: many servers' schedulers, one preemption controller.

Time, calls, requests and messages are simulated; what decides is the real code: `scheduler.decide` in every server,
`preemption.view` and `preemption.plan` over what the servers would say. GPUs are numbers that never hold more than
they have: a load that finds no room ends without having begun, as on a real device.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ocr_inference.config.settings import Batching, Effective, Idle, ModelPolicy, Queue
from ocr_inference.protocol.engine import Failure, FailureKind, Footprint
from ocr_inference.scheduling import scheduler
from ocr_inference.scheduling.commands import (
    Acquire,
    Cancel,
    Command,
    Finished,
    MemoryProbed,
    OffloadIfIdle,
    Release,
    Tick,
    WorkerDied,
)
from ocr_inference.scheduling.lifecycle import location
from ocr_inference.scheduling.state import (
    Done,
    Effect,
    Grant,
    LeaseLost,
    Model,
    NotBegun,
    ProbeMemory,
    Reject,
    SchedulerState,
    StartCall,
    WakeAt,
)
from ocr_operator.decide import preemption
from ocr_operator.decide.preemption import Asked, Outcome, ReportedPod, Rules
from ocr_operator.resources.observed import Pod
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.states import DeviceKind, Location, State

GPUS: Final = 3
SERVERS: Final = 12
MODELS: Final = 2
SIZE: Final = 48
"""Units of memory on a GPU; models take 8 to 24."""
EPOCH: Final = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
RULES: Final = Rules(min_resident_seconds=2.0, asks_per_minute=20)
MEAN_SECONDS: Final = 0.1
"""Between two events from outside."""
LOOK_SECONDS: Final = 0.02
"""From a change of a pod's state to the operator's look."""
DIED: Final = Failure(kind=FailureKind.WORKER_DIED, message="killed", exit_code=-9)


@dataclass
class Tally:
    """What came of a storm."""

    events: int = 0
    asked: int = 0
    granted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    asks: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    """Seconds from a model's first lack to its being ready."""
    moved_under_lease: int = 0
    lease_without_ready: int = 0
    over_capacity: int = 0
    answered_twice: int = 0
    lost: int = 0
    """Requests that were neither answered nor cancelled when all was over."""
    most_asks_in_a_minute: int = 0
    lost_races: int = 0

    @property
    def unsound(self) -> int:
        return self.lost + self.answered_twice


class Server:
    """One pod: a world, and the calls that it has in flight."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.name, self.gpu = f"pod-{number}", f"GPU-{number % GPUS}"
        self.key = ("default", f"r{number}")
        self.policies = {
            f"m{n}": ModelPolicy(
                Idle(rng.choice([-1.0, 3.0, 10.0]), -1, -1), rng.choice([-1, 0, 0, 0, 1]), rng.random() < 0.1
            )
            for n in range(MODELS)
        }
        self.sizes = {name: rng.choice([8, 12, 16, 24]) for name in self.policies}
        effective = Effective(Batching(2, 0), Queue(200, 3.0, 20.0), "info", self.policies)
        models = {n: Model(n, p, declared_bytes=self.sizes[n]) for n, p in self.policies.items()}
        self.scheduler_state = SchedulerState(models, effective, SIZE)
        self.held: dict[str, int] = dict.fromkeys(self.policies, 0)
        self.wake_at: float | None = None
        self.pod = Pod(
            name=self.name,
            namespace="default",
            uid=f"uid-{self.name}",
            node="node",
            phase="Running",
            annotations={names.ANNOTATION_GPU_UUIDS: self.gpu, names.ANNOTATION_MEMORY_POLICY: "onDemand"},
            labels={names.LABEL_DEPLOYMENT: self.key[1]},
        )

    def told(self) -> ReportedPod:
        """What the operator would know of the pod."""
        live = {
            "models": {n: {"priority": p.priority, "preload": p.preload} for n, p in self.policies.items()}
        }
        return ReportedPod(key=self.key, pod=self.pod, state=self._state(), live=live, declared=self.sizes)

    def _state(self) -> podstate.PodState:
        return podstate.PodState(
            pod=podstate.Identity(name=self.name, uid=self.pod.uid),
            device=podstate.Device(kind=DeviceKind.SIMULATED, uuid=self.gpu),
            models=tuple(_model_state(each) for each in self.scheduler_state.models.values()),
        )


def _model_state(model: Model) -> podstate.Model:
    lack = model.waits_for
    busy = bool(model.leases or model.waiting)
    return podstate.Model(
        name=model.name,
        state=State(model.state.value),
        location=Location(_location(model).value),
        since=at(model.since),
        in_flight=len(model.leases),
        waiting=model.waiting,
        memory_bytes=model.footprint.device_bytes,
        idle_since=None if busy else at(model.last_activity),
        waits_for=None
        if lack is None
        else podstate.WaitsFor(
            needed_bytes=lack.needed_bytes, free_bytes=lack.free_bytes, since=at(lack.since)
        ),
    )


def _location(model: Model) -> Location:
    return location(model.state, on_gpu=True, unloading_from=model.unloading_from)


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


class Storm:
    """`run(events)`: so many happenings from outside, then calm until everybody is answered."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.tally = Tally()
        self.servers = [Server(number, self.rng) for number in range(SERVERS)]
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._open: dict[int, Server] = {}
        """Tickets of requests that wait."""
        self._leases: dict[int, Server] = {}
        self._yields: dict[int, int] = {}
        """Ticket of a `OffloadIfIdle` → the number of its ask."""
        self._asked: dict[int, Asked] = {}
        self._lacks: dict[tuple[str, str], float] = {}
        self._look_at: float | None = None

    def run(self, events: int) -> Tally:
        for server in self.servers:
            self.do(server, Tick())
        self._later(0.0, lambda: self._outside(events))
        while self._agenda:
            self.now, _, act = heapq.heappop(self._agenda)
            act()
        self.tally.lost = len(self._open)
        asks = sorted((each.gpu, each.at) for each in self._asked.values())
        for gpu, began in asks:
            window = [
                1 for other, when in asks if other == gpu and timedelta() <= when - began < preemption.WINDOW
            ]
            self.tally.most_asks_in_a_minute = max(self.tally.most_asks_in_a_minute, len(window))
        return self.tally

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._numbers), act))

    # --- the world outside ------------------------------------------------------------------------------------

    def _outside(self, left: int) -> None:
        self.tally.events += 1
        server = self.rng.choice(self.servers)
        chance = self.rng.random()
        if chance < 0.7:
            self._request(server, self.rng.choice(list(server.policies)))
        elif chance < 0.8 and self._open:
            self._cancel(self.rng.choice(list(self._open)))
        elif chance < 0.83:
            self._kill(server)
        if left > 1:
            self._later(self.rng.expovariate(1 / MEAN_SECONDS), lambda: self._outside(left - 1))

    def _request(self, server: Server, model: str) -> None:
        ticket = next(self._numbers)
        self.tally.asked += 1
        self._open[ticket] = server
        deadline = self.now + server.scheduler_state.effective.queue.deadline_seconds
        self.do(server, Acquire(ticket, model, deadline))

    def _cancel(self, ticket: int) -> None:
        server = self._open.pop(ticket)
        self.tally.cancelled += 1
        self.do(server, Cancel(ticket))

    def _kill(self, server: Server) -> None:
        for model in server.scheduler_state.models.values():
            if model.worker is not None and model.running is None:
                if model.state is State.READY:
                    server.held[model.name] = 0
                self.do(server, WorkerDied(model.name, model.worker, DIED))
                return

    # --- servers ----------------------------------------------------------------------------------------------

    def do(self, server: Server, command: Command) -> None:
        before = server.scheduler_state
        server.scheduler_state, effects = scheduler.decide(before, command, self.now)
        for effect in effects:
            self._perform(server, effect, died=isinstance(command, WorkerDied))
        self._check(server)
        self._look_soon()

    def _perform(self, server: Server, effect: Effect, *, died: bool) -> None:
        match effect:
            case StartCall():
                self._start(server, effect, died=died)
            case Grant(ticket):
                self.tally.answered_twice += self._open.pop(ticket, None) is None
                self.tally.granted += 1
                self._leases[ticket] = server
                self._later(self.rng.expovariate(1 / 0.3), lambda: self._release(ticket))
            case LeaseLost(ticket):
                self._leases.pop(ticket)
            case Reject(ticket, refusal) if ticket in self._yields:
                self._ended(ticket, Outcome.BUSY)
            case Reject(ticket, refusal):
                self.tally.answered_twice += self._open.pop(ticket, None) is None
                self.tally.refused[refusal.reason] += 1
            case Done(ticket):
                self._ended(ticket, Outcome.OFFLOADED)
            case ProbeMemory():
                others = sum(sum(each.held.values()) for each in self._beside(server))
                self._later(0.0, lambda: self.do(server, MemoryProbed(others)))
            case WakeAt(time):
                server.wake_at = time
                if time is not None:
                    self._later(time - self.now, lambda: self._tick(server, time))

    def _tick(self, server: Server, time: float) -> None:
        if server.wake_at == time:
            self.do(server, Tick())

    def _release(self, ticket: int) -> None:
        if (server := self._leases.pop(ticket, None)) is not None:
            self.do(server, Release(ticket))

    def _start(self, server: Server, call: StartCall, *, died: bool) -> None:
        if call.call in ("offload", "unload") and not died:
            self.tally.moved_under_lease += bool(server.scheduler_state.models[call.model].leases)
        self._later(self.rng.uniform(0.0, 0.01), lambda: self._begin(server, call))

    def _begin(self, server: Server, call: StartCall) -> None:
        need = server.sizes[call.model]
        if call.call in ("load", "restore"):
            everybody = sum(sum(each.held.values()) for each in self._on(server.gpu))
            if everybody + need > SIZE:
                self.tally.lost_races += 1
                others = sum(sum(each.held.values()) for each in self._beside(server))
                self.do(server, Finished(call.model, call.serial, NotBegun(others)))
                return
            server.held[call.model] = need
            self._later(self.rng.uniform(0.02, 0.3), lambda: self._end(server, call, need))
        else:
            self._later(self.rng.uniform(0.005, 0.05), lambda: self._end(server, call, 0))

    def _end(self, server: Server, call: StartCall, holds: int) -> None:
        failed = call.call in ("load", "restore") and self.rng.random() < 0.01
        server.held[call.model] = 0 if failed else holds
        outcome = (
            Failure(kind=FailureKind.FAILED, message="the dice said so")
            if failed
            else Footprint(device_bytes=holds, host_bytes=1)
        )
        self.do(server, Finished(call.model, call.serial, outcome))

    def _on(self, gpu: str) -> list[Server]:
        return [each for each in self.servers if each.gpu == gpu]

    def _beside(self, server: Server) -> Iterator[Server]:
        return (each for each in self._on(server.gpu) if each is not server)

    def _check(self, server: Server) -> None:
        total = sum(sum(each.held.values()) for each in self._on(server.gpu))
        self.tally.over_capacity += total > SIZE
        for model in server.scheduler_state.models.values():
            self.tally.lease_without_ready += bool(model.leases) and model.state is not State.READY
            name = (server.name, model.name)
            if model.waits_for is not None:
                self._lacks.setdefault(name, self.now)
            elif model.state is State.READY and name in self._lacks:
                self.tally.waits.append(self.now - self._lacks.pop(name))
            elif not model.waiting:
                self._lacks.pop(name, None)

    # --- the operator -----------------------------------------------------------------------------------------

    def _look_soon(self, seconds: float = LOOK_SECONDS) -> None:
        due = self.now + seconds
        if self._lacks and (self._look_at is None or due < self._look_at):
            self._look_at = due
            self._later(seconds, lambda: self._preempt(due))

    def _preempt(self, due: float) -> None:
        if self._look_at != due:
            return
        self._look_at = None
        now = at(self.now)
        waiters, residents = preemption.view((server.told() for server in self.servers), now)
        recent = [each for each in self._asked.values() if now - each.at < preemption.WINDOW]
        plan = preemption.plan(waiters, residents, recent, RULES, now)
        servers = {server.pod.uid: server for server in self.servers}
        for ask in plan.asks:
            number = next(self._numbers)
            victim = servers[ask.victim.copy.uid]
            asked = Asked(victim=ask.victim.copy, waiter=ask.waiter.copy, gpu=ask.waiter.gpu, at=now)
            self._asked[number] = asked
            self._later(self.rng.uniform(0.001, 0.02), lambda n=number, v=victim: self._yield(n, v))  # type: ignore[misc]
        if plan.retry_seconds is not None:
            self._look_soon(plan.retry_seconds)

    def _yield(self, number: int, victim: Server) -> None:
        ticket = next(self._numbers)
        self._yields[ticket] = number
        model = self._asked[number].victim.model
        self.do(victim, OffloadIfIdle(ticket, model, RULES.min_resident_seconds))

    def _ended(self, ticket: int, outcome: Outcome) -> None:
        number = self._yields.pop(ticket)
        self.tally.asks[outcome] += 1
        self._asked[number] = replace(self._asked[number], ended=at(self.now), outcome=outcome)
        self._look_soon()


def storm(events: int, seed: int) -> Tally:
    return Storm(seed).run(events)
