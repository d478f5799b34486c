"""`ocr-operator run`: puts the parts together, runs them, and ends them within seconds of a SIGTERM."""

import argparse
import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import kopf
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from ocr_operator import kube, logs, probes
from ocr_operator.controllers import handlers
from ocr_operator.controllers.controller import Controller
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.settings import VERSION, InvalidSetting, Settings
from ocr_wire import names

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="ocr-operator",
        description="Runs OcrDeployments: pods on the least loaded GPU, timeouts that change live.",
        epilog="Settings come from the environment (OCR_OPERATOR_*): see docs/operator-settings.md.",
    )
    parser.add_argument("--version", action="version", version=f"ocr-operator {VERSION}")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-format", choices=("text", "json"))
    parser.add_argument("command", nargs="?", choices=("run",), default="run")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
    except InvalidSetting as error:
        sys.stderr.write(f"ocr-operator: {error}\n")
        return 2
    logs.configure(options.log_level or settings.log_level, options.log_format or settings.log_format)
    try:
        return asyncio.run(run(settings, os.environ))
    except (kube.ConfigError, OSError) as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 -- the message says it all
        return 1


async def run(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run until a signal, then return 0; until a part ends by itself: 1 (Kubernetes starts the operator afresh)."""
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    async with kube.connect(environ) as client, wire.session() as session:
        controller = Controller(
            client,
            session,
            settings,
            metrics=Metrics(registry),
            now=partial(datetime.now, UTC),
            time=time.monotonic,
            rng=random.Random(),  # noqa: S311 -- jitter, not a secret
            instance=environ.get("POD_NAME", ""),
        )
        watching, stopping = asyncio.Event(), asyncio.Event()
        async with probes.serve(
            settings.host,
            settings.port,
            unhealthy_reason=controller.unhealthy_reason,
            ready=lambda: watching.is_set() and controller.ready(),
            registry=registry,
        ) as port:
            log.info("started version=%s port=%d", VERSION, port)
            if not await _served(client, settings):
                return 0
            watch = asyncio.create_task(
                kopf.operator(
                    registry=handlers.registry(controller.cluster, client.credentials),
                    settings=handlers.settings(),
                    standalone=True,
                    clusterwide=not settings.watch_namespaces,
                    namespaces=settings.watch_namespaces,
                    ready_flag=watching,
                    stop_flag=stopping,
                ),
                name="kopf",
            )
            try:
                return await _run_until_signal(controller, watch, watching)
            finally:
                stopping.set()
                await asyncio.wait([watch], timeout=3)
                watch.cancel()
                log.info("stopped")


async def _served(client: api.Kube, settings: Settings) -> bool:
    """Return once the API server knows the resource; False when a signal ends the wait.

    kopf is set not to scan, so it asks once which kinds there are: started before the definition is there, it
    would never watch it. A chart creates both within the same second.
    """
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    namespace = settings.watch_namespaces[0] if settings.watch_namespaces else ""
    said = ""
    while not stop.is_set():
        try:
            await client.find(api.OCR_DEPLOYMENT, namespace=namespace)
        except api.KubeError as error:
            if str(error) != said:
                said = str(error)
                log.warning(
                    "waiting for the definition of %s, see crds.enabled of the chart: %s", names.PLURAL, said
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
        else:
            return True
    return False


async def _run_until_signal(
    controller: Controller, watch: asyncio.Task[None], watching: asyncio.Event
) -> int:
    """kopf cancels, as "hung", every task that began after it and still runs when it ends: it is stopped last."""
    up = asyncio.create_task(watching.wait())
    await asyncio.wait([watch, up], return_when=asyncio.FIRST_COMPLETED)
    up.cancel()
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):  # kopf set its own handlers while it started
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    work = asyncio.create_task(controller.run(), name="controller")
    signalled = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([watch, work, signalled], return_when=asyncio.FIRST_COMPLETED)
    finally:
        signalled.cancel()
        work.cancel()
        await asyncio.wait([work])
    for task in done - {signalled}:
        task.result()
        log.error("%s ended by itself", task.get_name())
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
