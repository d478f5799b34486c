"""`/livez`, `/readyz` and `/metrics` of the operator's own process.

All three answer within milliseconds, so a connection that is older than many others is one that its client holds open
for nothing: the oldest one makes way for the newest, and no client can keep the kubelet out.
"""

import asyncio
import hmac
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

from ocr_wire import accept

MOST_CONNECTIONS: Final = 64
SILENT_SECONDS: Final = 75.0
"""Time after which a connection without a complete request is closed; longer than the keep-alive of scrapers."""
_BACKLOG: Final = 64
_FILES: Final = 1 << 16

log = logging.getLogger(__name__)


def raise_open_files() -> None:
    """Raise the soft limit of open files: the operator holds a connection to each pod, and containerd leaves 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    *,
    unhealthy_reason: Callable[[], str],
    ready: Callable[[], bool],
    registry: CollectorRegistry,
    note: Callable[[], str] = lambda: "",
    metrics_token: Callable[[], str] | None = None,
    silent_seconds: float = SILENT_SECONDS,
) -> AsyncIterator[int]:
    """Serve until left; yields the port, which is a free one for 0. An empty host is all addresses, of IPv6 and IPv4.
    `unhealthy_reason` is empty while all is well; `note` is what `/readyz` says besides. `metrics_token` reads the
    bearer token that `/metrics` asks for; None asks for none, and an empty or unreadable one refuses every request."""

    async def livez(_: web.Request) -> web.Response:
        wrong = unhealthy_reason()
        return web.Response(status=503 if wrong else 200, text=wrong or "ok")

    async def readyz(_: web.Request) -> web.Response:
        said = "\n".join(filter(None, ("ok", note())))
        return web.Response(text=said) if ready() else web.Response(status=503, text="not every watch is up")

    async def metrics(request: web.Request) -> web.Response:
        if metrics_token is not None and not await _knows(request, metrics_token):
            return web.Response(
                status=401, text="the bearer token is another one", headers={"WWW-Authenticate": "Bearer"}
            )
        encode, media_type = choose_encoder(accept.metrics(",".join(request.headers.getall("Accept", ()))))
        # What is known is read here, where nothing changes it meanwhile; to write 500 resources as text takes 50 ms.
        body = await asyncio.to_thread(encode, _Collected(tuple(registry.collect())))
        return web.Response(body=body, headers={"Content-Type": media_type, "Vary": "Accept"})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    server = runner.server
    assert server is not None
    held: dict[_Connection, None] = {}
    listener = _listen(host, port)
    # Inherited by what is accepted: a client that doesn't take its answer, or isn't there any more, is given up.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silent_seconds * 1000))
    try:
        acceptor = await asyncio.get_running_loop().create_server(
            lambda: _Connection(server, held, silent_seconds), sock=listener, backlog=_BACKLOG
        )
        try:
            yield listener.getsockname()[1]
        finally:
            acceptor.close()
    finally:
        await runner.cleanup()
        listener.close()


class _Collected(CollectorRegistry):
    """Registry of what another one had at one moment, without the series that say when a counter began: Prometheus
    keeps as many of them as of the counters, and no alert or panel has one."""

    def __init__(self, families: Sequence[Metric]) -> None:
        super().__init__()
        self._families = families
        for family in families:
            if family.type in ("counter", "histogram"):
                family.samples = [each for each in family.samples if not each.name.endswith("_created")]

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


async def _knows(request: web.Request, token: Callable[[], str]) -> bool:
    """Whether a request has the token; compared in a time that tells nothing of it."""
    try:
        wanted = await asyncio.to_thread(token)
    except (OSError, ValueError) as error:
        log.warning("nobody may read /metrics, for its token can't be read: %s", error)
        return False
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return (
        bool(wanted)
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.strip().encode(errors="surrogateescape"), wanted.encode())
    )


class _Connection(web.RequestHandler):
    """Connection that ends the oldest one where there are too many."""

    __slots__ = ("_held",)

    def __init__(self, server: web.Server, held: dict["_Connection", None], silent_seconds: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=silent_seconds,
            access_log=None,  # type: ignore[arg-type]  # None is documented for the runner, which passes it on
        )
        self._held = held

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._held[self] = None
        if len(self._held) > MOST_CONNECTIONS:
            oldest = next(iter(self._held))
            del self._held[oldest]
            if oldest.transport is not None:
                oldest.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._held.pop(self, None)
        super().connection_lost(exc)


def _listen(host: str, port: int) -> socket.socket:
    """Listen at `host`; where that is empty, and at `::`, at both IPv6 and IPv4, as far as the machine has them."""
    both = socket.has_dualstack_ipv6()
    if host == "" and both:
        host = "::"
    if ":" not in host:
        return socket.create_server((host, port), backlog=_BACKLOG)
    return socket.create_server(
        (host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=both and host == "::"
    )
