"""`ocr-inference`: read documents, serve models over HTTP, control a server, be the tools of an assistant, check a
machine, or export the load of GPUs."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from ocr_inference import logs
from ocr_inference.api.mcp import endpoint
from ocr_inference.check import command as check
from ocr_inference.check.server import command as check_server
from ocr_inference.cli import arguments, commands, configuration, exits, named, serving, streams
from ocr_inference.cli.commands import Given
from ocr_inference.cli.gpu import command as gpu_command
from ocr_inference.cli.read import asked as reading
from ocr_inference.cli.read import command as read
from ocr_inference.cli.server import secret
from ocr_inference.config import environment
from ocr_inference.config.settings import Config, InvalidSettings, Settings
from ocr_inference.device import gpu, gpu_exporter
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.errors import ApiError
from ocr_wire import redaction

log = logging.getLogger("ocr_inference")

OK, FAILED, USAGE = exits.OK, exits.FAILED, exits.USAGE
API_KEY, ADMIN_TOKEN, SERVER = "OCR_API_KEY", "OCR_ADMIN_TOKEN", "OCR_SERVER"
"""Variables of commands that use a server."""
_QUIET = frozenset({"read", "check", "mcp", "gpu"})
"""Commands whose output is for people: of the log only errors are shown."""


def main(words: Sequence[str] | None = None) -> NoReturn:
    sys.exit(run(sys.argv[1:] if words is None else words, os.environ))


def run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Carry out a command line; returns the exit code."""
    redactor = redaction.environment(environ)
    streams.open_closed()
    given = commands.parser(redactor).parse_args(words)
    logs.to_stderr(logging.ERROR if given.command in _QUIET else logging.INFO, redactor)
    try:
        return _carry_out(given, environ, redactor)
    except (InvalidSettings, gpu.NoDevice, gpu_exporter.CannotExport, ApiError) as error:
        print(redactor(f"ocr-inference: {error}"), file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The interpreter must not try to print the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.PIPE_CLOSED
    except OSError as error:
        print(redactor(f"ocr-inference: {error}"), file=sys.stderr)
        return FAILED
    except Exception:
        # Python would print the traceback itself, with whatever secret a library put into it.
        log.critical("ended by a fault of this program", exc_info=True)
        return FAILED


def _carry_out(given: Given, environ: Mapping[str, str], redactor: Callable[[str], str]) -> int:
    settings = environment.read(
        environ,
        config_file=getattr(given, "config", None),
        host=getattr(given, "host", None),
        port=getattr(given, "port", None),
    )
    if device := getattr(given, "device", None):
        settings = replace(settings, device=device)
    match given.command:
        case "gpu-exporter":
            return asyncio.run(serving.export(settings, environ))
        case "read":
            return asyncio.run(_read(given, settings, environ, redactor))
        case "gpu":
            server = arguments.server(environ.get(SERVER) or f"http://localhost:{settings.port}")
            token = secret.read(environ, ADMIN_TOKEN, given.token_file, "--token-file")
            return asyncio.run(gpu_command.run(given, given.server or server, token, environ, sys.stdout))
        case "serve":
            config = named.with_idle_time(_config(given, settings), given.idle_timeout)
            return asyncio.run(serving.serve(settings, config, environ))
        case "mcp":
            return _offer_tools(settings, _config(given, settings), environ, given.url, given.token_file)
        case _:
            return _check(given, settings, environ, redactor)


def _check(
    given: Given, settings: Settings, environ: Mapping[str, str], redactor: Callable[[str], str]
) -> int:
    if given.server is None:
        if given.read or given.api_key_file is not None:
            raise InvalidSettings("they are of a server: say which with --server", "--read, --api-key-file")
        config = _config(given, settings)
        return check.run(settings, config, environ, as_json=given.json, out=sys.stdout, redact=redactor)
    key = secret.read(environ, API_KEY, given.api_key_file, "--api-key-file")
    return check_server.run(
        given.server,
        key,
        reads_page=given.read,
        as_json=given.json,
        out=sys.stdout,
        redact=_also(key, redactor),
    )


def _config(given: Given, settings: Settings) -> Config:
    """Return what a server with these options works by."""
    engine = getattr(given, "engine", None)
    if (word := getattr(given, "model", None)) is not None and settings.config_file is None:
        return configuration.of_model(word, engine)
    if engine is not None:
        raise InvalidSettings("it is of --model: FILE says which engines its models have", "--engine")
    return configuration.load(settings.config_file, settings.named_model)


async def _read(
    given: Given, settings: Settings, environ: Mapping[str, str], redactor: Callable[[str], str]
) -> int:
    asked = reading.Asked(
        task=reading.chosen(given.task, given.find),
        find_term=given.find,
        format=Format(given.format),
        model=given.model,
        pages=given.pages,
        dpi=given.dpi,
    )
    _ = asked.selection  # refused before anything is read
    options = read.Options(
        words=given.documents,
        asked=asked,
        output=None if given.output is None else Path(given.output),
        force=given.force,
        at_a_time=given.jobs,
        quiet=given.quiet,
        verbose=given.verbose,
    )
    if given.server is not None:
        if given.config is not None:
            raise InvalidSettings("it is the server's own: leave it out with --server", "--config")
        key = secret.read(environ, API_KEY, given.api_key_file, "--api-key-file")
        source, redact = read.remote_source(given.server, key, asked, environ), _also(key, redactor)
    else:
        if given.api_key_file is not None:
            raise InvalidSettings("it is of a server: say which with --server", "--api-key-file")
        config = configuration.load(settings.config_file, settings.named_model)
        options = replace(options, max_pixels=config.server.limits.max_image_pixels)
        if given.model is not None and settings.config_file is None and config.model(given.model) is None:
            config = configuration.of_model(given.model, None)
            asked = replace(asked, model=config.models[0].name)
        source, redact = read.local_source(settings, config, asked, environ), redactor
    return await read.run(options, source, environ=environ, out=sys.stdout.buffer, redactor=redact)


def _also(secret: str, redactor: Callable[[str], str]) -> Callable[[str], str]:
    """Return what takes this secret out of texts, too."""
    known = redaction.Redactor((secret,) if secret else ())
    return lambda text: redactor(known(text))


def _offer_tools(
    settings: Settings, config: Config, environ: Mapping[str, str], url: str | None, token_file: str | None
) -> int:
    if not endpoint.INSTALLED:
        raise InvalidSettings("MCP isn't installed: install ocr-operator with extra 'mcp'", "mcp")
    from ocr_inference import mcp_stdio  # noqa: PLC0415 - takes a second to import, and may be absent

    server = None if url is None else mcp_stdio.remote(url, token_file)
    asyncio.run(mcp_stdio.serve(settings, config, environ, server))
    return OK


if __name__ == "__main__":
    main()
