"""Puts the server together and runs it; the only module that knows every part."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from ocr_inference import __version__, errors, families
from ocr_inference.api import admission, appkeys, forms, middleware, origins, routes
from ocr_inference.api.bodies import Bodies
from ocr_inference.api.control.latest_state import LatestState
from ocr_inference.api.control.telemetry import Telemetry
from ocr_inference.api.jobs.view import Writer
from ocr_inference.api.mistral.file_store import FileStore
from ocr_inference.api.peers.client import Peers
from ocr_inference.api.tokens import TokenFile
from ocr_inference.api.ui import files as ui_files
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
from ocr_inference.connections import files, limits, listening
from ocr_inference.connections.owner import Connections
from ocr_inference.connections.phases import Ending, Phase
from ocr_inference.device import choosing, gpu, memory_accounting
from ocr_inference.documents.places import Places
from ocr_inference.engines import unusable
from ocr_inference.errors import ApiError
from ocr_inference.jobs import making
from ocr_inference.jobs.owner import Jobs
from ocr_inference.manager import counting
from ocr_inference.manager.manager import Elsewhere, Manager, nowhere
from ocr_inference.metrics import Metrics
from ocr_inference.scheduling import memory_ladder
from ocr_inference.workers.forkservers import Forkservers
from ocr_wire import engines, names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """Server that accepts requests."""

    url: str
    manager: Manager


@asynccontextmanager
async def serving(settings: Settings, config: Config, environ: Mapping[str, str]) -> AsyncIterator[Running]:
    """Serve while the block runs; leaving it drains: new work is refused, running work ends, workers close.

    Workers inherit from `environ`. Raises `InvalidSettings` and `gpu.NoDevice` before anything is started.
    """
    device = choosing.resolve(settings)
    open_files = files.open_files()
    bounds = _connection_limits(settings, config, open_files)
    listener = _listen(settings)
    log.info("connections limit=%d open_files=%d", bounds.ordinary, open_files)
    _log_access(settings)
    try:
        async with _managed(settings, config, device, environ) as app:
            app[appkeys.MOST_WATCHES] = bounds.watches
            runner = web.AppRunner(
                app,
                # A client that goes away ends its handler, so that it stops waiting for a model.
                handler_cancellation=True,
                shutdown_timeout=5.0,
            )
            await runner.setup()
            connections = _connections(runner, bounds, app[appkeys.METRICS])
            try:
                async with connections.accepting(listener):
                    yield Running(listening.url(listener), app[appkeys.MANAGER])
                    app[appkeys.JOBS].close(_draining())
                    # Still listening: probes, metrics and the state answer while work is refused.
                    await app[appkeys.MANAGER].close(settings.drain_seconds)
            finally:
                app[appkeys.LATEST_STATE].encoded.close()
                await runner.cleanup()
                app[appkeys.FILES].close()
    finally:
        listener.close()


def _connection_limits(settings: Settings, config: Config, open_files: int) -> limits.Limits:
    try:
        return limits.of(open_files, len(config.models), settings.max_connections, settings.connection_times)
    except limits.TooFewFiles as error:
        raise InvalidSettings(str(error), "OCR_MAX_CONNECTIONS") from error


def _connections(runner: web.AppRunner, bounds: limits.Limits, metrics: Metrics) -> Connections:
    assert runner.server is not None
    connections = Connections(
        runner.server,
        bounds,
        middleware.render_outside,
        ended=lambda ending: metrics.connections_ended.labels(ending).inc(),
    )
    metrics.connections_limit.set(bounds.ordinary)
    for ending in Ending:
        metrics.connections_ended.labels(ending)
    for phase in Phase:
        metrics.connections.labels(phase).set_function(partial(connections.count, phase))
    return connections


@asynccontextmanager
async def _managed(
    settings: Settings, config: Config, device: gpu.Device, environ: Mapping[str, str]
) -> AsyncIterator[web.Application]:
    """Run the owner tasks while the block runs; yields the application."""
    declared = live_settings.at_start(settings.live_settings_file, config)
    initial = effective(config, declared.values, settings.gpu_idle_timeout)
    peers = Peers()
    manager = create_manager(settings, config, initial, device, environ=environ, elsewhere=peers.reader)

    def apply(changed: Effective) -> None:
        set_log_level(changed)
        manager.apply(changed)

    set_log_level(initial)
    live = LiveSettingsOwner(config, declared, settings.gpu_idle_timeout, apply)
    telemetry = Telemetry(device, settings.simulated_gpu_dir, time.monotonic)
    latest_state = LatestState(settings, manager, live, telemetry)
    uploads = Bodies(
        # One page of any size can always be read.
        max(settings.upload_memory_bytes, forms.most_json_bytes(config.server.limits.max_upload_bytes))
    )
    metrics = Metrics(
        __version__,
        latest_state.document,
        lambda: latest_state.watchers,
        uploads.usage,
        lambda: {name: (each.oldest_lease, each.stuck) for name, each in manager.ages().items()},
        tasks={model.name: families.of(model.engine).tasks for model in config.models},
        steps=memory_ladder.Step,
    )
    jobs = making.create(settings, config, manager, metrics)
    async with peers.open(), asyncio.TaskGroup() as tasks:
        running = (
            tasks.create_task(telemetry.run(), name="telemetry"),
            tasks.create_task(latest_state.run(), name="state"),
            tasks.create_task(counting.count_changes(metrics, manager), name="counts"),
            tasks.create_task(manager.run(), name="manager"),
            tasks.create_task(jobs.run(manager.changes()), name="jobs"),
        )
        try:
            yield create_app(
                settings,
                config,
                manager=manager,
                live=live,
                latest_state=latest_state,
                uploads=uploads,
                metrics=metrics,
                jobs=jobs,
                peers=peers,
            )
        finally:
            for task in running:
                task.cancel()


def create_manager(
    settings: Settings,
    config: Config,
    effective: Effective,
    device: gpu.Device,
    *,
    environ: Mapping[str, str],
    elsewhere: Elsewhere = nowhere,
) -> Manager:
    """Make the manager of this process's models on `device`; its `run` isn't started here."""
    return Manager(
        config,
        effective,
        device,
        environ=environ,
        unusable=unusable({each.name: each.engine for each in config.models}, environ),
        cuda_engines=[info.name for info in engines.ENGINES if info.uses_cuda],
        standby_engines=[info.name for info in engines.ENGINES if info.stands_by],
        accounting=memory_accounting.of(settings, device, os.getpid()),
        cache_dir=str(settings.cache_dir),
        shared_weights=settings.shared_weights,
        forkserver=settings.forkserver != "off",
        forkservers=Forkservers(
            environ, enabled=settings.forkserver != "off", swaps=settings.forkserver == "on"
        ),
        elsewhere=elsewhere,
    )


def _draining() -> ApiError:
    return errors.of(
        errors.REFUSALS["draining"], "the server goes down and can't finish the job; send it again"
    )


def create_app(
    settings: Settings,
    config: Config,
    *,
    manager: Manager,
    live: LiveSettingsOwner,
    latest_state: LatestState,
    uploads: Bodies,
    metrics: Metrics,
    jobs: Jobs,
    peers: Peers,
) -> web.Application:
    """Make the application: routes, and what their handlers need. No task is started here."""
    app = web.Application(
        middlewares=(
            middleware.observe,
            middleware.render_errors,
            admission.admit,
            middleware.check_expectation,
            middleware.check_origin,
            middleware.authorize,
        ),
        client_max_size=MAX_FILE_BYTES,
    )
    app[appkeys.CONFIG] = config
    app[appkeys.MANAGER] = manager
    app[appkeys.BODIES] = uploads
    app[appkeys.PLACES] = Places()
    app[appkeys.JOBS] = jobs
    app[appkeys.PEERS] = peers
    app[appkeys.FILES] = FileStore(
        max(settings.file_memory_bytes, config.server.limits.max_upload_bytes),
        settings.keep_seconds,
        time.monotonic,
    )
    metrics.kept_bytes.labels("files").set_function(app[appkeys.FILES].used_bytes)
    app[appkeys.JOB_WRITER] = Writer(settings.pod_name, settings.keep_seconds, jobs.now, time.time)
    app[appkeys.LIVE_SETTINGS] = live
    app[appkeys.LATEST_STATE] = latest_state
    app[appkeys.ORIGINS] = origins.policy(
        cors_origins=settings.cors_origins,
        allowed_hosts=settings.allowed_hosts,
        machine=socket.gethostname(),
        has_tokens=settings.has_tokens,
    )
    app[appkeys.METRICS] = metrics
    app[appkeys.OPENAPI] = routes.describe()
    app[appkeys.UI_FILES] = ui_files.load()
    app[appkeys.STARTED] = int(time.time())
    app[appkeys.ACCESS] = routes.access(
        calls=_tokens(settings.api_keys_file, names.ENV_API_KEYS_FILE),
        controls=_tokens(settings.admin_token_file, names.ENV_ADMIN_TOKEN_FILE),
    )
    routes.add(app.router)
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
    try:
        return listening.listen(settings.host, settings.port, settings.connection_times.stalled)
    except listening.CannotListen as error:
        option, variable = ("--host", names.ENV_HOST) if error.is_of_host else ("--port", "PORT")
        raise InvalidSettings(f"{error}; choose another with {option} or {variable}", variable) from error
