"""Decides when device memory of other processes is read, and how long a model waits for it.

External usage is read only when a model needs memory: right before a call is started on the device, and again every
`PROBE_SECONDS` while a waited-for model lacks memory that other processes hold. While no request waits, nothing is read
and no timer runs.
"""

from ocr_inference.scheduling.state import Model, Reason, Refusal, SchedulerState, WaitsFor
from ocr_inference.scheduling.waiter_queue import Waiter
from ocr_wire.states import State

PROBE_SECONDS = 0.1
"""How long a probe counts as known: a third of what is left of a second after a victim's offload."""
PRELOAD_PROBE_SECONDS = 5.0
"""Time between two probes for a model that is preloaded: no request waits for it."""
MIN_HELP_SECONDS = 2.0
"""Least time that a waiter gives other processes to free memory, however small its queue's patience is."""
PRELOAD_PAUSE_SECONDS = 30.0
"""Time for which a preloaded model that made way isn't preloaded again: the pod that it made way for comes first."""
RETRY_SECONDS = 5.0
"""`Retry-After` of a refusal: about the time after which an idle model may be offloaded for another pod."""


def known(state: SchedulerState, now: float) -> bool:
    """Whether external usage was probed a short time ago, or isn't needed."""
    return state.budget_bytes is None or now < state.probed_at + PROBE_SECONDS


def lack(model: Model, free_bytes: int | None, now: float, *, known: bool) -> WaitsFor | None:
    """Return the memory that a model lacks because of external usage; while that isn't `known`, the last answer.

    `free_bytes` is what the model could have, None where external usage doesn't keep it from its memory.
    """
    if model.state not in (State.UNLOADED, State.OFFLOADED) or not model.servable:
        return None
    if not known:
        return model.waits_for
    if free_bytes is None:
        return None
    return WaitsFor(model.lacking_bytes, free_bytes, model.waits_for.since if model.waits_for else now)


def refused_at(model: Model, waiter: Waiter, patience_seconds: float) -> float:
    """Return the time at which a waiter of a model that lacks memory is refused; its own deadline may come first."""
    return min(waiter.deadline, patience_ends(model, waiter, patience_seconds))


def patience_ends(model: Model, waiter: Waiter, patience_seconds: float) -> float:
    """Return the time until which a waiter gives other processes to free memory; of an older waiter it isn't later."""
    assert model.waits_for is not None
    return max(waiter.since, model.waits_for.since) + max(patience_seconds, MIN_HELP_SECONDS)


def refusal(model: Model, external_bytes: int) -> Refusal:
    """Make the refusal for a waiter whose memory other processes didn't free in time."""
    lacks = model.waits_for
    assert lacks is not None
    message = (
        f"model {model.name} needs {lacks.needed_bytes} bytes of GPU memory, {lacks.free_bytes} are free, and other "
        f"processes hold {external_bytes}: try again, offload an idle model on that GPU, or raise queue.patienceSeconds"
    )
    return Refusal(Reason.GPU_MEMORY, message, RETRY_SECONDS)


def busy(model: Model, min_resident_seconds: float, now: float) -> Refusal | None:
    """Return why a ready model isn't offloaded for another pod now; None where it may be."""
    if model.leases or model.waiting or model.admin_request:
        return Refusal(Reason.MODEL_BUSY, f"model {model.name} is in use: try again when it is idle", 1.0)
    left = model.since + min_resident_seconds - now
    if left > 0:
        message = (
            f"model {model.name} is ready for less than {min_resident_seconds:g} s: try again in {left:.1f} s"
        )
        return Refusal(Reason.MODEL_BUSY, message, left)
    return None
