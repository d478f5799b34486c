"""The others on the same device: when to look at what they hold, and how long a model waits for their memory.

Pure, and small beside `scheduler`, which asks it. What others hold is read only when somebody wants memory: right
before something is begun on the device, and again every `LOOK_SECONDS` while a waited-for model lacks what others
have. Nothing is read, and nothing ticks, while nobody waits.
"""

from ocr_inference.scheduling.lifecycle import State
from ocr_inference.scheduling.state import Model, Reason, Refusal, Waiter, WaitsFor, World

LOOK_SECONDS = 0.1
"""An observation is good for so long: a third of what is left of a second after a victim's offload."""
AHEAD_SECONDS = 5.0
"""Between two looks for the sake of a model that is to be loaded ahead: nobody waits for it."""
HELP_SECONDS = 2.0
"""A waiter gives others at least so long, however small its queue's patience is."""
YIELDED_SECONDS = 30.0
"""A preloaded model that made way isn't loaded ahead again before: whom it made way for comes first."""
RETRY_SECONDS = 5.0
"""For a client that was refused: about the time after which an idle model may be sent away."""


def seen(world: World, now: float) -> bool:
    """Whether it is known well enough what others hold."""
    return world.budget_bytes is None or now < world.observed_at + LOOK_SECONDS


def lack(model: Model, free_bytes: int | None, now: float, *, seen: bool) -> WaitsFor | None:
    """What a model waits for; `free_bytes` is what it could have, None where others don't keep it from its memory.
    What isn't seen at this moment is as it was.
    """
    if model.state not in (State.UNLOADED, State.OFFLOADED) or not model.servable:
        return None
    if not seen:
        return model.waits_for
    if free_bytes is None:
        return None
    return WaitsFor(model.need_bytes, free_bytes, model.waits_for.since if model.waits_for else now)


def help_ends(model: Model, waiter: Waiter, patience_seconds: float) -> float:
    """When a waiter of a model that lacks others' memory is refused; its own deadline may come first."""
    assert model.waits_for is not None
    began = max(waiter.since, model.waits_for.since)
    return min(waiter.deadline, began + max(patience_seconds, HELP_SECONDS))


def refusal(model: Model, others_bytes: int) -> Refusal:
    """For a waiter that nobody helped in time."""
    lacks = model.waits_for
    assert lacks is not None
    message = (
        f"model {model.name} needs {lacks.needed_bytes} bytes of GPU memory, {lacks.free_bytes} are free, and other "
        f"processes hold {others_bytes}: try again, offload an idle model on that GPU, or raise queue.patienceSeconds"
    )
    return Refusal(Reason.GPU_MEMORY, message, RETRY_SECONDS)


def busy(model: Model, min_resident_seconds: float, now: float) -> Refusal | None:
    """Why a ready model isn't offloaded for somebody else now; None where it may go."""
    if model.leases or model.waiters or model.asked:
        return Refusal(Reason.MODEL_BUSY, f"model {model.name} is in use: ask again when it is idle", 1.0)
    left = model.since + min_resident_seconds - now
    if left > 0:
        message = (
            f"model {model.name} is ready for less than {min_resident_seconds:g} s: ask again in {left:.1f} s"
        )
        return Refusal(Reason.MODEL_BUSY, message, left)
    return None
