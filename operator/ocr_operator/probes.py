"""`/livez`, `/readyz` and `/metrics` of the operator's own process."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    *,
    unhealthy_reason: Callable[[], str],
    ready: Callable[[], bool],
    registry: CollectorRegistry,
) -> AsyncIterator[int]:
    """Serve until left; yields the port, which is a free one for 0. `unhealthy_reason` is empty while all is well."""

    async def livez(_: web.Request) -> web.Response:
        wrong = unhealthy_reason()
        return web.Response(status=503 if wrong else 200, text=wrong or "ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if ready() else web.Response(status=503, text="not every watch is up")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        await web.SockSite(runner, listener).start()
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()
        listener.close()
