"""Clients of a soak that do harm: they leave, send what must be refused, hold connections, and send pages that kill a
worker or hang in it.

Those whose pages must come to an end go on until `over` is set; the others go on until they are cancelled.
"""

import asyncio
import contextlib
import io
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
from PIL import Image

from bench import storm
from bench.soakclients import (
    ANSWER_SECONDS,
    HUNG,
    READER,
    RETRIED,
    Clients,
    Scene,
    bearer,
    code_of,
    form,
    key_of,
    replace,
)
from ocr_wire import names

BIG_BYTES: Final = 24 << 20
_JSON: Final = {"Content-Type": "application/json"}
_MULTIPART: Final = {"Content-Type": "multipart/form-data; boundary=c"}


def fresh_page(draw: random.Random) -> bytes:
    """Make a page that no other is like."""
    data = io.BytesIO()
    Image.frombytes("RGB", (24, 16), draw.randbytes(24 * 16 * 3)).save(data, "PNG")
    return data.getvalue()


class Offenders:
    """Clients that do harm to one server, and share its file of faults."""

    def __init__(self, scene: Scene, clients: Clients, faults: Path) -> None:
        self.tally, self.over = scene.tally, scene.over
        self._clients = clients
        self._http = scene.http
        self._address = scene.address
        self._keys = scene.keys
        self._admin = scene.admin
        self._draw = scene.draw
        self._pages = scene.pages
        self._faults_file = faults
        self._faults: dict[str, str] = {}
        self._big = scene.draw.randbytes(BIG_BYTES)

    async def leaver(self, model: str) -> None:
        """Go away: while sending, waiting or reading."""
        while True:
            page = storm.copy(self._draw.choice(self._pages), self._draw)
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, ConnectionError):
                async with asyncio.timeout(self._draw.random() * 0.3):
                    if self._draw.random() < 0.3:
                        await self._half_a_body()
                    else:
                        await self._clients.sent(model, page)
            self.tally.left += 1
            await asyncio.sleep(0.02)

    async def _half_a_body(self) -> None:
        """Send the half of a body, and wait."""
        head = (
            f"POST /ocr HTTP/1.1\r\nHost: localhost\r\nAuthorization: {self._keys.newest['Authorization']}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        )
        async with self._connection() as (_, writer):
            writer.write(head.encode() + self._big[:50_000])
            await writer.drain()
            await asyncio.sleep(60)

    async def killer(self, model: str, pause: float) -> None:
        """Send a page that kills each worker that reads it, until it is refused."""
        while not self.over.is_set():
            page = fresh_page(self._draw)
            with self._fault(page, "crash"):
                await self._until(model, page, "422 page_kills_worker")
            self.tally.ended["killed by a page"] += 1
            await asyncio.sleep(pause)

    async def hanger(self, pause: float, watchdog_seconds: float) -> None:
        """Send pages that hang, and give up. The server ends the first one within `watchdog_seconds`, where that isn't
        0; an administrator ends the others. Afterwards the model has to read again."""
        while not self.over.is_set():
            page = fresh_page(self._draw)
            with self._fault(page, "hang"):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2.0):
                        await self._clients.sent(HUNG, page)
                if watchdog_seconds:
                    await self._ended(HUNG, watchdog_seconds)
                    self.tally.ended["hung, by the server"] += 1
                else:
                    await self._clients.control(names.PATH_RELEASE, {"model": HUNG, "force": True})
                    self.tally.ended["hung, by force"] += 1
            watchdog_seconds = 0.0
            await self._clients.read(HUNG)
            await asyncio.sleep(pause)

    async def _ended(self, model: str, seconds: float) -> None:
        """Wait until no page of the model is in flight."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            async with self._http.get(names.PATH_STATE) as answer:
                models = (await answer.json())["models"]
            if not next(each["in_flight"] for each in models if each["name"] == model):
                return
            await asyncio.sleep(0.5)
        self.tally.wrong.append(f"{model}: a page that hangs is in flight after {seconds:g} s")

    async def _until(self, model: str, page: bytes, wanted: str) -> None:
        end, last = time.monotonic() + ANSWER_SECONDS, "nothing"
        while time.monotonic() < end:
            data = form(page, model=model, prompt_type="ocr")
            async with self._http.post("/ocr", data=data, headers=self._keys.newest) as answer:
                last = f"{answer.status} {code_of(await answer.json())}"
            if last == wanted:
                return
            if answer.status not in RETRIED:
                break
            await asyncio.sleep(0.5)
        self.tally.wrong.append(f"{model}: {last} instead of {wanted}")

    @contextlib.contextmanager
    def _fault(self, page: bytes, fault: str) -> Iterator[None]:
        name = f"page {key_of(page)}"
        self._faults[name] = fault
        replace(self._faults_file, json.dumps(self._faults))
        try:
            yield
        finally:
            del self._faults[name]
            replace(self._faults_file, json.dumps(self._faults))

    async def nuisance(self, pause: float) -> None:
        """Send what has to be refused."""
        asked: list[tuple[int, Callable[[], Coroutine[Any, Any, tuple[int, str]]]]] = [
            (400, lambda: self._refused("/ocr", data=b"--b", headers=self._keys.newest | _MULTIPART)),
            (401, lambda: self._refused("/ocr", data=form(self._pages[0]), headers={})),
            (403, lambda: self._refused("/ocr", data=form(self._pages[0]), headers=bearer("key-0"))),
            (403, lambda: self._refused(names.PATH_RELEASE, json={"all": True}, headers=bearer("wrong"))),
            (404, lambda: self._refused("/ocr", data=form(self._pages[0], model="nobody"))),
            (413, lambda: self._refused("/ocr", data=form(self._big + self._big + self._big))),
            (415, lambda: self._refused("/ocr", data=form(self._big))),
            (415, lambda: self._refused("/ocr", json={"file": "a"})),
            (422, lambda: self._refused("/ocr", data=form(b""))),
            (422, lambda: self._refused("/v1/chat/completions", json={"messages": [{"role": "user"}]})),
            (422, lambda: self._refused(names.PATH_RELEASE, json={"modle": READER}, headers=self._admin)),
            (400, lambda: self._chat(b"not JSON")),
            (413, lambda: self._chat(self._big)),
            (400, self._not_http),
        ]
        while True:
            # Each once before one comes again: a first round has met the largest, too.
            for expected, send in self._draw.sample(asked, len(asked)):
                try:
                    status, found = await send()
                except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError):
                    # A refusal before all was sent closes the connection, and a client that is still writing may see
                    # only that: https://www.rfc-editor.org/rfc/rfc9112#section-9.6
                    status, found = expected, "connection closed"
                if status in (expected, *RETRIED):
                    self.tally.refused[f"{status} {found}"] += 1
                else:
                    self.tally.wrong.append(f"{status} {found} instead of {expected}")
                await asyncio.sleep(pause)

    async def _refused(self, path: str, **sent: Any) -> tuple[int, str]:
        headers = sent.pop("headers", self._keys.newest)
        async with self._http.post(path, headers=headers, **sent) as answer:
            return answer.status, code_of(await answer.json())

    async def _chat(self, body: bytes) -> tuple[int, str]:
        headers = self._keys.newest | _JSON
        return await self._refused("/v1/chat/completions", data=io.BytesIO(body), headers=headers)

    async def _not_http(self) -> tuple[int, str]:
        async with self._connection() as (reader, writer):
            writer.write(b"HELLO\r\n\r\n")
            head = await reader.readuntil(b"\r\n")
            return int(head.split()[1]), "not HTTP"

    async def silent(self) -> None:
        """Open connections that send the half of a head, or nothing, and hold them."""
        async with contextlib.AsyncExitStack() as stack:
            for number in range(40):
                _, writer = await stack.enter_async_context(self._connection())
                if number % 2:
                    writer.write(b"POST /ocr HTTP/1.1\r\nHost: localhost\r\n")
            await asyncio.sleep(3600)

    async def deaf_watcher(self) -> None:
        """Watch the state, and read nothing of it."""
        async with self._connection() as (_, writer):
            writer.write(f"GET {names.PATH_STATE}?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await asyncio.sleep(3600)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
