"""A world in which engine calls take as long as a test wants, told command by command."""

from collections.abc import Collection

from ocr_inference.config.settings import Batching, Effective, Idle, ModelPolicy, Queue
from ocr_inference.protocol.engine import Failure, FailureKind, Footprint, Progress
from ocr_inference.scheduling import scheduler
from ocr_inference.scheduling.commands import (
    Acquire,
    AdminRequest,
    Command,
    Finished,
    MemoryProbed,
    OffloadIfIdle,
    Progressed,
    Release,
    Tick,
)
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import (
    Done,
    Effect,
    Grant,
    HandOver,
    Model,
    NotBegun,
    ProbeMemory,
    Reason,
    Reject,
    SchedulerState,
    StartCall,
    WakeAt,
)
from ocr_wire.states import State

DIED = Failure(kind=FailureKind.WORKER_DIED, message="killed", exit_code=-9)
BROKEN = Failure(kind=FailureKind.FAILED, message="no such file")
NO_ROOM = Failure(kind=FailureKind.OUT_OF_MEMORY, message="the device is full")
NEVER = Idle(-1, -1, -1, -1)


def policy(idle: Idle = NEVER, priority: int = 0, preload: bool = False) -> ModelPolicy:
    return ModelPolicy(idle, priority, preload)


class Story:
    """A world in which engine calls take as long as the test wants."""

    def __init__(
        self,
        policies: dict[str, ModelPolicy] | None = None,
        sizes: dict[str, int] | None = None,
        budget: int | None = None,
        queue: Queue | None = None,
        max_pages: int = 2,
        *,
        staying: Collection[str] = (),
        owned: Collection[str] = (),
    ) -> None:
        """Begin; models that are `staying` can't be offloaded, the host memory of those `owned` is their worker's."""
        policies = policies or {"a": policy()}
        self.effective = Effective(Batching(max_pages, 0), queue or Queue(64, 10, 300), "info", policies)
        models = {
            name: Model(
                name,
                each,
                declared_bytes=(sizes or {}).get(name, 10),
                can_offload=name not in staying,
                outlives_worker=name not in {*staying, *owned},
            )
            for name, each in policies.items()
        }
        self.scheduler_state = SchedulerState(models, self.effective, budget)
        self.now = 0.0
        self.ticket = 0
        self.started: list[str] = []
        self.wake_at: float | None = None
        self.others = 0
        self.probes = 0
        self.answers: dict[int, Effect] = {}
        self.effects: list[Effect] = []
        self.do(Tick())

    def do(self, command: Command) -> list[Effect]:
        self.scheduler_state, effects = scheduler.decide(self.scheduler_state, command, self.now)
        for effect in effects:
            match effect:
                case StartCall(model, call):
                    self.started.append(f"{call} {model}")
                case Grant(ticket) | HandOver(ticket) | Reject(ticket) | Done(ticket):
                    assert ticket not in self.answers, "answered twice"
                    self.answers[ticket] = effect
                case WakeAt(time):
                    assert time is None or time > self.now, "a timer in the past spins"
                    self.wake_at = time
        self.effects += effects
        if ProbeMemory() in effects:
            self.probes += 1
            return [*effects, *self.do(MemoryProbed(self.others))]
        return list(effects)

    def ask(
        self, model: str = "a", deadline: float | None = None, *, alone: bool = False, movable: bool = False
    ) -> int:
        self.ticket += 1
        limit = self.now + self.effective.queue.deadline_seconds
        until = limit if deadline is None else min(limit, deadline)
        self.do(Acquire(self.ticket, model, until, alone=alone, movable=movable))
        return self.ticket

    def admin(self, event: Event, model: str = "a", *, force: bool = False) -> int:
        self.ticket += 1
        assert event is Event.OFFLOAD or event is Event.UNLOAD
        self.do(AdminRequest(self.ticket, model, event, force))
        return self.ticket

    def offload_if_idle(self, model: str = "a", after: float = 0.0) -> int:
        self.ticket += 1
        self.do(OffloadIfIdle(self.ticket, model, after))
        return self.ticket

    def end(self, model: str = "a", outcome: Footprint | Failure | NotBegun | None = None) -> None:
        """The call in flight ends."""
        running = self.scheduler_state.models[model].running
        assert running is not None
        held = (
            Footprint(device_bytes=10, host_bytes=10) if running.call in ("load", "restore") else Footprint()
        )
        self.do(Finished(model, running.serial, outcome or held))

    def wait_until(self, time: float) -> None:
        """Let the timers run, as the owner task would."""
        while self.wake_at is not None and self.wake_at <= time:
            self.now = self.wake_at
            self.do(Tick())
        self.now = time

    def granted(self, ticket: int) -> bool:
        return isinstance(self.answers.get(ticket), Grant)

    def handed_to(self, ticket: int) -> str | None:
        answer = self.answers.get(ticket)
        return answer.helper if isinstance(answer, HandOver) else None

    def refused(self, ticket: int) -> Reason | None:
        answer = self.answers.get(ticket)
        return answer.refusal.reason if isinstance(answer, Reject) else None

    def state(self, model: str = "a") -> State:
        return self.scheduler_state.models[model].state

    def tell(
        self, done: int, revision: str | None = None, model: str = "a", serial: int | None = None
    ) -> None:
        """News of the call in flight."""
        if serial is None:
            running = self.scheduler_state.models[model].running
            serial = running.serial if running else 0
        self.do(Progressed(model, serial, Progress(phase="downloading", done_bytes=done, revision=revision)))

    def make_ready(self, model: str = "a") -> int:
        ticket = self.ask(model)
        self.end(model)
        assert self.granted(ticket)
        return ticket


def asleep(*names: str, **policies: ModelPolicy) -> Story:
    """A story in which these models are ready and idle and `z` is offloaded, with room for all by the books."""
    story = Story({name: policies.get(name, policy()) for name in (*names, "z")}, max_pages=1)
    for name in (*names, "z"):
        story.now += 1
        story.do(Release(story.make_ready(name)))
    story.admin(Event.OFFLOAD, "z")
    story.end("z")
    return story
