"""HTTP calls of a server that runs. Whatever it answers is bounded and cleaned, and its key goes to no other host."""

import asyncio
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from errno import ECONNREFUSED
from typing import Any, Final

import aiohttp
from yarl import URL

from ocr_inference import __version__
from ocr_inference.cli.server import retrying
from ocr_inference.errors import ApiError
from ocr_wire import errors, text
from ocr_wire.redaction import Redactor

CONNECT_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 120.0
"""How long an answer may take to begin, or to go on."""
MAX_ANSWER_BYTES: Final = 1 << 30
MAX_EVENT_BYTES: Final = 1 << 16
UNREACHABLE: Final = "server_unreachable"
STRANGE: Final = "strange_answer"
"""Codes of what is wrong with a server itself."""

Body = Callable[[], Mapping[str, Any]]
"""Makes arguments of `aiohttp.ClientSession.request`, anew for each try: a form is sent once."""


Sleep = Callable[[float], Awaitable[None]]


def _nothing() -> Mapping[str, Any]:
    return {}


class Client:
    def __init__(
        self,
        http: aiohttp.ClientSession,
        server: URL,
        secret: str = "",
        *,
        proxy: str | None = None,
        patience: float = retrying.PATIENCE_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Prepare; `secret` is the key or token that is sent, and is taken out of all that the server says."""
        self.sleep = sleep
        self.server = server
        self._http = http
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._redact = Redactor((secret,) if secret else ())
        self._proxy = proxy
        self._patience = patience
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=silent_seconds
        )

    async def call(
        self,
        method: str,
        path: str,
        body: Body = _nothing,
        *,
        patience: float | None = None,
        waiting: Callable[[str], None] = lambda _: None,
    ) -> bytes:
        """Make a call and return what is answered; raises `ApiError`. Where the server is busy or can't be reached it
        is made again for up to `patience` seconds; `waiting` is called with what is waited for, and empty after it."""
        tries, began = 0, time.monotonic()
        while True:
            tries += 1
            status, after = None, None
            try:
                async with self._sent(method, path, body()) as response:
                    status, after = response.status, response.headers.get("Retry-After")
                    answer = await self._read(response)
                    if 200 <= status < 300:
                        return answer
                    failed = self._refusal(response, answer)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                status, failed = None, self.unreachable(error)
            left = self._patience if patience is None else patience
            waited = time.monotonic() - began
            delay = retrying.delay(status, after, tries=tries, waited=waited, patience=left)
            if delay is None:
                raise failed
            waiting("waiting for the server" if status is None else f"the server is busy ({failed.code})")
            await self.sleep(delay)
            waiting("")

    async def events(self, path: str) -> AsyncGenerator[bytes]:
        """Yield the data of server-sent events until the server ends them; raises `ApiError`."""
        try:
            async with self._sent("GET", path, {}) as response:
                if response.status != 200:
                    raise self._refusal(response, await self._read(response, errors.MAX_BYTES))
                data = b""
                async for line in response.content:
                    if line.startswith(b"data:"):
                        data += line[5:].strip()
                        if len(data) > MAX_EVENT_BYTES:
                            raise self._strange("an event is larger than it may be")
                    elif not line.strip() and data:
                        yield data
                        data = b""
        except ValueError as error:  # a line that is longer than aiohttp takes
            raise self._strange("a line is longer than it may be") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.unreachable(error) from None

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # Slashes and all of a path below which the server is stay as they were given.
        url = URL(str(self.server).rstrip("/") + path, encoded=True)
        async with self._http.request(
            method,
            url,
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,
            proxy=self._proxy,
            **body,
        ) as response:
            yield response

    async def _read(self, response: aiohttp.ClientResponse, most: int = MAX_ANSWER_BYTES) -> bytes:
        answer = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            answer += chunk
            if len(answer) > most:
                raise self._strange(f"its answer is larger than {most >> 20} MiB")
        return bytes(answer)

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> ApiError:
        status, info = response.status, errors.read(body)
        said = info.message or f"status {status}"
        code = info.code or f"status_{status}"
        if 300 <= status < 400:
            where = text.shown(response.headers.get("Location", ""))
            return self._strange(f"it redirects to {where!r}: give that URL, if it is the right one")
        if status == 404 and info.code is None:
            return self._strange("it has no such call: it is no ocr-inference, or an older one")
        if status in (401, 403):
            said = f"{said} ({self.server})"
        return ApiError(status, code, self._redact(said), param=info.param)

    def _strange(self, why: str) -> ApiError:
        return ApiError(502, STRANGE, self._redact(f"{self.server}: {why}"))

    def unreachable(self, error: Exception) -> ApiError:
        """Return what is said of a server that doesn't answer."""
        if isinstance(error, TimeoutError):
            why = "it doesn't answer in time"
        elif isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = "its certificate isn't trusted: SSL_CERT_FILE names one of your own authority"
        elif isinstance(error, aiohttp.ClientConnectorError):
            refused = error.os_error.errno == ECONNREFUSED
            why = "nothing listens there" if refused else text.clean(str(error.os_error), 300)
        else:
            why = text.clean(str(error) or type(error).__name__, 300)
        return ApiError(503, UNREACHABLE, self._redact(f"{self.server} can't be reached: {why}"))


@asynccontextmanager
async def connected(
    server: URL,
    secret: str,
    environ: Mapping[str, str],
    *,
    patience: float = retrying.PATIENCE_SECONDS,
    silent_seconds: float = SILENT_SECONDS,
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[Client]:
    """Yield the calls of a server."""
    async with aiohttp.ClientSession(
        headers={"User-Agent": f"ocr-inference/{__version__}", "Accept-Encoding": "identity"},
        auto_decompress=False,  # a few bytes may become gigabytes
        cookie_jar=aiohttp.DummyCookieJar(),
        # aiohttp itself would take a password of ~/.netrc in place of the key.
        trust_env=False,
    ) as http:
        yield Client(
            http,
            server,
            secret,
            proxy=proxy(server, environ),
            patience=patience,
            silent_seconds=silent_seconds,
            sleep=sleep,
        )


def proxy(server: URL, environ: Mapping[str, str]) -> str | None:
    """Return the proxy that the environment has for a server; none for this machine."""
    host = server.host or ""
    if host in ("localhost", "127.0.0.1", "::1"):
        return None
    known = {
        name.lower().removesuffix("_proxy"): value
        for name, value in environ.items()
        if name.lower().endswith("_proxy") and value
    }
    if urllib.request.proxy_bypass_environment(host, known):  # type: ignore[attr-defined]
        return None
    return known.get(server.scheme) or known.get("all")
