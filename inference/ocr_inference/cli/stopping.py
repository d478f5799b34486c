"""Ends a command at Ctrl-C or SIGTERM so that it can clean up."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from ocr_inference.cli import exits

WORDS: Final[Mapping[signal.Signals, str]] = {
    signal.SIGINT: "stopped by Ctrl-C",
    signal.SIGTERM: "stopped by a signal",
}
CODES: Final[Mapping[signal.Signals, int]] = {
    signal.SIGINT: exits.INTERRUPTED,
    signal.SIGTERM: exits.TERMINATED,
}


@asynccontextmanager
async def by_signals() -> AsyncIterator[list[signal.Signals]]:
    """Cancel this task at the first signal, which is noted; a second one ends the process at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    noted: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        noted.append(number)
        for each in WORDS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        task.cancel()

    for number in WORDS:
        loop.add_signal_handler(number, stop, number)
    try:
        yield noted
    finally:
        for number in WORDS:
            loop.remove_signal_handler(number)
