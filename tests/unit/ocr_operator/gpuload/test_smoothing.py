"""Utilisation as a moving average: bounded, deterministic, and forgotten after a gap."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.gpuload import smoothing
from ocr_operator.gpuload.dcgm import GpuReading

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
IDLE = GpuReading(node="gpu-a", uuid="GPU-1", utilization=0.0, read_at=NOW)


def later(seconds: float, utilization: float | None) -> GpuReading:
    return replace(IDLE, utilization=utilization, read_at=NOW + timedelta(seconds=seconds))


def busy(before: GpuReading, now: GpuReading) -> float | None:
    [one] = smoothing.smooth([before], [now])
    return one.utilization


def test_a_change_counts_by_its_time() -> None:
    assert busy(IDLE, later(5, 1.0)) == pytest.approx(0.1535, abs=1e-4)
    assert busy(IDLE, later(30, 1.0)) == pytest.approx(0.6321, abs=1e-4)


def test_the_same_reading_again_changes_nothing() -> None:
    [once] = smoothing.smooth([IDLE], [later(5, 1.0)])
    assert busy(once, later(5, 1.0)) == once.utilization


def test_after_a_gap_the_newest_counts_alone() -> None:
    assert busy(IDLE, later(300, 0.4)) == 0.4


def test_a_new_gpu_and_an_unknown_utilisation_start_afresh() -> None:
    assert smoothing.smooth([], [later(5, 1.0)]) == (later(5, 1.0),)
    assert busy(later(0, None), later(5, 1.0)) == 1.0
    assert busy(IDLE, later(5, None)) is None


@given(
    st.lists(st.tuples(st.floats(-10, 400), st.floats(0, 1)), min_size=1, max_size=20),
)
def test_the_average_stays_between_what_was_told(steps: list[tuple[float, float]]) -> None:
    """Clocks that jump back included."""
    at, reported = NOW, [0.0]
    known: tuple[GpuReading, ...] = (IDLE,)
    for gap, value in steps:
        at += timedelta(seconds=gap)
        reported.append(value)
        known = smoothing.smooth(known, [replace(IDLE, utilization=value, read_at=at)])
        assert known[0].utilization is not None
        assert min(reported) - 1e-9 <= known[0].utilization <= max(reported) + 1e-9
