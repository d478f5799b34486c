"""The process of a forkserver: it has an engine's libraries imported, and forks workers.

Importing takes seconds, forking milliseconds. What a fork must not find is kept out: threads, which it would lose
with their locks held, and CUDA, which refuses to work in a forked process. So this process loads no model, computes
nothing, and checks itself after the imports: where a library left a thread or an open device, it reports that and ends,
and the server starts its workers from nothing instead.

While nothing is asked of it, a file on the disk has its memory (`swap_file`).
"""

import contextlib
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from ocr_inference.protocol import packets
from ocr_inference.workers import fork_messages, own_memory, swap_file, worker_process
from ocr_wire import engines, garbage

_PR_SET_NAME = 15
REST_SECONDS = 2.0
"""Time without an order after which memory is given back: a load that follows the start at once doesn't wait for it."""
SWAP_SECONDS = 20.0
"""The same, where memory is still to be swapped out beside processes that were forked: it takes a second of a core,
which the first pages after a load would wait for."""


class Rest:
    """Gives memory back when nothing has come for a while: it is hardly used until the next fork."""

    def __init__(self, *, swaps: bool) -> None:
        """Prepare; with `swaps` a file takes over the memory, where that can be."""
        self._swaps = swaps

    def after(self, *, forks: bool) -> float:
        """Return the seconds without an order after which it is due, where processes were forked that live, or none."""
        return SWAP_SECONDS if self._swaps and forks else REST_SECONDS

    def begin(self, wanted: Callable[[], bool]) -> None:
        """Swap out until all is, and each time give back what was used since; end soon when `wanted`."""
        if self._swaps:
            began = time.monotonic()
            try:
                size = swap_file.swap_out(wanted=wanted)
            except swap_file.CantSwap as error:
                self._swaps = False
                _log(f"its memory isn't swapped out: {error}")
            else:
                self._swaps = wanted()  # the next rest does the rest
                _log(f"swapped {size >> 20} MiB out in {time.monotonic() - began:.1f} s")
        if not wanted():
            swap_file.give_back()


class ForkLoop:
    """Waits for orders to fork and for the ends of its children, in one thread."""

    def __init__(self, control: socket.socket, rest: Rest) -> None:
        """Prepare; it rests when nothing has come for a while, once until something comes."""
        self._control = control
        self._rest = rest
        self._orders = msgspec.msgpack.Decoder(fork_messages.Fork)
        self._children: dict[int, tuple[int, int]] = {}
        """By pidfd: the order's number and the process id."""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> None:
        """Run until the server closes the connection, or ends."""
        rests = False
        while True:
            seconds = self._rest.after(forks=bool(self._children))
            events = self._poll.poll(None if rests else seconds * 1000)
            rests = not events
            if rests:
                self._rest.begin(lambda: bool(self._poll.poll(0)))
            for descriptor, _ in events:
                if descriptor in self._children:
                    self._bury(descriptor)
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        try:
            received = packets.receive(self._control, self._orders)
        except ConnectionError:
            return False
        if received is None:
            return False
        order, descriptors = received
        try:
            self._fork(order, descriptors)
        finally:
            packets.close(descriptors)
        return True

    def _fork(self, order: fork_messages.Fork, descriptors: tuple[int, ...]) -> None:
        if len(descriptors) != fork_messages.DESCRIPTORS:
            self._report(fork_messages.NotForked(order.id, "the forkserver has too many files open"))
            return
        *inherited, log = descriptors
        forkserver = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._report(fork_messages.NotForked(order.id, str(error)))
            return
        if pid == 0:
            self._forget()
            become_worker(order.name, inherited, log, forkserver)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:  # too many files are open
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._report(fork_messages.NotForked(order.id, str(error)))
            return
        self._children[pidfd] = (order.id, pid)
        self._poll.register(pidfd, select.POLLIN)
        self._report(fork_messages.Forked(order.id, pid), [pidfd])

    def _bury(self, pidfd: int) -> None:
        number, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._report(fork_messages.Ended(number, os.waitstatus_to_exitcode(status)))

    def _report(self, report: fork_messages.Report, descriptors: Sequence[int] = ()) -> None:
        packets.send(self._control, packets.pack(report), descriptors)

    def _forget(self) -> None:
        """Close, in a child, what belongs to the forkserver alone."""
        self._control.close()
        for pidfd in self._children:
            os.close(pidfd)


def become_worker(name: str, inherited: Sequence[int], log: int, forkserver: int) -> NoReturn:
    """Run a worker in a forked process; never returns into the forkserver's code."""
    code = 1
    try:
        worker_process.die_with(forkserver)
        os.dup2(log, sys.stderr.fileno())
        os.close(log)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
        code = worker_process.serve(*inherited)
    except BaseException:  # noqa: BLE001 nothing may leave: above is the forkserver
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def prepare(engine: str) -> str | None:
    """Import what the engine's workers need; returns why this process can't be forked from, None where it can."""
    module = importlib.import_module(engines.BY_NAME[engine].module)
    for name in getattr(module, "PRELOAD", ()):
        importlib.import_module(name)
    return unfit()


def unfit() -> str | None:
    """Return what in this process wouldn't survive a fork; None where all would."""
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        return f"its imports left {threads - 1} threads running, which a fork would lose"
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target.startswith("/dev/nvidia"):
                return f"its imports opened {target}, and CUDA doesn't work after a fork"
    return None


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    engine, descriptor, server = arguments[0], int(arguments[1]), int(arguments[2])
    swaps = fork_messages.SWAPS in arguments[3:]
    worker_process.die_with(server)
    # A terminal's Ctrl-C and a signal to the group come here, too; only the server ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=descriptor)
    began = time.monotonic()
    try:
        reason = prepare(engine)
    except Exception as error:  # noqa: BLE001 libraries raise what they like; a worker reports it again, in full
        reason = f"{type(error).__name__}: {error}"[:1000]
    if reason is not None:
        packets.send(control, packets.pack(fork_messages.Unfit(reason)))
        return
    # Existing objects are never collected, so that a child's garbage collection doesn't copy their pages.
    garbage.exempt()
    own_memory.trim()
    packets.send(control, packets.pack(fork_messages.Ready(time.monotonic() - began)))
    ForkLoop(control, Rest(swaps=swaps)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
