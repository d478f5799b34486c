"""Runs a server until a signal, and says where it serves."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Mapping

from ocr_inference import __version__, app, greeting
from ocr_inference.check import at_start
from ocr_inference.checkpoints.sources import cache
from ocr_inference.cli import exits
from ocr_inference.config.settings import Config, Settings
from ocr_inference.device import gpu_exporter
from ocr_wire import garbage
from ocr_wire.sparse import Sparse, loop_errors

log = logging.getLogger("ocr_inference")

SWITCH_SECONDS = 0.0005
"""Time that a thread, such as one that checks a picture, may go on while the server's loop waits for the interpreter.
The loop waits for it once for each thing it sends or receives: Python's own 5 ms add up."""


async def serve(settings: Settings, config: Config, environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once."""
    sys.setswitchinterval(SWITCH_SECONDS)
    stop = _stopped_by_signal()
    at_start.look(settings, config, environ)
    async with app.serving(settings, config, environ) as running:
        device = running.manager.snapshot().device
        log.info(
            "serving url=%s version=%s device=%s models=%s",
            *(running.url, __version__, device.kind),
            ",".join(f"{model.name}({model.engine})" for model in config.models),
        )
        for line in greeting.lines(running.url, device, settings, greeting.place(environ)):
            log.info("%s", line)
        if any(model.source is not None for model in config.models):
            hub = cache.location(environ, settings.cache_dir)
            log.info("weights are kept in %s, downloads in %s", settings.cache_dir, hub)
        with garbage.seldom():  # a collection holds up every request
            await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
        log.info("draining grace_seconds=%g", settings.drain_seconds)
    log.info("stopped")
    return exits.OK


async def export(settings: Settings, environ: Mapping[str, str]) -> int:
    """Export the load of GPUs until SIGTERM or SIGINT."""
    stop = _stopped_by_signal()
    async with gpu_exporter.serving(settings, environ):
        await stop.wait()
    return exits.OK


def _stopped_by_signal() -> asyncio.Event:
    """Prepare a server's loop: signals set the event, and errors that no task awaits are a line in some seconds."""
    asyncio.get_running_loop().set_exception_handler(loop_errors(log, Sparse(time.monotonic)))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
