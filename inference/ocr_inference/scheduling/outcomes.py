"""What the end of a call, or of a worker, makes of a model: `ended(...) -> End`. Pure; carries out nothing.

A load or restore that failed is tried again by the next request, after a pause that grows. One that the device had no
room for may be tried once more at once: after models of ours have made way, or after others that came meanwhile have
gone.
"""

from dataclasses import dataclass, replace

from ocr_inference.protocol.engine import Failure, FailureKind, Footprint
from ocr_inference.scheduling import memory_plan
from ocr_inference.scheduling.lifecycle import Event, State
from ocr_inference.scheduling.state import FailureRecord, Model, NoRoom, Reason, Refusal, World

MAX_RETRY_SECONDS = 60.0
"""Bound of the back-off between loads that fail: long enough to be no load, short enough for an on-call person."""


@dataclass(frozen=True, slots=True)
class End:
    model: Model
    """With all that is known of it now, in the state that it was in."""
    event: Event | None = None
    """What moves it on; None where its state stays."""
    why: str = ""
    refusal: Refusal | None = None
    """For all who wait for it."""
    exits: bool = False
    """Its worker goes, too, for the same reason."""


def ended(world: World, model: Model, outcome: Footprint | Failure | NoRoom | None, now: float) -> End:
    """Of the call that runs on `model`, one of the world's."""
    assert model.running is not None
    call, seconds = model.running.call, now - model.running.since
    if isinstance(outcome, NoRoom):
        worker = None if model.worker == model.running.serial else model.worker
        return End(replace(model, worker=worker), Event.UNDONE, "others hold the memory")
    if call == "exit":
        return End(replace(model, running=None, worker=None))
    if call in ("load", "restore") and model.worker is None and not isinstance(outcome, Failure):
        # Its worker died between the answer and now.
        outcome = Failure(kind=FailureKind.WORKER_DIED, message=f"the worker died right after the {call}")
    if isinstance(outcome, Failure):
        return _failed(world, model, call, outcome, now)
    model = replace(model, footprint=outcome or Footprint())
    if call in ("load", "restore"):
        model = _became_ready(model, call, seconds, now)
    elif call in ("unload", "kill"):
        model = replace(model, worker=None)
    return End(model, Event.DONE)


def worker_died(model: Model, failure: Failure, now: float) -> End:
    """Of a worker that ended unasked. With one that was ready, its leases end."""
    model = replace(model, worker=None)
    if model.running is not None:
        return End(model)  # its call ends with a failure, or was about to end the worker anyway
    model = replace(model, last_failure=_record("infer", failure, now))
    if model.state is not State.READY:
        return End(model)
    footprint = Footprint(host_bytes=model.footprint.host_bytes)
    model = replace(model, leases=frozenset(), last_activity=now, footprint=footprint)
    return End(model, Event.FAIL, "worker died")


def retry_delay(failures: int) -> float:
    """Seconds until a model may be loaded again: none after the first failure, then 1, 2, 4 … the maximum."""
    return 0.0 if failures <= 1 else min(MAX_RETRY_SECONDS, 2.0 ** (failures - 2))


def load_failed(model: Model, now: float) -> Refusal:
    """For who waits for a model whose last load or restore failed."""
    assert model.last_failure is not None
    message = f"model {model.name} could not be loaded: {model.last_failure.message}"
    return Refusal(Reason.LOAD_FAILED, message, max(1.0, model.retry_at - now))


def _became_ready(model: Model, call: str, seconds: float, now: float) -> Model:
    model = replace(model, last_activity=now, last_granted=now, failures=0, retry_at=0.0)
    model = replace(model, measured_bytes=model.footprint.device_bytes, after=frozenset())
    if call == "load":
        return replace(model, loads=model.loads + 1, last_load_seconds=seconds)
    return replace(model, wakes=model.wakes + 1, last_wake_seconds=seconds)


def _failed(world: World, model: Model, call: str, failure: Failure, now: float) -> End:
    model, why = replace(model, last_failure=_record(call, failure, now)), f"{call} failed"
    if call not in ("load", "restore"):
        return End(model, Event.FAIL, why)
    no_room, refusal = failure.kind is FailureKind.OUT_OF_MEMORY, None
    again = _tried_again(world, model, now) if no_room else None
    if again is None:
        retry_at = now + retry_delay(model.failures + 1)
        # A branch that gave a checkpoint that can't be loaded is asked again: it may have moved on.
        revision = model.revision if model.loads else None
        again = replace(model, failures=model.failures + 1, retry_at=retry_at, revision=revision)
        again = replace(again, after=frozenset())
        refusal = load_failed(again, now)
    if no_room and call == "restore":
        # Whatever the attempt left on the device goes with its worker; host memory it doesn't write to.
        return End(again, Event.UNDONE, "no room on the device", refusal, exits=True)
    return End(again, Event.FAIL, why, refusal)


def _tried_again(world: World, model: Model, now: float) -> Model | None:
    """The model, waiting for what its second try needs; None where it gets none."""
    if not model.servable or world.draining:
        return None
    patience = world.effective.queue.patience_seconds
    if not model.after and (after := memory_plan.make_way(world.models, model.name, patience, now)):
        return replace(model, after=after)
    return replace(model, failures=1) if not model.failures and _others_came(world) else None


def _others_came(world: World) -> bool:
    """Whether others have taken memory that the books have for us."""
    ours = sum(each.charged_bytes for each in world.models.values())
    return world.budget_bytes is not None and ours + world.others_bytes > world.budget_bytes


def _record(call: str, failure: Failure, now: float) -> FailureRecord:
    reason = _REASONS.get(failure.kind) or f"{call.capitalize()}Failed"
    return FailureRecord(reason, failure.message, now, failure.exit_code)


_REASONS = {
    FailureKind.WORKER_DIED: "WorkerDied",
    FailureKind.OUT_OF_MEMORY: "OutOfMemory",
    FailureKind.SOURCE_UNAVAILABLE: "SourceUnavailable",
    FailureKind.INVALID_CHECKPOINT: "InvalidCheckpoint",
    FailureKind.DISK_FULL: "DiskFull",
}
