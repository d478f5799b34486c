"""Sends pages to pods that help.

    peers = Peers()
    async with peers.open():
        await peers.wake(url, "pp-ocr", token)  # returns when its model is ready
        manager.help(url, "pp-ocr")  # from now on the manager asks for `peers.reader(url, …)`

A page that isn't answered there, for whatever reason that isn't the page's own, is lost as by a worker that died before
it began: the lease reads it here. The client's connection stays where it is all the time.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final

import aiohttp
import msgspec

from ocr_inference import __version__
from ocr_inference.api.peers import exchange
from ocr_inference.api.peers.exchange import Asked, Part
from ocr_inference.protocol import frames
from ocr_inference.protocol.engine import Delta, Failure, FailureKind, PageResult
from ocr_inference.protocol.page_file import Page
from ocr_inference.workers.pending import Pending, Result, WorkerLost
from ocr_wire import names

CONNECT_SECONDS: Final = 3.0
_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 20_000),
)
"""Seconds of silence before the system asks whether the pod's machine is there, between two questions, and how many;
milliseconds for which what was sent may stay unacknowledged. A pod whose node vanishes says nothing more, and its pages
would wait for their deadline."""
MAX_TOKENS: Final = 64
"""Pods whose token is known at a time; the one that was named first is forgotten."""
_PARTS: Final[msgspec.msgpack.Decoder[Part]] = msgspec.msgpack.Decoder(Part)

log = logging.getLogger(__name__)


class PeerError(Exception):
    """Pod that doesn't help; says why."""


class Peers:
    """Connections to pods that help, inside an `open` block."""

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}
        """By URL: what a helper is called with is what its address came with, since a server knows no token itself."""
        self._session: aiohttp.ClientSession | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._reading: set[asyncio.Task[str]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Let pages be sent; leaving the block ends what is under way."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "ocr-inference"},
        )
        async with session as self._session, asyncio.TaskGroup() as self._tasks:
            try:
                yield
            finally:
                for task in self._reading:
                    task.cancel()

    async def wake(self, url: str, model: str, token: str) -> None:
        """Have a pod make the model ready, and remember its token; returns then, or raises `PeerError`."""
        self._tokens.pop(url, None)
        while len(self._tokens) >= MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[url] = token
        try:
            async with self._post(url, names.PATH_LOAD, json={"model": model}) as response:
                if response.status != 200:
                    raise PeerError(f"it answered {response.status} to a wake")
        except (aiohttp.ClientError, OSError) as error:
            raise PeerError(f"it can't be reached ({type(error).__name__})") from error

    def reader(self, url: str, model: str, waited: float, lost: Callable[[], object]) -> "PeerReader":
        """Return what reads a page in that pod; `waited` is for how many seconds it has, `lost` is called where it
        isn't read."""
        return PeerReader(self, url, model, waited, lost)

    def start(self, reading: Coroutine[None, None, str]) -> asyncio.Task[str]:
        """Run the reading of a page."""
        assert self._tasks is not None
        task = self._tasks.create_task(reading)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return task

    async def read(self, url: str, asked: Asked, page: Page) -> AsyncGenerator[Part, None]:
        """Have a page read, and yield the parts of its answer; raises `PeerError`."""
        form = aiohttp.FormData()
        form.add_field(exchange.FIELD, msgspec.json.encode(asked).decode())
        form.add_field("file", page.file.open(), filename="page", content_type="application/octet-stream")
        try:
            async with self._post(url, names.PATH_PAGES, data=form) as response:
                if response.status != 200 or response.content_type != exchange.MEDIA_TYPE:
                    raise PeerError(f"it answered {response.status} to a page")
                while (part := await _next(response.content)) is not None:
                    yield part
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PeerError(f"the connection broke ({type(error).__name__})") from error

    def _post(
        self, url: str, path: str, **content: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        token = self._tokens.get(url, "")
        return self._session.post(
            url + path,
            headers={"Authorization": f"Bearer {token}"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            **content,
        )


class PeerReader:
    """One pod that reads pages of one model, as a lease sees it: like a worker."""

    def __init__(self, peers: Peers, url: str, model: str, waited: float, lost: Callable[[], object]) -> None:
        self._peers = peers
        self._url = url
        self._model = model
        self._waited = waited
        self._lost = lost
        self._running: dict[asyncio.Future[Result], asyncio.Task[str]] = {}

    def infer(
        self,
        page: Page,
        *,
        max_pages: int,
        max_wait_seconds: float,
        limit_seconds: float,
        on_delta: Callable[[Delta], None] | None = None,
    ) -> "asyncio.Future[Result]":
        """Send a page, as `Worker.infer`; how many are read together is that pod's own matter."""
        del max_pages, max_wait_seconds
        pending = Pending(page.share(), on_delta=on_delta)
        task = self._peers.start(self._read(pending, limit_seconds))
        self._running[pending.future] = task
        task.add_done_callback(partial(self._ended, pending))
        return pending.future

    def forget(self, future: "asyncio.Future[Result]") -> None:
        """Leave: the pod notices that, and stops reading."""
        if (task := self._running.get(future)) is not None:
            task.cancel()

    async def _read(self, pending: Pending, limit_seconds: float) -> str:
        """Have the page read; returns why it wasn't, if it wasn't."""
        assert pending.page is not None
        asked = Asked(
            version=__version__,
            model=self._model,
            options=pending.page.options,
            waited=max(0.0, self._waited),
            stream=pending.on_delta is not None,
        )
        why = "it ended its answer"
        try:
            async with (
                asyncio.timeout(limit_seconds),
                aclosing(self._peers.read(self._url, asked, pending.page)) as parts,
            ):
                async for part in parts:
                    if isinstance(part, Delta):
                        if pending.on_delta is not None:
                            pending.on_delta(part)
                    elif isinstance(part, PageResult) or part.kind in exchange.OF_THE_PAGE:
                        pending.resolve(part)
                    else:
                        why = part.message
        except TimeoutError:
            why = f"it didn't read a page in {limit_seconds:.0f} seconds"
        except PeerError as error:
            why = str(error)
        except Exception:
            log.exception("a page can't be sent to %s", self._url, extra={"model": self._model})
            why = "the page can't be sent"
        return why

    def _ended(self, pending: Pending, task: asyncio.Task[str]) -> None:
        """Let a page without an answer come back; one that was left says nothing about the helper."""
        self._running.pop(pending.future, None)
        pending.close()
        if pending.future.done():
            return
        why = "nothing waits for the page" if task.cancelled() else task.result()
        message = f"the pod at {self._url} is lost: {why}"
        pending.future.set_exception(WorkerLost(Failure(kind=FailureKind.WORKER_DIED, message=message)))
        if not task.cancelled():
            log.info("a page comes back from %s: %s", self._url, why, extra={"model": self._model})
            self._lost()


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


async def _next(content: aiohttp.StreamReader) -> Part | None:
    """Return the next part of an answer, None at its end; raises `ValueError` for what is none."""
    head = await content.read(1)
    if not head:
        return None
    try:
        length = frames.checked_length(head + await content.readexactly(frames.HEAD_BYTES - 1))
        return _PARTS.decode(await content.readexactly(length))
    except (asyncio.IncompleteReadError, msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"no part of an answer: {error}") from error
