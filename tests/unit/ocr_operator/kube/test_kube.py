"""The client against an API server that is slow, forgetful or plainly wrong; what it promises otherwise is in
tests/contract/test_kube.py.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from kubernetes.aio import client as kubernetes_client

from ocr_operator import kube
from ocr_operator.kube import api
from tests.support import fakepod
from tests.support.patience import PATIENCE

POD = api.Ref(api.POD, "default", "one")
PORT = fakepod.free_port()
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.05)
    await runner.setup()
    ip = fakepod.address()
    try:
        await web.TCPSite(runner, ip, PORT, reuse_address=True).start()
        yield f"http://{ip}:{PORT}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def talking(answer: Answer, **options: Any) -> AsyncIterator[kube.Client]:
    async with serving(answer) as url:
        config = kubernetes_client.Configuration(host=url)
        config.client_session_kwargs = {"trust_env": False}
        raw = kubernetes_client.ApiClient(config)
        try:
            yield kube.Client(raw, rng=random.Random(1), **options)
        finally:
            await raw.close()


def status(code: int, message: str = "because", **headers: str) -> web.Response:
    body = {"kind": "Status", "code": code, "message": message}
    return web.json_response(body, status=code, headers=headers)


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": str(version)}}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, api.Refused),
        (401, api.Refused),
        (403, api.Refused),
        (404, api.NotFound),
        (409, api.Conflict),
        (422, api.Refused),
        (500, api.Unavailable),
        (503, api.Unavailable),
        (504, api.Unavailable),
    ],
)
async def test_each_status_has_its_error(code: int, kind: type[api.KubeError]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return status(code)

    async with talking(answer) as client:
        with pytest.raises(kind) as caught:
            await client.get(POD)

    assert caught.value.status == code
    assert str(caught.value).startswith(f"Pod default/one {kind.verb}: because ({code})")


async def test_forbidden_names_the_way_out() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return status(403, "exceeded quota: gpus")

    async with talking(answer) as client:
        with pytest.raises(api.Refused, match=r"exceeded quota: gpus \(403\); check the operator's role"):
            await client.get(POD)


async def test_answer_that_is_no_json_is_no_answer() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>")

    async with talking(answer) as client:
        with pytest.raises(api.Unavailable, match="no JSON"):
            await client.get(POD)


async def test_refused_connection_is_no_answer() -> None:
    config = kubernetes_client.Configuration(host=f"http://{fakepod.address()}:1")
    raw = kubernetes_client.ApiClient(config)
    try:
        with pytest.raises(api.Unavailable):
            await kube.Client(raw).get(POD)
    finally:
        await raw.close()


async def test_slow_answer_is_no_answer() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return status(500)

    async with talking(answer, request_seconds=0.1) as client:
        with pytest.raises(api.Unavailable):
            await client.get(POD)


async def test_too_many_requests_waits_as_asked() -> None:
    asked: list[float] = []
    loop = asyncio.get_running_loop()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(loop.time())
        return status(429, **{"Retry-After": "1"}) if len(asked) < 2 else web.json_response(pod("one", 1))

    async with talking(answer) as client:
        found = await client.get(POD)

    assert found["metadata"]["name"] == "one"
    assert asked[1] - asked[0] >= 0.99


async def test_long_lists_come_in_pages() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        token = request.query.get("continue", "")
        number = int(token or 0)
        more = {"continue": str(number + 1)} if number < 2 else {}
        return web.json_response(
            {"metadata": {"resourceVersion": "9", **more}, "items": [pod(str(number), 1)]}
        )

    async with talking(answer) as client:
        found = await client.find(api.POD)

    assert [each["metadata"]["name"] for each in found] == ["0", "1", "2"]


class Server:
    """Lists `items`, then lets `stream` speak on each watch, with the version that was asked for."""

    def __init__(self, *streams: Callable[[web.StreamResponse], Awaitable[None]]) -> None:
        self.streams = list(streams)
        self.asked: list[str] = []
        self.version = 5

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.asked.append("list")
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": []})
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if self.streams:
            await self.streams.pop(0)(response)
        else:
            await asyncio.Event().wait()
        return response


def says(*events: dict[str, Any]) -> Callable[[web.StreamResponse], Awaitable[None]]:
    async def stream(response: web.StreamResponse) -> None:
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")

    return stream


async def hangs(response: web.StreamResponse) -> None:
    await asyncio.Event().wait()


async def collect(client: kube.Client, count: int) -> list[api.WatchEvent]:
    found: list[api.WatchEvent] = []
    async with asyncio.timeout(PATIENCE), contextlib.aclosing(client.watch(api.POD)) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_watch_goes_on_where_it_ended_and_bookmarks_move_it_on() -> None:
    server = Server(
        says({"type": "ADDED", "object": pod("one", 6)}),
        says({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}),
        says({"type": "DELETED", "object": pod("one", 21)}),
    )
    async with talking(server.answer) as client:
        found = await collect(client, 4)

    assert [type(each).__name__ for each in found] == ["Listed", "Changed", "Alive", "Changed"]
    assert server.asked == ["list", "5", "6", "20"]


@pytest.mark.parametrize("how", ["in the stream", "as an answer"])
async def test_forgotten_version_is_listed_again(how: str) -> None:
    server = Server(says({"type": "ERROR", "object": {"code": 410, "message": "too old"}}), hangs)

    async def answer(request: web.Request) -> web.StreamResponse:
        if how == "as an answer" and "watch" in request.query and len(server.asked) == 1:
            server.asked.append("gone")
            server.streams.pop(0)
            return status(410)
        return await server.answer(request)

    async with talking(answer) as client:
        found = await collect(client, 2)

    assert [type(each) for each in found] == [api.Listed, api.Listed]
    assert server.asked.count("list") == 2


async def test_silent_watch_is_given_up() -> None:
    server = Server(hangs, says({"type": "ADDED", "object": pod("one", 6)}))
    async with talking(server.answer, silence_seconds=0.2) as client:
        found = await collect(client, 3)

    assert [type(each) for each in found] == [api.Listed, api.Lost, api.Changed]
    assert server.asked == ["list", "5", "5"]


async def test_error_in_the_stream_is_told_and_retried() -> None:
    server = Server(
        says({"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}),
        says({"type": "ADDED", "object": pod("one", 6)}),
    )
    async with talking(server.answer) as client:
        _, lost, changed = await collect(client, 3)

    assert isinstance(lost, api.Lost)
    assert "etcd is away" in str(lost.error)
    assert isinstance(changed, api.Changed)


async def test_forbidden_list_is_told_and_retried() -> None:
    tries = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        return status(403) if tries < 3 else web.json_response({"metadata": {"resourceVersion": "1"}})

    async with talking(answer) as client:
        found = await collect(client, 3)

    assert [type(each) for each in found] == [api.Lost, api.Lost, api.Listed]


def kubeconfig(path: Path, url: str, token_file: Path) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "it", "cluster": {"server": url}}],
                "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
                "users": [{"name": "me", "user": {"tokenFile": str(token_file)}}],
            }
        )
    )
    return path


async def test_rotated_token_is_used_at_once(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.json_response(pod("one", 1))

    token = tmp_path / "token"
    token.write_text("first\n")
    async with serving(answer) as url:
        file = kubeconfig(tmp_path / "config", url, token)
        async with kube.connect({"KUBECONFIG": str(file)}) as client:
            await client.get(POD)
            token.write_text("second\n")
            await client.get(POD)
            assert (await client.credentials()).authorization == "Bearer second"

    assert seen == ["Bearer first", "Bearer second"]


async def test_no_way_to_an_api_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(kube.ConfigError, match="set KUBECONFIG"):
        async with kube.connect({"HOME": str(tmp_path)}, service_account=tmp_path / "none"):
            pass
