"""Command line of a process node.

`python -m devcluster.node --kubeconfig FILE --name gpu-a --ip-prefix 127.1.3 --gpus 2 --root DIR`

SIGTERM and SIGINT stop the node's pods gracefully, mark the Node not ready and end the process with 0. When it
is killed in any other way, its keeper process kills what it ran.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from devcluster.node.agent import Agent
from devcluster.node.settings import Settings
from ocr_wire import numbers


def _prefix(text: str) -> str:
    try:
        ipaddress.IPv4Address(f"{text}.1")
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the first three numbers of an IPv4 address"
        ) from error
    return text


def arguments(argv: Sequence[str] | None = None) -> Settings:
    """Parse the command line; a bad one ends the process with 2 and a message."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.node", description=__doc__)
    parser.add_argument(
        "--kubeconfig", type=Path, required=True, help="how to reach the API server, and as whom"
    )
    parser.add_argument("--name", required=True, help="the Node's name")
    parser.add_argument(
        "--ip-prefix",
        type=_prefix,
        required=True,
        help="pods get PREFIX.1 to PREFIX.253, the node itself PREFIX.254",
    )
    parser.add_argument(
        "--pod-ip",
        default="",
        help="address that all pods have together, such as ::1; the node has a taint then",
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of pods, logs and simulated GPUs")
    parser.add_argument("--gpus", type=numbers.argument(0, 64), default=0, help="simulated GPUs")
    parser.add_argument("--gpu-product", default="NVIDIA-L40S")
    parser.add_argument("--gpu-memory-mib", type=numbers.argument(1, 1 << 30), default=46068)
    parser.add_argument("--cpus", type=numbers.argument(1, 9999), default=16, help="announced, not enforced")
    parser.add_argument("--memory", default="64Gi", help="announced capacity, not enforced")
    parser.add_argument(
        "--tls-cert", type=Path, help="certificate of the log endpoint (default: made with openssl)"
    )
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument(
        "--stop-seconds", type=float, default=5.0, help="grace of pods when the node itself stops"
    )
    options = parser.parse_args(argv)
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    options.root = options.root.absolute()
    return Settings(**vars(options))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Agent(settings).run(stop)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a node until a signal stops it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(arguments(argv)))


if __name__ == "__main__":
    main()
