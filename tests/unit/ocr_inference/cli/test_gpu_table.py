"""The state of a server, as people read it."""

from datetime import UTC, datetime, timedelta

import pytest

from ocr_inference.cli.gpu import table
from ocr_wire.state import Device, Failure, Identity, IdleTimes, Model, PodState, WaitsFor, WholeGpu
from ocr_wire.states import DeviceKind, Location, State

NOW = datetime(2026, 11, 29, tzinfo=UTC)
GIB = 1 << 30
TIMES = IdleTimes(offload_after_seconds=60, exit_after_seconds=300, release_after_seconds=1800)
READY = Model(
    name="deepseek-ocr",
    state=State.READY,
    location=Location.GPU,
    memory_bytes=7 * GIB,
    host_bytes=7 * GIB,
    idle_since=NOW - timedelta(seconds=12),
    idle=TIMES,
)
GPU = Device(
    kind=DeviceKind.CUDA,
    uuid="GPU-2f1d",
    product="NVIDIA L40S",
    gpu=WholeGpu(memory_used_bytes=12 * GIB, memory_total_bytes=48 * GIB),
)


def said(*models: Model, device: Device = GPU, draining: bool = False) -> list[str]:
    state = PodState(pod=Identity(name=""), version="1.2.3", device=device, models=models, draining=draining)
    return list(table.lines("http://localhost:8001", state, NOW))


def test_a_server_with_a_gpu() -> None:
    other = Model(name="pp-ocr", state=State.UNLOADED, location=Location.UNLOADED, in_flight=2)
    assert said(READY, other) == [
        "http://localhost:8001, ocr-inference 1.2.3, cuda, NVIDIA L40S, GPU-2f1d, 12.0 GiB of 48.0 GiB used",
        "MODEL         STATE     LOCATION  GPU      HOST     IDLE      NEXT",
        "deepseek-ocr  ready     gpu       7.0 GiB  7.0 GiB  12 s      offload in 48 s",
        "pp-ocr        unloaded  unloaded  -        -        2 in use  -",
    ]


def test_what_is_wrong_is_said() -> None:
    failed = Model(
        name="m\x1b",
        state=State.FAILED,
        location=Location.UNLOADED,
        failures=2,
        last_failure=Failure(reason="LoadFailed", message="no such \x1b[2Jrepository"),
        waits_for=WaitsFor(needed_bytes=7 * GIB, free_bytes=GIB, since=NOW),
    )
    lines = said(failed, device=Device(kind=DeviceKind.CPU), draining=True)
    assert lines[0] == "http://localhost:8001, ocr-inference 1.2.3, cpu, goes down"
    assert lines[3:] == [
        "m? failed 2 times: no such ?[2Jrepository",
        "m? waits for memory: it needs 7.0 GiB, and 1.0 GiB are free",
    ]


@pytest.mark.parametrize(
    ("times", "state", "preloaded", "idle", "says"),
    [
        ((60, 300, 1800), State.READY, False, 12.0, "offload in 48 s"),
        ((60, 300, 1800), State.READY, False, None, "offload after 1 m 0 s"),
        ((60, 300, 1800), State.READY, True, 12.0, "stays (preload)"),
        ((-1, 300, 1800), State.READY, False, 0.0, "release in 30 m 0 s"),
        ((60, 300, 1800), State.OFFLOADED, False, 100.0, "release in 28 m 20 s"),
        ((0, -1, -1), State.OFFLOADED, False, 9.0, "stays"),
        ((-1, -1, -1), State.READY, False, 9.0, "stays"),
        ((60, 300, 1800), State.UNLOADED, False, 9.0, "-"),
    ],
)
def test_what_idle_timers_do_next(
    times: tuple[float, float, float], state: State, preloaded: bool, idle: float | None, says: str
) -> None:
    offload, exit_, release = times
    location = {State.READY: Location.GPU, State.OFFLOADED: Location.CPU}.get(state, Location.UNLOADED)
    idle_times = IdleTimes(
        offload_after_seconds=offload, exit_after_seconds=exit_, release_after_seconds=release
    )
    model = Model(name="m", state=state, location=location, idle=idle_times, preloaded=preloaded)
    assert table.following(model, idle) == says
