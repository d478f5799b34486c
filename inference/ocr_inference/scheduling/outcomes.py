"""Decides how the end of a call or of a worker changes its model: `ended(...) -> End`.

A load or restore that failed is tried again by the next request, after a pause that grows. One for which the device
lacked memory may be tried a second time at once: after models of ours are evicted, or after external usage that grew
meanwhile has shrunk.
"""

from dataclasses import dataclass, replace

from ocr_inference.protocol.engine import Failure, FailureKind, Footprint
from ocr_inference.scheduling import memory_ladder, memory_plan
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import FailureRecord, Model, NotBegun, Reason, Refusal, SchedulerState
from ocr_wire.states import State

MAX_RETRY_SECONDS = 60.0
"""Bound of the back-off between loads that fail: long enough to be no load, short enough for an on-call person."""


_CONTEXTS = 8
"""Part of a device that contexts of workers take at most: 500 MB of 4 GB, and less of any larger one."""


@dataclass(frozen=True, slots=True)
class End:
    """Model after the end of its call or worker, and what has to happen to it."""

    model: Model
    """The updated model, still in the state that it was in."""
    event: Event | None = None
    """Transition to make; None where the state stays."""
    why: str = ""
    refusal: Refusal | None = None
    """Refusal for all waiters of the model."""
    exits: bool = False
    """Whether its worker is ended, too, for the same reason."""


def ended(
    state: SchedulerState, model: Model, outcome: Footprint | Failure | NotBegun | None, now: float
) -> End:
    """Decide what follows from the end of the call that runs on `model`, one of the state's."""
    assert model.running is not None
    call, seconds = model.running.call, now - model.running.since
    if isinstance(outcome, NotBegun):
        worker = None if model.worker == model.running.serial else model.worker
        return End(replace(model, worker=worker), Event.UNDONE, "other processes hold the memory")
    if call == "exit":
        return End(replace(model, running=None, worker=None))
    if call in ("load", "restore") and model.worker is None and not isinstance(outcome, Failure):
        # Its worker died between the answer and now.
        outcome = Failure(kind=FailureKind.WORKER_DIED, message=f"the worker died right after the {call}")
    if isinstance(outcome, Failure):
        return _failed(state, model, call, outcome, now)
    model = replace(model, footprint=outcome or Footprint())
    if call in ("load", "restore"):
        model = _became_ready(model, call, seconds, now)
    elif call in ("unload", "kill"):
        model = replace(model, worker=None)
    return End(model, Event.DONE)


def worker_died(model: Model, failure: Failure, now: float) -> End:
    """Decide what follows from a worker that ended unasked. If its model was ready, its leases end."""
    model = replace(model, worker=None)
    if model.running is not None:
        return End(model)  # its call ends with a failure, or was to end the worker anyway
    model = replace(model, last_failure=_record("infer", failure, now))
    if model.state is State.OFFLOADED and not model.outlives_worker:
        return End(replace(model, footprint=Footprint()), Event.UNLOAD, "worker died")
    if model.state is not State.READY:
        return End(model)
    footprint = Footprint()
    if model.outlives_worker:
        held = model.footprint
        footprint = Footprint(host_bytes=held.host_bytes, shared_bytes=held.shared_bytes)
    model = replace(model, leases={}, last_activity=now, footprint=footprint)
    return End(model, Event.FAIL, "worker died")


def retry_delay(failures: int) -> float:
    """Return seconds until a model may be loaded again: 0 after the first failure, then 1, 2, 4 … the maximum."""
    return 0.0 if failures <= 1 else min(MAX_RETRY_SECONDS, 2.0 ** (failures - 2))


def load_failed(model: Model, now: float) -> Refusal:
    """Make the refusal for waiters of a model whose last load or restore failed."""
    assert model.last_failure is not None
    message = f"model {model.name} could not be loaded: {model.last_failure.message}"
    if model.last_failure.hopeless:
        return Refusal(Reason.OUT_OF_MEMORY, message, suggestions=memory_ladder.LOAD_SUGGESTIONS)
    return Refusal(Reason.LOAD_FAILED, message, max(1.0, model.retry_at - now))


