"""A real HTTP server in this process."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

ACCEPTING = 3
"""Turns of the loop from a connection that asyncio accepts until aiohttp knows of it."""


@asynccontextmanager
async def serving(
    app: web.Application, ip: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve while the block runs; yields the URL.

    No connection outlives it. If the server is closed in the turn in which a connection is accepted, neither asyncio
    (gh-109564) nor aiohttp closes that one: the socket is found by garbage collection in whatever test runs then.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.05)
    await runner.setup()
    try:
        listener = socket.create_server((ip, port))
        await web.SockSite(runner, listener, ssl_context=tls).start()
        try:
            yield f"{'https' if tls else 'http'}://{ip}:{listener.getsockname()[1]}"
        finally:
            asyncio.get_running_loop().remove_reader(listener)
            for _ in range(ACCEPTING):
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()
