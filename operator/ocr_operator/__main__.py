"""`ocr-operator run`: puts the parts together, runs them, and ends them within seconds of a SIGTERM."""

import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import kopf
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from ocr_operator import kube, logs, probes
from ocr_operator.controllers import handlers
from ocr_operator.controllers.controller import Controller
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.settings import FIELD_MANAGER, VERSION, InvalidSetting, Settings
from ocr_wire import garbage, names, redaction, tokens
from ocr_wire.arguments import parser_class
from ocr_wire.sparse import Sparse, loop_errors

YOUNG_OBJECTS: Final = 100_000
"""More than a policy for a thousand resources has in hand at once: at ten thousand, a collection in the midst of it
held the loop up for 0.1 to 0.2 s, several times, and found nothing.
"""

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    redactor = redaction.environment(os.environ)
    parser = parser_class(redactor)(
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
        sys.stderr.write(redactor(f"ocr-operator: {error}\n"))
        return 2
    logs.configure(
        options.log_level or settings.log_level,
        options.log_format or settings.log_format,
        redactor=redactor,
    )
    try:
        return asyncio.run(run(settings, os.environ))
    except (kube.ConfigError, OSError) as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 -- the message says it all
        return 1
    except Exception:
        # Python would print the traceback itself, with whatever secret a library put into it.
        log.critical("ended by a fault of this program", exc_info=True)
        return 1


async def run(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run until a signal, then return 0; until a part ends by itself: 1 (Kubernetes starts the operator afresh)."""
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    probes.raise_open_files()
    asyncio.get_running_loop().set_exception_handler(loop_errors(log, Sparse(time.monotonic)))
    metrics = Metrics(registry)
    async with kube.connect(environ) as client, wire.session() as session:
        controller = Controller(
            client,
            session,
            settings,
            metrics=metrics,
            now=partial(datetime.now, UTC),
            time=time.monotonic,
            rng=random.Random(),  # noqa: S311 -- jitter, not a secret
            instance=environ.get("POD_NAME", ""),
            replica=environ.get("POD_NAME") or f"{socket.gethostname()}_{secrets.token_hex(4)}",
            on_listed=garbage.exempt,
        )
        stopping = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):  # until kopf sets its own
            asyncio.get_running_loop().add_signal_handler(each, stopping.set)
        async with probes.serve(
            settings.host,
            settings.port,
            unhealthy_reason=controller.unhealthy_reason,
            ready=controller.ready,
            registry=registry,
            note=controller.note,
            metrics_token=_token(settings.metrics_token_file),
        ) as port:
            log.info("started version=%s port=%d", VERSION, port)
            with logs.counted(metrics.faults):
                if not await _served(client, settings, stopping):
                    return 0
                with garbage.seldom(YOUNG_OBJECTS):
                    return await _work(handlers.Work(controller.run, stopping), client, settings, stopping)


def _token(file: str) -> Callable[[], str] | None:
    return (lambda: tokens.parse(Path(file).read_bytes())) if file else None


async def _work(work: handlers.Work, client: kube.Client, settings: Settings, stopping: asyncio.Event) -> int:
    """Let kopf run the work until a signal; return the exit status."""
    framework = asyncio.create_task(
        kopf.operator(
            registry=handlers.registry(work, client.credentials),
            settings=handlers.settings(),
            standalone=True,
            # Unused, as there are no peers. kopf would ask for the user's name, and a container's user has none.
            identity=FIELD_MANAGER,  # type: ignore[arg-type]
            clusterwide=not settings.watch_namespaces,
            namespaces=settings.watch_namespaces,
            stop_flag=stopping,
        ),
        name="kopf",
    )
    over = asyncio.create_task(work.over.wait())
    try:
        await asyncio.wait([framework, over], return_when=asyncio.FIRST_COMPLETED)
        # kopf waits for every task that began after it, such as a connection of a probe: not for longer than that.
        await asyncio.wait([framework], timeout=1)
    finally:
        over.cancel()
        framework.cancel()
        await asyncio.wait([framework])
        await work.stop()
        log.info("stopped")
    if not framework.cancelled():
        framework.result()
    if work.ended_by_itself():
        log.error("the controller ended by itself")
        return 1
    return 0


async def _served(client: api.Kube, settings: Settings, stopping: asyncio.Event) -> bool:
    """Return once the API server knows the resource; False when a signal ends the wait.

    A chart creates the definition and the operator within the same second, and a watch that is refused is tried again
    only after growing delays.
    """
    namespace = settings.watch_namespaces[0] if settings.watch_namespaces else ""
    said = ""
    while not stopping.is_set():
        try:
            await client.find(api.OCR_DEPLOYMENT, namespace=namespace)
        except api.KubeError as error:
            if str(error) != said:
                said = str(error)
                log.warning(
                    "waiting for the definition of %s, see crds.enabled of the chart: %s", names.PLURAL, said
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 1)
        else:
            return True
    return False


if __name__ == "__main__":
    raise SystemExit(main())
