"""The owner of a cluster's processes, itself a process in its own session: `python -m devcluster.supervisor`.

It reads an Order from standard input, starts everything, and reports on standard output, one JSON object a line. While
the cluster starts, and for one that isn't detached as long as it lives, the end of standard input means that the
process that ordered it is gone: then it stops. It has one thread (see `processes.Child`).
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import traceback
from pathlib import Path

import msgspec

from devcluster.container import host
from devcluster.errors import DevclusterError, StartFailed
from devcluster.machine import processes
from devcluster.machine.layout import Layout, State
from devcluster.supervisor.assembly import Assembly
from devcluster.supervisor.order import Order, Report


def _read_order() -> Order:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 65536)
        if not piece:
            raise SystemExit("the supervisor is started by devcluster.cluster, which sends it an order")
        line += piece
    return msgspec.json.decode(line, type=Order)


def _send(report: Report) -> None:
    with contextlib.suppress(BrokenPipeError):  # its reader is gone, which standard input shows as well
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


def _take(layout: Layout) -> int:
    """Lock the folder for as long as this process lives, and clear away what another left in it."""
    layout.create()
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartFailed(
            f"another cluster runs in {layout.directory}: end it with `down`, or pass another --dir"
        ) from None
    state = State.load(layout)
    if state is not None:
        processes.sweep(state.marks(layout), grace_seconds=1.0)
        if state.node_network is not None:
            host.clear(state.node_network)
    layout.clear()
    return descriptor


async def _supervise(order: Order) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    assembly = Assembly(order, lambda text: _send(Report("step", text)))
    starting = asyncio.ensure_future(assembly.start())

    def orderer_left() -> None:
        if os.read(sys.stdin.fileno(), 4096) == b"":
            loop.remove_reader(sys.stdin.fileno())
            if not (order.detached and starting.done()):
                stop.set()

    loop.add_reader(sys.stdin.fileno(), orderer_left)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return 1
        if (error := starting.exception()) is not None:
            traceback.print_exception(error)
            known = isinstance(error, DevclusterError)
            _send(Report("failed", str(error) if known else f"{type(error).__name__}: {error}"))
            return 1
        _send(Report("ready", ""))
        await stopping
        return 0
    finally:
        await assembly.stop()


def main() -> int:
    """Run one cluster."""
    order = _read_order()
    layout = Layout(Path(order.directory))
    try:
        lock = _take(layout)
    except (DevclusterError, OSError) as error:
        _send(Report("failed", str(error)))
        return 1
    log = layout.log("supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        os.dup2(output.fileno(), sys.stderr.fileno())
    processes.adopt_orphans()
    try:
        return asyncio.run(_supervise(order))
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
