"""The node's list and watch, against a small API server that does what real ones do at bad moments."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from devcluster.kube.api import Access, Api, ApiError, Event, access
from tests.support.patience import PATIENCE


def item(name: str, version: int) -> dict:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def line(kind: str, content: dict) -> bytes:
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


class Server:
    """Answers lists with `listings` and watches with `streams`, one after the other."""

    def __init__(self, listings: list[list[dict]], streams: list[list[bytes]]) -> None:
        self.listings, self.streams = listings, streams
        self.watched_from: list[str] = []

    async def pods(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            items = self.listings.pop(0)
            return web.json_response({"metadata": {"resourceVersion": "100"}, "items": items})
        self.watched_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.streams:
            await asyncio.Event().wait()
        for chunk in self.streams.pop(0):
            await response.write(chunk)
            await asyncio.sleep(0)
        return response


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_get("/pods", server.pods)
    async with TestServer(app) as running, Api(Access(str(running.make_url("")), "token", None, None)) as api:
        yield api


async def collect(server: Server, count: int) -> list[Event]:
    events: list[Event] = []
    async with connected(server) as api, asyncio.timeout(PATIENCE):
        stream = api.follow("/pods", {})
        async for event in stream:
            events.append(event)
            if len(events) == count:
                break
        await stream.aclose()  # type: ignore[attr-defined]
    return events


async def test_events_may_be_cut_anywhere() -> None:
    whole = line("ADDED", item("b", 101)) + line("MODIFIED", item("b", 102)) + line("DELETED", item("b", 103))
    server = Server([[item("a", 90)]], [[whole[:5], whole[5:200], whole[200:]]])
    assert await collect(server, 4) == [
        Event("synced", [item("a", 90)]),
        Event("changed", [item("b", 101)]),
        Event("changed", [item("b", 102)]),
        Event("gone", [item("b", 103)]),
    ]


async def test_ended_watch_goes_on_from_the_last_bookmark() -> None:
    streams = [[line("BOOKMARK", item("", 150))], [line("ADDED", item("b", 151))]]
    server = Server([[]], streams)
    assert await collect(server, 2) == [Event("synced", []), Event("changed", [item("b", 151)])]
    assert server.watched_from == ["100", "150"]


async def test_expired_version_means_a_new_list() -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    server = Server([[item("a", 1)], [item("a", 5), item("c", 6)]], [[line("ERROR", gone)]])
    assert await collect(server, 2) == [
        Event("synced", [item("a", 1)]),
        Event("synced", [item("a", 5), item("c", 6)]),
    ]


async def test_broken_stream_is_taken_up_again() -> None:
    server = Server([[]], [[b"{not json\n"], [line("ADDED", item("b", 101))]])
    assert (await collect(server, 2))[1] == Event("changed", [item("b", 101)])


async def test_errors_carry_the_servers_words() -> None:
    async with connected(Server([], [])) as api:
        with pytest.raises(ApiError) as caught:
            await api.get("/nowhere")
        assert caught.value.status == 404
    unreachable = Access("http://127.0.0.1:1", None, None, None)
    async with Api(unreachable) as api:
        with pytest.raises(ApiError, match="GET /x") as caught:
            await api.get("/x")
        assert caught.value.status == 0


def test_kubeconfig_in_json_with_a_token_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    content = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://h:1/", "certificate-authority-data": "UEVN"}}
        ],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(content))
    assert access(tmp_path / "kubeconfig") == Access("https://h:1/", "secret", "PEM", None)
    content["users"] = []
    (tmp_path / "kubeconfig").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no user named 'u'"):
        access(tmp_path / "kubeconfig")
