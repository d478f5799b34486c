"""Lines of a worker's log, as many as are of use.

Libraries write what they like there: libtiff one line for each damaged line of a page, 65,535 of them for one page of a
few kilobytes. A client mustn't fill the disk with what the server logs.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LINE_BYTES: Final = 4096
"""Longest line; longer ones are cut into pieces."""
BURST: Final = 500
"""Lines that a process may write at once: several tracebacks."""
PER_SECOND: Final = 10.0
"""Lines a second that it earns, up to `BURST`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Lines that a process may still write."""

    at: float
    """Time of the last line."""
    lines: float = BURST
    left_out: int = 0
    """Lines since the last one that was passed on."""


def spend(budget: Budget, now: float) -> tuple[Budget, int | None]:
    """Return the budget after a line, and how many were left out before it; None: leave this one out, too."""
    lines = min(float(BURST), budget.lines + max(0.0, now - budget.at) * PER_SECOND)
    if lines < 1:
        return Budget(now, lines, budget.left_out + 1), None
    return Budget(now, lines - 1), budget.left_out


async def pass_on(
    stream: asyncio.StreamReader, take: Callable[[str], None], now: Callable[[], float] = time.monotonic
) -> None:
    """Call `take` with the lines of a process's log, until it ends; says how many were left out, and where."""
    rest = b""
    budget = Budget(now())

    def one(line: bytes) -> None:
        nonlocal budget
        if not (text := line.decode(errors="replace").rstrip()):
            return
        budget, left_out = spend(budget, now())
        if left_out is not None:
            if left_out:
                take(f"{left_out} lines left out")
            take(text)

    while chunk := await stream.read(LINE_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES:
            # At a blank where there is one: no part of a token has its shape, by which it is taken out of the log.
            piece, _, rest = rest.rpartition(b" ") if b" " in rest else (rest, b"", b"")
            whole.append(piece)
        for line in whole:
            one(line)
    one(rest)
    if budget.left_out:
        take(f"{budget.left_out} lines left out")
