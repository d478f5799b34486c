"""State of a server's models, as people read it; pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from ocr_inference.cli.read.progress import duration, safe, width
from ocr_wire.settings import NEVER
from ocr_wire.state import Model, PodState
from ocr_wire.states import DeviceKind, State

HEADER: Final = ("MODEL", "STATE", "LOCATION", "GPU", "HOST", "IDLE", "NEXT")


def lines(server: str, state: PodState, now: datetime) -> Iterator[str]:
    """Yield the lines about a server: itself, a table of its models, what is wrong."""
    device = state.device
    parts = [server, f"ocr-inference {state.version}".strip(), device.kind]
    if device.kind is not DeviceKind.CPU:
        parts += [each for each in (device.product, device.uuid) if each]
    if (gpu := device.gpu) is not None:
        parts.append(f"{size(gpu.memory_used_bytes)} of {size(gpu.memory_total_bytes)} used")
    yield safe(", ".join(parts)) + (", goes down" if state.draining else "")
    yield from aligned([HEADER, *(_row(model, now) for model in state.models)])
    for model in state.models:
        failure = model.last_failure
        if failure is not None and model.failures:
            yield safe(f"{model.name} failed {model.failures} times: {failure.message}")
        if (lack := model.waits_for) is not None:
            needed, free = size(lack.needed_bytes), size(lack.free_bytes)
            yield safe(f"{model.name} waits for memory: it needs {needed}, and {free} are free")


def _row(model: Model, now: datetime) -> tuple[str, ...]:
    idle = None if model.idle_since is None else max(0.0, (now - model.idle_since).total_seconds())
    return (
        safe(model.name),
        model.state,
        model.location,
        size(model.memory_bytes),
        size(model.host_bytes),
        _use(model) if idle is None else duration(idle),
        following(model, idle),
    )


def _use(model: Model) -> str:
    requests = model.in_flight + model.waiting
    return f"{requests} in use" if requests else "-"


def following(model: Model, idle: float | None) -> str:
    """Return what its idle timers do next, and when."""
    if model.idle is None or model.state not in (State.READY, State.OFFLOADED):
        return "-"
    if model.preloaded:
        return "stays (preload)"
    steps = {"release": model.idle.release_after_seconds}
    if model.state is State.READY:
        steps = {"offload": model.idle.offload_after_seconds, **steps}
    event, after = min(
        ((name, seconds) for name, seconds in steps.items() if seconds != NEVER),
        key=lambda each: each[1],
        default=("stays", NEVER),
    )
    if after == NEVER:
        return event
    return f"{event} after {duration(after)}" if idle is None else f"{event} in {duration(after - idle)}"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as columns, as wide as what is in them."""
    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def size(number: int) -> str:
    """Return bytes as people say them; `-` for none."""
    if not number:
        return "-"
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
