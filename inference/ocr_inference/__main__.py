"""`ocr-inference`: serve models over HTTP, read a document without a server, or export the load of GPUs."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ocr_inference import __version__, app, logs, reader
from ocr_inference.config import environment, parsing
from ocr_inference.config.settings import MAX_FILE_BYTES, Config, InvalidSettings, Settings
from ocr_inference.device import gpu, gpu_exporter
from ocr_wire.tasks import Task

log = logging.getLogger("ocr_inference")

OK, FAILED, USAGE = 0, 1, 2
"""Exit codes; argparse ends with 2, too."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    sys.exit(run(sys.argv[1:] if arguments is None else arguments, os.environ))


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    given = _parser().parse_args(arguments)
    logs.to_stderr(logging.ERROR if given.command == "read" else logging.INFO)
    try:
        settings = environment.read(
            environ,
            config_file=getattr(given, "config", None),
            host=getattr(given, "host", None),
            port=getattr(given, "port", None),
        )
        if given.command == "gpu-exporter":
            return asyncio.run(_export(settings, environ))
        config = load_config(settings.config_file)
        if given.command == "serve":
            return asyncio.run(_serve(settings, config, environ))
        asked = reader.Asked(Path(given.document), Task(given.task), given.find, given.format, given.model)
        return asyncio.run(
            reader.read(settings, config, asked, environ=environ, out=sys.stdout, progress=sys.stderr)
        )
    except (InvalidSettings, gpu.NoDevice, gpu_exporter.CannotExport) as error:
        print(f"ocr-inference: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def load_config(path: Path | None) -> Config:
    if path is None:
        return Config()
    try:
        with path.open("rb") as file:
            return parsing.parse_config(file.read(MAX_FILE_BYTES + 1).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"can't read it: {error}", str(path)) from error
    except InvalidSettings as error:
        raise InvalidSettings(f"{error.param}: {error.message}", str(path)) from error


async def _export(settings: Settings, environ: Mapping[str, str]) -> int:
    stop = _stopped_by_signal()
    async with gpu_exporter.serving(settings, environ):
        await stop.wait()
    return OK


def _stopped_by_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _serve(settings: Settings, config: Config, environ: Mapping[str, str]) -> int:
    stop = _stopped_by_signal()
    async with app.serving(settings, config, environ) as running:
        snapshot = running.manager.snapshot()
        log.info(
            "serving url=%s version=%s device=%s models=%s",
            *(running.url, __version__, snapshot.device.kind),
            ",".join(f"{model.name}({model.engine})" for model in config.models),
        )
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            # A second signal ends the process at once.
            asyncio.get_running_loop().remove_signal_handler(number)
        log.info("draining grace_seconds=%g", settings.drain_seconds)
    log.info("stopped")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ocr-inference", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ocr-inference {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="serve models over HTTP")
    serve.add_argument("--config", metavar="FILE", help="models, limits and defaults (YAML); without: PP-OCR")
    serve.add_argument("--host", help="address to listen at (OCR_HOST; all)")
    serve.add_argument("--port", type=_port, help="port to listen at (PORT; 8001)")

    read = commands.add_parser("read", help="read a picture or PDF without a server")
    read.add_argument("document", metavar="PAGE.png|DOC.pdf")
    read.add_argument("--config", metavar="FILE", help="as for serve")
    read.add_argument("--model", help="one of FILE's models; without: the first one")
    read.add_argument("--task", choices=[task.value for task in Task], default="document")
    read.add_argument("--find", metavar="TERM", help="what to look for with --task find")
    read.add_argument("--format", choices=["markdown", "json"], default="markdown")

    export = commands.add_parser(
        "gpu-exporter", help="export the load of all GPUs as NVIDIA's DCGM exporter does"
    )
    export.add_argument("--host", help="address to listen at (OCR_HOST; all)")
    export.add_argument(
        "--port", type=_port, default=gpu_exporter.PORT, help=f"port to listen at ({gpu_exporter.PORT})"
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    main()
