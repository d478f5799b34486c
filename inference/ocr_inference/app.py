"""Puts the server together and runs it: the only place that knows every part."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from ocr_inference import __version__, engines
from ocr_inference.api import appkeys, middleware
from ocr_inference.api.control import controls, health
from ocr_inference.api.control import settings as settings_route
from ocr_inference.api.control import state as state_route
from ocr_inference.api.control.latest_state import LatestState
from ocr_inference.api.control.telemetry import Telemetry
from ocr_inference.api.ocr import routes as ocr_routes
from ocr_inference.api.openai import models
from ocr_inference.api.openai import routes as chat_routes
from ocr_inference.api.tokens import TokenFile
from ocr_inference.api.ui import page
from ocr_inference.config import live_settings
from ocr_inference.config.live_settings import LiveSettingsOwner
from ocr_inference.config.settings import MAX_FILE_BYTES, Config, Effective, InvalidSettings, Settings
from ocr_inference.device import choosing, gpu, memory_accounting
from ocr_inference.manager.manager import Manager, ModelSnapshot
from ocr_inference.metrics import Metrics, Observed, ObservedModel
from ocr_inference.scheduling.lifecycle import Location, State

log = logging.getLogger(__name__)

CALLS: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("POST", "/ocr", ocr_routes.ocr),
    ("POST", "/v1/chat/completions", chat_routes.completions),
)
"""Need an API key where a keys file is configured."""

CONTROLS: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("POST", "/gpu/load", controls.load),
    ("POST", "/gpu/offload", controls.offload),
    ("POST", "/gpu/release", controls.release),
    ("POST", "/gpu/timeout", controls.timeout),
    ("POST", "/cleanup", controls.offload),
    ("PUT", "/v1/settings", settings_route.put),
)
"""Need the admin token where a token file is configured."""

OPEN: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("GET", "/", page.page),
    ("GET", "/health", health.health),
    ("GET", "/gpu/status", health.gpu_status),
    ("GET", "/livez", health.livez),
    ("GET", "/readyz", health.readyz),
    ("GET", "/metrics", health.metrics),
    ("GET", "/v1/state", state_route.state),
    ("GET", "/v1/models", models.models),
    ("GET", "/v1/models/{model}", models.model),
)


@dataclass(frozen=True)
class Running:
    """A server that accepts requests."""

    url: str
    manager: Manager
    live: LiveSettingsOwner


class CannotListen(InvalidSettings):
    """The address is taken or isn't ours."""


@asynccontextmanager
async def serving(settings: Settings, config: Config, environ: Mapping[str, str]) -> AsyncIterator[Running]:
    """Serve while the block runs; leaving it drains: new work is refused, running work ends, workers close.

    Workers inherit from `environ`. Raises `InvalidSettings` (`CannotListen`) and `gpu.NoDevice` before anything is
    started.
    """
    device = choosing.resolve(settings)
    listener = _listen(settings)
    try:
        async with _managed(settings, config, device, environ) as (app, live, latest_state):
            runner = web.AppRunner(
                app,
                access_log=None,
                # A client that goes away ends its handler, so that it stops waiting for a model.
                handler_cancellation=True,
                # A compressed body would be larger inside than its limit outside; pictures are compressed already.
                auto_decompress=False,
                shutdown_timeout=5.0,
            )
            await runner.setup()
            try:
                await web.SockSite(runner, listener).start()
                yield Running(_url(settings, listener), app[appkeys.MANAGER], live)
                # Still listening: probes, metrics and the state answer while work is refused.
                await app[appkeys.MANAGER].close(settings.drain_seconds)
            finally:
                latest_state.close()
                await runner.cleanup()
    finally:
        listener.close()


@asynccontextmanager
async def _managed(
    settings: Settings, config: Config, device: gpu.Device, environ: Mapping[str, str]
) -> AsyncIterator[tuple[web.Application, LiveSettingsOwner, LatestState]]:
    """The application with its owner tasks running."""
    declared = live_settings.at_start(settings.live_settings_file, config)
    latest_state = LatestState()

    def publish() -> None:
        snapshot, declared = manager.snapshot(), live.declared
        latest_state.publish(state_route.encoded(settings, snapshot, declared, telemetry.reported))

    def changed(effective: Effective) -> None:
        set_log_level(effective)
        manager.apply(effective)
        publish()

    # The two know each other: what is declared goes to the manager, and both make the published state.
    live = LiveSettingsOwner(config, declared, settings.gpu_idle_timeout, changed)
    set_log_level(live.effective)
    manager = create_manager(settings, config, live.effective, device, environ=environ)
    telemetry = Telemetry(device, settings.simulated_gpu_dir, time.monotonic)
    metrics = Metrics(
        __version__,
        lambda: _observed(manager, live, latest_state),
        tuple(state.value for state in State),
        tuple(location.value for location in Location),
    )

    async def follow() -> None:
        before = {model.name: model for model in manager.snapshot().models}
        async for snapshot in manager.changes():
            publish()
            for model in snapshot.models:
                _count(metrics, before[model.name], model)
                before[model.name] = model

    async with asyncio.TaskGroup() as tasks:
        owner = tasks.create_task(manager.run(), name="manager")
        follower = tasks.create_task(follow(), name="state")
        sampler = tasks.create_task(telemetry.run(publish), name="telemetry")
        try:
            application = create_app(
                settings,
                config,
                manager=manager,
                live=live,
                latest_state=latest_state,
                metrics=metrics,
                telemetry=telemetry,
            )
            yield application, live, latest_state
        finally:
            sampler.cancel()
            follower.cancel()
            owner.cancel()


