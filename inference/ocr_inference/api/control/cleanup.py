"""What `POST /cleanup` answers: the memory of each running worker before and after, in numbers and in words."""

from collections.abc import Mapping

from ocr_inference.protocol.memory_use import CleanedUp, MemoryUse

MIB = 1 << 20


def report(cleaned: Mapping[str, CleanedUp | None]) -> dict[str, object]:
    """Return the answer's own keys; `cleaned` has None for workers that clean up after the page that they read."""
    workers = [
        {"model": model}
        | (
            {"cleaned": False}
            if each is None
            else {"cleaned": True, "before": each.before, "after": each.after}
        )
        for model, each in cleaned.items()
    ]
    return {"message": message(cleaned), "workers": workers}


def message(cleaned: Mapping[str, CleanedUp | None]) -> str:
    """Return what was freed, in a sentence; processes share memory and others take it, so figures are differences."""
    done = [each for each in cleaned.values() if each is not None]
    busy = [model for model, each in cleaned.items() if each is None]
    if not cleaned:
        return "no worker is running, so there is nothing to free"
    host = sum(max(0, each.before.rss_bytes - each.after.rss_bytes) for each in done)
    device = sum(max(0, _reserved(each.before) - _reserved(each.after)) for each in done)
    words = (
        f"caches of {_counted(len(done))} emptied: {device / MIB:.1f} MiB of GPU memory and {host / MIB:.1f} MiB of "
        "host memory freed; models stay where they are"
    )
    if busy:
        words += f"; still at work, and cleaned up afterwards: {', '.join(busy)}"
    return words


def _reserved(memory: MemoryUse) -> int:
    return 0 if memory.device is None else memory.device.reserved_bytes


def _counted(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
