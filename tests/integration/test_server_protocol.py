"""What arrives at the socket and is no ordinary request. All tests share one server."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ocr_inference.api import routes
from tests.support import inference
from tests.support.inference import Server
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with inference.server() as running:
        yield running


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/9.9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cr\x00et\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nno colon s3cret\r\n\r\n",
        b"POST /gpu/release HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n",
        b"POST /gpu/release HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"s3cret" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"s3cret" * 10_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: s3cret\r\n" * 2_000 + b"\r\n",
    ],
)
async def test_what_is_not_http_is_a_400_in_our_shape(server: Server, sent: bytes) -> None:
    head, body = await server.raw(sent)
    assert head.startswith("HTTP/1.0 400 "), head
    assert {"Content-Type: application/json", "X-Content-Type-Options: nosniff"} <= set(head.splitlines())
    assert "X-Request-ID: " in head
    error = json.loads(body)
    assert set(error) == {"success", "error", "detail", "type", "code", "param"}
    assert (error["success"], error["code"]) == (False, "malformed_request")
    assert "s3c" not in body
    assert (await server.json("GET", "/health"))[0] == 200


async def test_what_is_not_http_is_logged_with_its_client(caplog: pytest.LogCaptureFixture) -> None:
    async with inference.server(host="") as server:  # Where the machine has IPv6, IPv4 arrives at its socket.
        await server.raw(b"\x16\r\n\r\n")
    assert [each.getMessage() for each in caplog.records if " remote=127.0.0.1 " in each.getMessage()]
    assert "::ffff:" not in caplog.text


async def test_a_line_that_is_too_long_says_so(server: Server) -> None:
    _, body = await server.raw(b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "longer than" in json.loads(body)["error"]


@pytest.mark.parametrize("path", [*(path for _, path, _ in routes.OPEN), "/v1/state?watch=true", "/nothing"])
async def test_head_is_the_head_of_get(server: Server, path: str) -> None:
    path = path.replace("{model}", "quick")
    async with server.http.get(path) as response:
        wanted = response.status, response.content_type
    async with server.http.head(path) as response:
        assert (response.status, response.content_type, await response.read()) == (*wanted, b"")
    # The connection can be used again: nothing of a body stands in it.
    head, body = await server.raw(
        f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert head.startswith(f"HTTP/1.1 {wanted[0]} ")
    assert body.startswith("HTTP/1.1 200 OK\r\n"), body


async def test_head_of_a_watch_takes_no_place(server: Server) -> None:
    answers = await asyncio.gather(*(_head(server, "/v1/state?watch=true") for _ in range(80)))
    assert answers == [200] * 80
    async with asyncio.timeout(PATIENCE):
        while await server.metric("ocr_state_watchers"):  # The watches of other tests may still end.
            pass


async def _head(server: Server, path: str) -> int:
    async with server.http.head(path) as response:
        return response.status


@pytest.mark.parametrize("path", [path for method, path, _ in routes.CONTROLS if method == "POST"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_controls_answer_post_only(server: Server, method: str, path: str) -> None:
    async with server.http.request(method, path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