def _count(metrics: Metrics, before: ModelSnapshot, now: ModelSnapshot) -> None:
    """Count what happened between two snapshots of a model."""
    if now.wakes > before.wakes and now.last_wake_seconds is not None:
        metrics.wake_seconds.labels(now.name).observe(now.last_wake_seconds)
    if now.state is State.OFFLOADED and now.since != before.since:
        metrics.offloads.labels(now.name).inc()
    failure = now.last_failure
    if failure is not None and failure != before.last_failure and failure.reason == "WorkerDied":
        metrics.worker_deaths.labels(now.name).inc()


def create_manager(
    settings: Settings,
    config: Config,
    effective: Effective,
    device: gpu.Device,
    *,
    environ: Mapping[str, str],
) -> Manager:
    """The manager of this process's models on `device`; its `run` isn't started here."""
    return Manager(
        config,
        effective,
        device,
        environ=environ,
        cuda_engines=[name for name, info in engines.ENGINES.items() if info.uses_cuda],
        standby_engines=[name for name, info in engines.ENGINES.items() if info.stands_by],
        accounting=memory_accounting.of(settings, device, os.getpid()),
        cache_dir=str(settings.cache_dir),
        forkserver=settings.forkserver,
    )


def create_app(
    settings: Settings,
    config: Config,
    *,
    manager: Manager,
    live: LiveSettingsOwner,
    latest_state: LatestState,
    metrics: Metrics,
    telemetry: Telemetry,
) -> web.Application:
    """Routes and what their handlers need; no task is started here."""
    app = web.Application(
        middlewares=(middleware.observe, middleware.render_errors, middleware.authorize),
        client_max_size=MAX_FILE_BYTES,
    )
    app[appkeys.SETTINGS] = settings
    app[appkeys.CONFIG] = config
    app[appkeys.MANAGER] = manager
    app[appkeys.LIVE_SETTINGS] = live
    app[appkeys.LATEST_STATE] = latest_state
    app[appkeys.METRICS] = metrics
    app[appkeys.TELEMETRY] = telemetry
    app[appkeys.STARTED] = int(time.time())
    app[appkeys.ACCESS] = appkeys.Access(
        calls=TokenFile(settings.api_keys_file) if settings.api_keys_file else None,
        controls=TokenFile(settings.admin_token_file) if settings.admin_token_file else None,
        call_routes=frozenset((method, path) for method, path, _ in CALLS),
        control_routes=frozenset((method, path) for method, path, _ in CONTROLS),
    )
    for method, path, handler in (*OPEN, *CALLS, *CONTROLS):
        app.router.add_route(method, path, handler)
    app.on_response_prepare.append(middleware.add_headers)
    return app


def set_log_level(effective: Effective) -> None:
    logging.getLogger("ocr_inference").setLevel(effective.log_level.upper())


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        at = f"{settings.host}:{settings.port}"
        why = os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(
            f"can't listen at {at}: {why}; choose another with --port or PORT", "PORT"
        ) from error
    listener.setblocking(False)
    return listener


def _url(settings: Settings, listener: socket.socket) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{listener.getsockname()[1]}"


def _observed(manager: Manager, live: LiveSettingsOwner, latest_state: LatestState) -> Observed:
    snapshot = manager.snapshot()
    return Observed(
        device_kind=snapshot.device.kind,
        memory_total_bytes=snapshot.device.memory_total_bytes,
        memory_used_bytes=snapshot.memory_used_bytes,
        queue_limit=snapshot.queue_limit,
        settings_generation=live.declared.generation,
        settings_revision=live.declared.revision,
        draining=snapshot.draining,
        watchers=latest_state.watchers,
        models=tuple(
            ObservedModel(
                name=model.name,
                state=model.state,
                location=model.location,
                in_flight=model.in_flight,
                waiting=model.waiting,
                memory_bytes=model.memory_bytes,
                host_bytes=model.host_bytes,
                worker_running=model.worker_running,
                lack_bytes=0
                if model.waits_for is None
                else max(0, model.waits_for.needed_bytes - model.waits_for.free_bytes),
                counts={"loads": model.loads, "wakes": model.wakes},
                load_bytes=None
                if model.progress is None
                else (model.progress.bytes_done, model.progress.bytes_total),
            )
            for model in snapshot.models
        ),
    )
