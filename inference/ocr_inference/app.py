"""Puts the server together and runs it; the only module that knows every part."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ocr_inference import __version__
from ocr_inference.api import appkeys, middleware, origins
from ocr_inference.api.connection import Connection
from ocr_inference.api.control import controls, health
from ocr_inference.api.control import settings as settings_route
from ocr_inference.api.control import state as state_route
from ocr_inference.api.control.latest_state import LatestState
from ocr_inference.api.control.telemetry import Telemetry
from ocr_inference.api.ocr import ocr
from ocr_inference.api.openai import completions, models
from ocr_inference.api.tokens import TokenFile
from ocr_inference.api.ui import page
from ocr_inference.config import live_settings
from ocr_inference.config.live_settings import LiveSettingsOwner
from ocr_inference.config.settings import (
    MAX_FILE_BYTES,
    Config,
    Effective,
    InvalidSettings,
    Settings,
    effective,
)
from ocr_inference.device import choosing, gpu, memory_accounting
from ocr_inference.manager.manager import Manager
from ocr_inference.metrics import Metrics
from ocr_wire import engines, names
from ocr_wire.state import Model
from ocr_wire.states import State

log = logging.getLogger(__name__)

CALLS: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("POST", names.PATH_OCR, ocr.ocr),
    ("POST", "/v1/chat/completions", completions.completions),
)
"""Routes that need an API key where a keys file is configured."""

CONTROLS: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("POST", names.PATH_LOAD, controls.load),
    ("POST", names.PATH_OFFLOAD, controls.offload),
    ("POST", names.PATH_RELEASE, controls.release),
    ("POST", names.PATH_TIMEOUT, controls.timeout),
    ("POST", "/cleanup", controls.offload),
    ("PUT", names.PATH_SETTINGS, settings_route.put),
)
"""Routes that need the admin token where a token file is configured."""

OPEN: tuple[tuple[str, str, appkeys.Handler], ...] = (
    ("GET", "/", page.page),
    ("GET", "/health", health.health),
    ("GET", "/gpu/status", health.gpu_status),
    ("GET", names.PATH_LIVE, health.livez),
    ("GET", names.PATH_READY, health.readyz),
    ("GET", "/metrics", health.metrics),
    ("GET", names.PATH_STATE, state_route.state),
    ("GET", "/v1/models", models.models),
    ("GET", "/v1/models/{model}", models.model),
)


BACKLOG = 1024
"""Connections that the system holds while the loop is busy."""


@dataclass(frozen=True)
class Running:
    """Server that accepts requests."""

    url: str
    manager: Manager


class CannotListen(InvalidSettings):
    """Address that is taken or isn't this machine's."""


@asynccontextmanager
async def serving(settings: Settings, config: Config, environ: Mapping[str, str]) -> AsyncIterator[Running]:
    """Serve while the block runs; leaving it drains: new work is refused, running work ends, workers close.

    Workers inherit from `environ`. Raises `InvalidSettings` (`CannotListen`) and `gpu.NoDevice` before anything is
    started.
    """
    device = choosing.resolve(settings)
    listener = _listen(settings)
    _log_access(settings)
    try:
        async with _managed(settings, config, device, environ) as app:
            runner = web.AppRunner(
                app,
                # A client that goes away ends its handler, so that it stops waiting for a model.
                handler_cancellation=True,
                shutdown_timeout=5.0,
            )
            await runner.setup()
            acceptor = await _accept(runner, listener)
            try:
                yield Running(_url(settings, listener), app[appkeys.MANAGER])
                # Still listening: probes, metrics and the state answer while work is refused.
                await app[appkeys.MANAGER].close(settings.drain_seconds)
            finally:
                acceptor.close()
                app[appkeys.LATEST_STATE].encoded.close()
                await runner.cleanup()
    finally:
        listener.close()


async def _accept(runner: web.AppRunner, listener: socket.socket) -> asyncio.Server:
    """Accept connections of ours; the runner's sites make aiohttp's only."""
    server, loop = runner.server, asyncio.get_running_loop()
    assert server is not None

    def connect() -> Connection:
        return Connection(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None is documented for the runner, which passes it on
            # A compressed body would be larger inside than its limit outside; pictures are compressed already.
            auto_decompress=False,
        )

    return await loop.create_server(connect, sock=listener, backlog=BACKLOG)


@asynccontextmanager
async def _managed(
    settings: Settings, config: Config, device: gpu.Device, environ: Mapping[str, str]
) -> AsyncIterator[web.Application]:
    """Run the owner tasks while the block runs; yields the application."""
    declared = live_settings.at_start(settings.live_settings_file, config)
    initial = effective(config, declared.values, settings.gpu_idle_timeout)
    manager = create_manager(settings, config, initial, device, environ=environ)

    def apply(changed: Effective) -> None:
        set_log_level(changed)
        manager.apply(changed)

    set_log_level(initial)
    live = LiveSettingsOwner(config, declared, settings.gpu_idle_timeout, apply)
    telemetry = Telemetry(device, settings.simulated_gpu_dir, time.monotonic)
    latest_state = LatestState(settings, manager, live, telemetry)
    metrics = Metrics(__version__, latest_state.document, lambda: latest_state.watchers)
    async with asyncio.TaskGroup() as tasks:
        running = (
            tasks.create_task(telemetry.run(), name="telemetry"),
            tasks.create_task(latest_state.run(), name="state"),
            tasks.create_task(_count_changes(metrics, manager), name="counts"),
            tasks.create_task(manager.run(), name="manager"),
        )
        try:
            yield create_app(
                settings,
                config,
                manager=manager,
                live=live,
                latest_state=latest_state,
                metrics=metrics,
            )
        finally:
            for task in running:
                task.cancel()


async def _count_changes(metrics: Metrics, manager: Manager) -> None:
    before = {model.name: model for model in manager.snapshot().models}
    async for snapshot in manager.changes():
        for model in snapshot.models:
            _count(metrics, before[model.name], model)
            before[model.name] = model


def _count(metrics: Metrics, before: Model, now: Model) -> None:
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
    """Make the manager of this process's models on `device`; its `run` isn't started here."""
    return Manager(
        config,
        effective,
        device,
        environ=environ,
        cuda_engines=[info.name for info in engines.ENGINES if info.uses_cuda],
        standby_engines=[info.name for info in engines.ENGINES if info.stands_by],
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
) -> web.Application:
    """Make the application: routes, and what their handlers need. No task is started here."""
    app = web.Application(
        middlewares=(
            middleware.observe,
            middleware.render_errors,
            middleware.check_origin,
            middleware.authorize,
        ),
        client_max_size=MAX_FILE_BYTES,
    )
    app[appkeys.CONFIG] = config
    app[appkeys.MANAGER] = manager
    app[appkeys.LIVE_SETTINGS] = live
    app[appkeys.LATEST_STATE] = latest_state
    app[appkeys.ORIGINS] = origins.policy(
        cors_origins=settings.cors_origins,
        allowed_hosts=settings.allowed_hosts,
        machine=socket.gethostname(),
        has_tokens=settings.has_tokens,
    )
    app[appkeys.METRICS] = metrics
    app[appkeys.STARTED] = int(time.time())
    app[appkeys.ACCESS] = appkeys.Access(
        calls=_tokens(settings.api_keys_file, names.ENV_API_KEYS_FILE),
        controls=_tokens(settings.admin_token_file, names.ENV_ADMIN_TOKEN_FILE),
        call_routes=frozenset((method, path) for method, path, _ in CALLS),
        control_routes=frozenset((method, path) for method, path, _ in CONTROLS),
    )
    for method, path, handler in (*OPEN, *CALLS, *CONTROLS):
        resource = app.router.add_resource(path)
        resource.add_route(method, handler)
        if method == "GET":
            resource.add_route("HEAD", handler)  # aiohttp leaves the body out
    app.on_response_prepare.append(middleware.add_headers)
    return app


def _tokens(path: Path | None, variable: str) -> TokenFile | None:
    return None if path is None else TokenFile(path, variable)


def set_log_level(effective: Effective) -> None:
    logging.getLogger("ocr_inference").setLevel(effective.log_level.upper())


def _log_access(settings: Settings) -> None:
    """Log what isn't expected of settings of which only some are set."""
    if settings.api_keys_file and not settings.admin_token_file:
        log.warning("controls are closed: OCR_API_KEYS_FILE is set, OCR_ADMIN_TOKEN_FILE isn't")
    if origins.ANY in settings.cors_origins and not settings.has_tokens:
        log.warning("every web page may use and control this server: OCR_CORS_ORIGINS is *, no token is set")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
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
