"""Decides what counts as stuck: leases that are held for long, and workers that don't end when they are killed.

A worker that is killed ends within seconds, unless it is in a system call that can't be interrupted, such as one of a
GPU driver that hangs. Nothing in this process can end it then; a restart of the container may.
"""

import math
from dataclasses import dataclass

from ocr_inference.scheduling.state import Model, Reason, Refusal, SchedulerState, Survival

LONG_LEASE_SECONDS = 10.0
"""Time after which a lease is reported: those of pages come and go too fast for observers."""

RETRY_SECONDS = 30.0
"""`Retry-After` of a refusal: a process that takes long to end has ended by then, in most cases."""


def survived(model: Model, seconds: float, now: float) -> Survival:
    """Return that the model's worker lives, `seconds` after it was killed."""
    assert model.worker is not None
    before = since(model)
    return Survival(model.worker, now - seconds if before is None else before, seconds)


def since(model: Model) -> float | None:
    """Return when the model's worker was killed that hasn't ended; None where there is no such worker."""
    survival = model.survival
    return survival.since if survival is not None and survival.worker == model.worker else None


def refusal(model: Model) -> Refusal:
    """Make the refusal for requests to a model whose worker doesn't end: no other one can take its place."""
    message = f"model {model.name} can't be used: its worker was killed and hasn't ended"
    return Refusal(Reason.LOAD_FAILED, message, RETRY_SECONDS)


def oldest_lease(model: Model) -> float | None:
    """Return when the oldest lease was granted; None where there is none."""
    return min(model.leases.values(), default=None)


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds of a model; 0 where there is nothing."""

    oldest_lease: float
    stuck: float
    """Since its worker was killed, which hasn't ended."""


def ages(model: Model, now: float) -> Ages:
    """Return what grows as long as something is stuck."""
    lease, killed = oldest_lease(model), since(model)
    return Ages(0.0 if lease is None else now - lease, 0.0 if killed is None else now - killed)


def long_lease(model: Model, now: float) -> float | None:
    """Return when the oldest lease was granted, if it is held for long."""
    oldest = oldest_lease(model)
    return oldest if oldest is not None and oldest + LONG_LEASE_SECONDS <= now else None


def long_lease_at(model: Model) -> float:
    """Return the time from which the oldest lease is held for long; infinity where there is none."""
    oldest = oldest_lease(model)
    return math.inf if oldest is None else oldest + LONG_LEASE_SECONDS


def unhealthy_reason(state: SchedulerState, hopeless_seconds: float) -> str | None:
    """Return why the process should be restarted: a killed worker was waited for that long. None where it needn't be: a
    server that drains ends anyway, and calls that take long end by limits of their own."""
    if state.draining:
        return None
    for model in state.models.values():
        survival = model.survival
        if since(model) is not None and survival is not None and survival.seconds >= hopeless_seconds:
            return (
                f"the worker of model {model.name} hasn't ended {survival.seconds:.0f} seconds after it was killed: it "
                "is in a system call that can't be interrupted, perhaps in the GPU's driver"
            )
    return None
