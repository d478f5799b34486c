"""What a client sends to be parsed holds up nobody else, however it is cut: the loop goes around meanwhile."""

import asyncio
import gc
import http.client
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from yarl import URL

from ocr_wire import garbage
from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.patience import PATIENCE

MOST_SECONDS = 0.06
"""Processor time of a round of the loop, most of which is a slice; without turns it is 0.25 to 10 s."""
HEAD = b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: %s\r\n"
FORM = b"multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@asynccontextmanager
async def rounds() -> AsyncIterator[list[float]]:
    """Processor time of each round of the loop, the server's and its client's, meanwhile.

    What tests have left in this process is no server's: a collection that comes by chance doesn't look through it.
    """
    found: list[float] = []

    async def measure() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            found.append(now - before)
            before = now

    garbage.exempt()
    measuring = asyncio.create_task(measure())
    try:
        yield found
    finally:
        measuring.cancel()
        gc.unfreeze()


def chunks(data: bytes) -> bytes:
    """Chunks of one byte each."""
    return b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n"


def of_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SENT = {
    "a form in chunks of a byte": (
        HEAD % (b"/ocr", FORM) + CHUNKED + chunks(PART + bytes(100_000) + b"\r\n--b--\r\n"),
        415,
    ),
    "JSON in chunks of a byte": (
        HEAD % (b"/v1/chat/completions", b"application/json") + CHUNKED + chunks(b'{"a": "' + b"x" * 100_000),
        400,
    ),
    "a body that is refused before it is read": (
        HEAD % (b"/v1/chat/completions", b"text/plain") + CHUNKED + chunks(bytes(100_000)),
        415,
    ),
    "lines before a form": (HEAD % (b"/ocr", FORM) + of_length(b"\n" * 300_000), 400),
    "the longest heads of fields": (
        HEAD % (b"/ocr", FORM)
        + of_length(
            b"".join(
                b'--b\r\nContent-Disposition: form-data; name="%d%s"\r\n\r\n\r\n' % (number, b'\\"' * 3000)
                for number in range(30)
            )
            + b"--b--\r\n"
        ),
        400,
    ),
}


@pytest.mark.parametrize("name", SENT)
async def test_a_body_holds_up_nobody_however_it_is_cut(name: str) -> None:
    request, status = SENT[name]
    async with inference.server() as server:
        await server.read(pages.blank())  # what is imported by the first request
        async with rounds() as taken:
            head, _ = await server.raw(request)
        assert head.split()[1] == str(status), head
        assert max(taken) < MOST_SECONDS


async def test_lines_before_a_form_are_few() -> None:
    async with inference.server() as server:
        form = PART + pages.blank() + b"\r\n--b--\r\n"
        for lines, status, says in ((100, "200", ""), (5000, "400", "more than 2048 lines")):
            body = b"preamble\r\n" * lines + form
            head, rest = await server.raw(HEAD % (b"/ocr", FORM) + of_length(body))
            assert (head.split()[1], says in rest) == (status, True), rest


WORDY = "models: [{name: wordy, engine: fake, options: {step_seconds: 0.0001, repeat: 1000}}]"


async def done(server: Server) -> str:
    """A job whose one page has much text."""
    status, job = await server.json("POST", "/v1/jobs", data=inference.form(pages.blank()))
    assert status == 202
    async with asyncio.timeout(PATIENCE):
        while job["state"] != "done":
            _, job = await server.json("GET", f"/v1/jobs/{job['id']}")
    id_: str = job["id"]
    return id_


@pytest.mark.parametrize("kind", ["markdown", "json"])
async def test_a_long_export_holds_up_nobody(kind: str) -> None:
    async with inference.server(WORDY) as server:
        wanted: dict[str, Any] = {"format": kind, "pages": [{"job": await done(server), "page": 1}] * 3000}
        async with rounds() as taken:
            assert await asyncio.to_thread(_read_all, server, wanted) == 200
        assert max(taken) < MOST_SECONDS


def _read_all(server: Server, wanted: dict[str, Any]) -> int:
    """Read as fast as it comes; a client on the server's loop would give it pauses."""
    url = URL(server.running.url)
    with closing(http.client.HTTPConnection(url.host or "", url.port)) as connection:
        connection.request("POST", "/v1/exports", json.dumps(wanted), {"Content-Type": "application/json"})
        response = connection.getresponse()
        while response.read(1 << 20):
            pass
        return response.status
