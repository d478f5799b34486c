"""Connections of clients that want to keep the others out, or that don't get on."""

import asyncio
import json
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from ocr_inference.api.control.state import MORE_FOR_ADMINS
from ocr_inference.connections.limits import FEWEST, MOST_WATCHES, Times
from ocr_operator.pods import wire
from ocr_wire.state import PodState
from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.patience import PATIENCE

HALF_A_HEAD = b"GET /health HTTP/1.1\r\nX: "
HOUR = "models: [{name: m, engine: fake, options: {infer_seconds: 3600}}]\nbatching: {maxPages: 64}"


@asynccontextmanager
async def connected(
    server: Server, count: int, sent: bytes = b""
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Connections that have sent this and nothing else."""
    url, made = URL(server.running.url), []
    try:
        for _ in range(count):
            made.append(await asyncio.open_connection(url.host, url.port))
            made[-1][1].write(sent)
        yield made
    finally:
        for _, writer in made:
            writer.close()


async def until_metric(server: Server, line: str, least: float) -> None:
    async with asyncio.timeout(PATIENCE):
        while await server.metric(line) < least:
            pass


# --- how many ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_connections_without_a_request_keep_nobody_out(sent: bytes) -> None:
    async with inference.server(max_connections=FEWEST) as server, connected(server, 100, sent):
        for _ in range(20):
            async with server.http.get("/livez", headers={"Connection": "close"}) as response:
                assert response.status == 200
        status, body = await server.read(pages.blank())
        assert status == 200, body
        assert await server.metric('ocr_connections_ended_total{reason="displaced"}') > 50


async def test_more_requests_than_places_are_refused_but_for_probes_and_the_admin(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    async with inference.server(
        HOUR, max_connections=FEWEST, admin_token_file=tmp_path / "token", drain_seconds=0.1
    ) as server:
        reading = [asyncio.create_task(server.read(pages.blank(shade=n))) for n in range(FEWEST)]
        await until_metric(server, 'ocr_connections{phase="serving"}', FEWEST + 1)  # And the scrape itself.
        for path in ("/v1/models", "/v1/state?watch=true"):
            async with server.http.get(path) as response:
                assert (response.status, response.headers["Connection"]) == (503, "close")
                assert int(response.headers["Retry-After"]) >= 1
                assert (await response.json())["error"]["code"] == "too_many_connections"
        for path in ("/livez", "/readyz", "/metrics", "/health", "/gpu/status", "/v1/state"):
            async with server.http.get(path) as response:
                assert response.status == 200
        asked: dict[str, Any] = {"json": {"timeout": 60}}
        assert (await server.json("POST", "/gpu/timeout", **asked))[0] == 503
        for token, wanted in (("wrong", 503), ("s3cret", 200)):
            asked["headers"] = {"Authorization": f"Bearer {token}"}
            assert (await server.json("POST", "/gpu/timeout", **asked))[0] == wanted
        reading.pop().cancel()
        async with asyncio.timeout(PATIENCE):
            while (await server.json("GET", "/v1/models"))[0] == 503:
                pass
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def test_answers_that_nobody_takes_keep_no_probe_out() -> None:
    clients = FEWEST + 12  # More than have a place, fewer than connections.
    async with inference.server(max_connections=FEWEST) as server, asyncio.TaskGroup() as tasks:
        url, loop, asking = URL(server.running.url), asyncio.get_running_loop(), []
        sockets = [socket.socket() for _ in range(clients)]
        try:
            for client in sockets:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                await loop.sock_connect(client, (url.host, url.port))
                asking.append(tasks.create_task(_asked(client)))
            await until_metric(server, 'ocr_connections_ended_total{reason="displaced"}', 1)
            for path in ("/livez", "/readyz", "/health", "/v1/state") * 5:
                async with server.http.get(path, headers={"Connection": "close"}) as response:
                    assert response.status == 200, path
        finally:
            for task in asking:
                task.cancel()
            for client in sockets:
                client.close()


async def _asked(client: socket.socket) -> None:
    with suppress(OSError):
        await _ask_for_ever(client)


async def test_anonymous_watchers_keep_no_admin_out(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    async with (
        inference.server(admin_token_file=tmp_path / "token", drain_seconds=0.1) as server,
        Watchers() as watchers,
    ):
        watching = [await watchers.watch(server) for _ in range(MOST_WATCHES)]
        assert (await watchers.watch(server, "wrong")).status == 429
        watching += [await watchers.watch(server, "s3cret") for _ in range(MORE_FOR_ADMINS)]
        assert [response.status for response in watching] == [200] * (MOST_WATCHES + MORE_FOR_ADMINS)
        assert (await watchers.watch(server, "s3cret")).status == 429


async def test_watchers_leave_places_for_pages() -> None:
    async with (
        inference.server(max_connections=FEWEST, drain_seconds=0.1) as server,
        Watchers() as watchers,
    ):
        watching = [await watchers.watch(server) for _ in range(FEWEST)]
        assert sorted({response.status for response in watching}) == [200, 429]
        status, body = await server.read(pages.blank())
        assert status == 200, body


async def test_the_operator_hears_a_pod_whose_watchers_have_taken_all_places(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    async with (
        inference.server(admin_token_file=tmp_path / "token", drain_seconds=0.1) as server,
        wire.session() as session,
        Watchers() as watchers,
    ):
        watching = [await watchers.watch(server) for _ in range(MOST_WATCHES)]
        heard: asyncio.Queue[PodState] = asyncio.Queue()
        url = URL(server.running.url)
        assert (url.host, url.port) != (None, None)
        pod = wire.Target(("ns", "invoices"), "pod-a", "uid-a", str(url.host), int(url.port or 0))
        listening = asyncio.create_task(
            wire.listen(session, pod, heard.put_nowait, "s3cret", idle_timeout=PATIENCE)
        )
        async with asyncio.timeout(PATIENCE):
            assert (await heard.get()).pod.uid == "uid-a"
        listening.cancel()
        assert len(watching) == MOST_WATCHES


class Watchers(AsyncExitStack):
    """Connections that go on until the block ends."""

    async def watch(self, server: Server, token: str = "") -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {token}"}
        response = await server.http.get("/v1/state?watch=true", headers=headers)
        self.callback(response.close)
        return response


# --- for how long --------------------------------------------------------------------------------------------


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with (
        inference.server(connection_times=Times(head=0.2)) as server,
        connected(server, 1) as ((reader, _),),
        asyncio.timeout(PATIENCE),
    ):
        assert await reader.read() == b""
        assert await server.metric('ocr_connections_ended_total{reason="silent"}') >= 1


async def test_a_head_that_takes_too_long_is_a_408() -> None:
    async with (
        inference.server(connection_times=Times(head=0.2)) as server,
        connected(server, 1, HALF_A_HEAD) as ((reader, _),),
        asyncio.timeout(PATIENCE),
    ):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert json.loads(body)["code"] == "head_timeout"
        assert await server.metric('ocr_connections_ended_total{reason="head"}') == 1


async def test_an_idle_connection_is_closed() -> None:
    async with (
        inference.server(connection_times=Times(idle=0.2)) as server,
        connected(server, 1, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") as ((reader, _),),
        asyncio.timeout(PATIENCE),
    ):
        assert b"200 OK" in await reader.read()
        assert await server.metric('ocr_connections_ended_total{reason="idle"}') >= 1


async def test_a_request_outlasts_the_times_of_idle_connections() -> None:
    config = "models: [{name: m, engine: fake, options: {infer_seconds: 1.0}}]"
    async with inference.server(config, connection_times=Times(head=0.1, idle=0.1, stalled=0.1)) as server:
        status, body = await server.read(pages.blank())
        assert status == 200, body


async def test_a_client_that_does_not_read_its_answers_is_cut_off() -> None:
    async with inference.server(connection_times=Times(stalled=0.3)) as server:
        url, loop = URL(server.running.url), asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, (url.host, url.port))
            asking = asyncio.create_task(_ask_for_ever(client))
            await until_metric(server, 'ocr_connections_ended_total{reason="stalled"}', 1)
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
                    await asking


async def _ask_for_ever(client: socket.socket) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(
            client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 64
        )


# --- half closed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_that_has_closed_its_sending_side_gets_its_answer(version: str) -> None:
    request = f"GET /health HTTP/{version}\r\nHost: x\r\n\r\n".encode()
    async with inference.server() as server, connected(server, 1) as ((reader, writer),):
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()  # To the end: nothing can follow, so the connection is closed.
        assert b"200 OK\r\n" in answer
        assert answer.endswith(b"}")


async def test_a_half_closed_client_of_http_1_1_waits_for_its_page(tmp_path: Path) -> None:
    async with inference.server() as server, connected(server, 2) as ((reader, writer), (_, gone)):
        body = _multipart(pages.blank())
        head = f"POST /ocr?model=slow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
        request = head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + body
        writer.write(request)
        writer.write_eof()
        await server.until("slow", in_flight=1)
        gone.write(request)
        await server.until("slow", in_flight=2)
        gone.close()
        await until_metric(server, 'ocr_http_requests_total{method="POST",route="/ocr",status="499"}', 1)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_a_request_that_is_cut_off_in_its_body_is_given_up() -> None:
    sent = b"POST /ocr HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    async with inference.server() as server, connected(server, 1) as ((reader, writer),):
        writer.write(sent + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b")
        await until_metric(server, 'ocr_connections{phase="serving"}', 2)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            await reader.read()
        await until_metric(server, 'ocr_connections{phase="serving"}', 1)


def _multipart(picture: bytes) -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n'
        + picture
        + b"\r\n--b--\r\n"
    )


# --- a process with few open files ---------------------------------------------------------------------------


async def test_half_open_heads_neither_silence_the_probes_nor_fill_the_log() -> None:
    async with inference.process_with_open_files(256, "serve") as started:
        url = URL(await inference.url_of(started))
        heads = []
        try:
            for _ in range(300):
                heads.append(await asyncio.open_connection(url.host, url.port))
                heads[-1][1].write(HALF_A_HEAD)
            for _ in range(50):
                assert await _status(url, "/livez") == b"200"
            for _ in range(300):  # What isn't HTTP at all.
                assert await _status(url, "\x16") == b"400"
        finally:
            for _, writer in heads:
                writer.close()
        started.terminate()
        _, logged = await started.communicate()
        assert b"all connections are taken" in logged
        assert b"not HTTP" in logged
        assert len(logged) < 4_000, logged[:4_000].decode()


async def test_too_few_files_for_a_server_end_it_with_what_it_needs() -> None:
    async with inference.process_with_open_files(100, "serve") as started:
        _, logged = await started.communicate()
    assert started.returncode == 2
    assert (
        b"OCR_MAX_CONNECTIONS: this process may open 100 files, and 8 connections need 152: raise" in logged
    )


async def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65_536)
    async with inference.process_with_open_files(256, "serve", limit="-Sn") as started:
        await inference.url_of(started)
        assert resource.prlimit(started.pid, resource.RLIMIT_NOFILE)[0] == hard


async def test_a_server_without_open_files_says_so_once_and_goes_on() -> None:
    async with inference.process("serve") as started:
        url = URL(await inference.url_of(started))
        assert await _status(url, "/livez") == b"200"
        soft, hard = resource.prlimit(started.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (0, hard))
        waiting = [asyncio.create_task(_status(url, "/livez")) for _ in range(20)]
        async with asyncio.timeout(PATIENCE):
            assert started.stderr is not None
            async for line in started.stderr:
                if b"can't accept a connection: Too many open files" in line:
                    break
        resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.gather(
            *waiting, return_exceptions=True
        )  # Some systems reset those that they can't give us.
        assert await _status(url, "/livez") == b"200"
        started.terminate()
        _, logged = await started.communicate()
        assert len(logged) < 2_000, logged.decode()


async def _status(url: URL, path: str) -> bytes:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return (await reader.read()).split(b" ")[1]
        finally:
            writer.close()
