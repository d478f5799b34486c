"""A wait that a stop ends early."""

import asyncio


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for `seconds`, but not beyond `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
