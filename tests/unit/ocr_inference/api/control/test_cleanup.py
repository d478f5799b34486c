"""What a clean-up says that it freed."""

import pytest

from ocr_inference.api.control import cleanup
from ocr_inference.protocol.memory_use import CleanedUp, DeviceUse, MemoryUse

MIB = 1 << 20


def use(rss: int, reserved: int | None = None) -> MemoryUse:
    device = None
    if reserved is not None:
        device = DeviceUse(allocated_bytes=MIB, reserved_bytes=reserved * MIB, free_bytes=8 * MIB)
    return MemoryUse(rss_bytes=rss * MIB, device=device)


def test_it_adds_up_what_workers_freed_and_never_below_nothing() -> None:
    cleaned = {
        "a": CleanedUp(before=use(300, 50), after=use(250, 20)),
        "b": CleanedUp(before=use(100), after=use(120)),
    }
    assert cleanup.message(cleaned) == (
        "caches of 2 workers emptied: 30.0 MiB of GPU memory and 50.0 MiB of host memory freed; "
        "models stay where they are"
    )


def test_a_worker_that_is_at_work_is_named() -> None:
    report = cleanup.report({"a": CleanedUp(before=use(2), after=use(1)), "b": None})
    assert report["workers"] == [
        {"model": "a", "cleaned": True, "before": use(2), "after": use(1)},
        {"model": "b", "cleaned": False},
    ]
    assert str(report["message"]).endswith("; still at work, and cleaned up afterwards: b")


@pytest.mark.parametrize(
    ("reserved", "available"), [(1, 8), (5, 12), (0, 8)], ids=["no cache", "cache", "odd numbers"]
)
def test_what_a_process_may_still_take_includes_its_own_cache(reserved: int, available: int) -> None:
    device = use(0, reserved).device
    assert device is not None
    assert device.available_bytes == available * MIB


def test_a_line_of_the_log_has_host_and_device() -> None:
    assert str(use(300)) == "rss 300 MiB"
    assert str(use(300, 5)) == "rss 300 MiB, device 1 MiB allocated, 5 MiB reserved, 8 MiB free"
