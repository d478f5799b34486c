"""Entry point of `kubectl-ocr`, which kubectl runs as `kubectl ocr` where it is on PATH."""

import asyncio
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from kubectl_ocr import cli
from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, connect, warn
from kubectl_ocr.errors import Exit, Failure
from ocr_wire.redaction import redact

Command = Callable[[Options, Cluster], Coroutine[Any, Any, None]]

_MODULES: Final = {
    **dict.fromkeys(("status", "top", "why"), "look"),
    **dict.fromkeys(("wake", "offload", "release"), "control"),
    "doctor": "doctor",
    "timeout": "timeout",
    "read": "read",
    "watch": "watch",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status; what went wrong is printed on standard error."""
    # asyncio of Python 3.11 warns when a call that isn't needed any more ended in the moment it was killed.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    options = cli.parse(sys.argv[1:] if arguments is None else arguments)
    try:
        cluster = connect(options)
        name = "watch" if options.watch else options.command
        asyncio.run(_command(name)(options, cluster))
    except Failure as failure:
        warn(str(failure))
        return failure.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 Python would print it itself, with whatever secret a library put into it
        sys.stderr.write(redact(traceback.format_exc()))
        return Exit.FAILED
    return 0


def _command(name: str) -> Command:
    """Load a command when it is used: an HTTP client takes longer to import than `status` takes."""
    module = importlib.import_module(f"kubectl_ocr.commands.{_MODULES[name]}")
    found: Command = getattr(module, "control" if _MODULES[name] == "control" else name)
    return found


if __name__ == "__main__":
    sys.exit(main())