def _became_ready(model: Model, call: str, seconds: float, now: float) -> Model:
    model = replace(model, last_activity=now, last_granted=now, failures=0, retry_at=0.0)
    model = replace(model, measured_bytes=model.footprint.device_bytes, blocked_on=frozenset())
    if call == "load":
        found = model.footprint.image_failure
        failure = None if found is None else _record("image", found, now)
        return replace(model, loads=model.loads + 1, last_load_seconds=seconds, image_failure=failure)
    return replace(model, wakes=model.wakes + 1, last_wake_seconds=seconds)


def _failed(state: SchedulerState, model: Model, call: str, failure: Failure, now: float) -> End:
    why = f"{call} failed"
    if not _has_cause(model):
        model = replace(model, last_failure=_record(call, failure, now))
    if call not in ("load", "restore"):
        return End(model, Event.FAIL, why)
    no_room, refusal = failure.kind is FailureKind.OUT_OF_MEMORY, None
    again = _second_try(state, model, now) if no_room else None
    if again is None:
        retry_at = now + retry_delay(model.failures + 1)
        # The branch gave a checkpoint that can't be loaded: resolve it anew, it may have moved on.
        revision = model.revision if model.loads else None
        again = replace(model, failures=model.failures + 1, retry_at=retry_at, revision=revision)
        again = replace(again, blocked_on=frozenset())
        if no_room and again.last_failure is not None:
            # Host memory may be free later: pages, files and other models of the container come and go.
            hopeless = not failure.of_host and not _held_by_others(state, model)
            again = replace(again, last_failure=replace(again.last_failure, hopeless=hopeless))
        refusal = load_failed(again, now)
    if no_room and call == "restore" and model.outlives_worker:
        # Ending the worker frees what the attempt left on the device; a restore doesn't write to host memory.
        return End(again, Event.UNDONE, "the device lacks memory", refusal, exits=True)
    return End(again, Event.FAIL, why, refusal)


def _has_cause(model: Model) -> bool:
    """Whether another failure brought the model where it is being unloaded: that one is the last failure to know of."""
    cause = model.last_failure
    return model.state is State.UNLOADING and cause is not None and cause.time == model.since


def _second_try(state: SchedulerState, model: Model, now: float) -> Model | None:
    """Return the model, blocked on what its second try needs; None where it gets no second try."""
    if not model.servable or state.draining:
        return None
    patience = state.effective.queue.patience_seconds
    if not model.blocked_on and (
        victims := memory_plan.victims_for_retry(state.models, model.name, patience, now)
    ):
        return replace(model, blocked_on=victims)
    return replace(model, failures=1) if not model.failures and _external_usage_grew(state) else None


def _held_by_others(state: SchedulerState, model: Model) -> bool:
    """Whether other models or processes hold memory, which they may free. Contexts of our own workers count as external
    usage, too."""
    ours = any(each.charged_bytes for each in state.models.values() if each.name != model.name)
    return ours or state.external_bytes * _CONTEXTS > (state.budget_bytes or 0)


def _external_usage_grew(state: SchedulerState) -> bool:
    """Whether other processes hold memory that the accounting counts as ours."""
    ours = sum(each.charged_bytes for each in state.models.values())
    return state.budget_bytes is not None and ours + state.external_bytes > state.budget_bytes


def reason(call: str, failure: Failure) -> str:
    """Return the failure's reason in CamelCase, as in Kubernetes conditions."""
    return REASONS.get(failure.kind) or f"{call.capitalize()}Failed"


def _record(call: str, failure: Failure, now: float) -> FailureRecord:
    return FailureRecord(reason(call, failure), failure.message, now, failure.exit_code)


REASONS = {
    FailureKind.WORKER_DIED: "WorkerDied",
    FailureKind.OUT_OF_MEMORY: "OutOfMemory",
    FailureKind.SOURCE_UNAVAILABLE: "SourceUnavailable",
    FailureKind.INVALID_CHECKPOINT: "InvalidCheckpoint",
    FailureKind.DISK_FULL: "DiskFull",
}
