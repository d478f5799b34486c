"""`GET /v1/state`: all that an observer needs, as one object, once or as a stream of changes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from ocr_inference import __version__
from ocr_inference.api import sse
from ocr_inference.api.appkeys import LATEST_STATE, LIVE_SETTINGS, MANAGER, SETTINGS, TELEMETRY, respond
from ocr_inference.api.control import telemetry
from ocr_inference.api.control.latest_state import LatestState
from ocr_inference.api.schema import (
    DeviceInfo,
    FailureInfo,
    GpuInfo,
    ModelInfo,
    PodInfo,
    ProgressInfo,
    QueueInfo,
    StateInfo,
    WaitsForInfo,
)
from ocr_inference.config.settings import LiveSettings, Settings
from ocr_inference.errors import ApiError
from ocr_inference.manager.manager import ModelSnapshot, Snapshot

MAX_WATCHERS = 64
MAX_MESSAGE = 2000
"""Most characters of a failure in the state: a library's traceback must not fill every observer."""


async def state(request: web.Request) -> web.StreamResponse:
    match request.query.get("watch", "false").lower():
        case "true" | "1":
            return await _watch(request)
        case "false" | "0":
            app = request.app
            gpu = app[TELEMETRY].reported
            return respond(render(app[SETTINGS], app[MANAGER].snapshot(), app[LIVE_SETTINGS].declared, gpu))
        case other:
            raise ApiError(422, "invalid_value", f"watch is true or false; got {other[:40]!r}", param="watch")


async def _watch(request: web.Request) -> web.StreamResponse:
    latest_state = request.app[LATEST_STATE]
    with _counted(latest_state):
        events, version = sse.Events(request), 0
        try:
            await events.open()
            while True:
                try:
                    async with asyncio.timeout(sse.HEARTBEAT_SECONDS):
                        newest, data = await latest_state.after(version)
                except TimeoutError:
                    await events.heartbeat()
                    continue
                if newest == version:
                    return events.response  # Closed: the server goes down.
                version = newest
                await events.send(data, "state")
        except sse.Gone:
            return events.response


@contextmanager
def _counted(latest_state: LatestState) -> Iterator[None]:
    if latest_state.watchers >= MAX_WATCHERS:
        raise ApiError(
            429,
            "too_many_watchers",
            f"{MAX_WATCHERS} watch already",
            retry_after_seconds=sse.HEARTBEAT_SECONDS,
        )
    latest_state.watchers += 1
    try:
        yield
    finally:
        latest_state.watchers -= 1


def render(settings: Settings, snapshot: Snapshot, declared: LiveSettings, gpu: GpuInfo | None) -> StateInfo:
    device = snapshot.device
    return StateInfo(
        pod=PodInfo(settings.pod_name, settings.pod_uid),
        version=__version__,
        draining=snapshot.draining,
        device=DeviceInfo(
            kind=device.kind,
            uuid=device.uuid,
            product=device.product,
            memory_total_bytes=device.memory_total_bytes,
            memory_used_bytes=snapshot.memory_used_bytes,
            gpu=gpu,
            promised=settings.promised_gpu_uuids,
            mismatch=telemetry.mismatch(settings.promised_gpu_uuids, device),
        ),
        models=tuple(_model(model) for model in snapshot.models),
        queue=QueueInfo(snapshot.waiting, snapshot.in_flight, snapshot.queue_limit),
        settings=declared.to_json(),
    )


def encoded(settings: Settings, snapshot: Snapshot, declared: LiveSettings, gpu: GpuInfo | None) -> bytes:
    return msgspec.json.encode(render(settings, snapshot, declared, gpu))


def _model(model: ModelSnapshot) -> ModelInfo:
    failure, progress, lack = model.last_failure, model.progress, model.waits_for
    return ModelInfo(
        name=model.name,
        engine=model.engine,
        state=model.state,
        location=model.location,
        worker="running" if model.worker_running else "exited",
        standby=model.standby,
        since=timestamp(model.since),
        in_flight=model.in_flight,
        waiting=model.waiting,
        memory_bytes=model.memory_bytes,
        host_bytes=model.host_bytes,
        loads=model.loads,
        wakes=model.wakes,
        failures=model.failures,
        last_wake_seconds=model.last_wake_seconds,
        last_load_seconds=model.last_load_seconds,
        last_failure=None
        if failure is None
        else FailureInfo(
            failure.reason, failure.message[:MAX_MESSAGE], timestamp(failure.time), failure.exit_code
        ),
        revision=model.revision,
        progress=None
        if progress is None
        else ProgressInfo(progress.phase, progress.files, progress.bytes_done, progress.bytes_total),
        idle_since=None if model.idle_since is None else timestamp(model.idle_since),
        waits_for=None
        if lack is None
        else WaitsForInfo(lack.needed_bytes, lack.free_bytes, timestamp(lack.since)),
    )


def timestamp(seconds: float) -> str:
    """Format Unix time as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
