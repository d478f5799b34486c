"""Pods to talk to: a real HTTP server that says what an inference pod says, and worse if told to."""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from ocr_wire.live_settings import digest
from tests.support import webserver

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_numbers = itertools.count(1)


def address() -> str:
    """A loopback address that no other test process uses."""
    number = next(_numbers)
    return f"127.{64 + os.getpid() % 128}.{number // 250}.{number % 250 + 1}"


def free_port() -> int:
    """One that nobody listens on at any address: a server of somebody else at 0.0.0.0 would take ours."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


async def _at_once() -> None:
    pass


class FakePod:
    """`GET /v1/state` with watch, `PUT /v1/settings`, `POST /gpu/offload`; `models` maps a name to its state and
    location."""

    def __init__(
        self, name: str, uid: str, token: str, *, stamped: str = "", heartbeat: float = 0.05
    ) -> None:
        self.name = name
        self.uid = uid
        self.token = token
        self.heartbeat = heartbeat
        self.settings: dict[str, Any] = {"generation": 0, "revision": 0, "hash": "", "values": {}}
        if stamped:
            self.settings = msgspec.json.decode(stamped)
        self.device: dict[str, Any] = {
            "kind": "simulated",
            "uuid": "GPU-1",
            "product": "NVIDIA-L40S",
            "memory_total_bytes": 46068 * 2**20,
            "memory_used_bytes": 0,
        }
        self.models: dict[str, tuple[str, str]] = {"pp-ocr": ("unloaded", "unloaded")}
        self.waiting = 0
        """Requests in the queue; `tell` says so."""
        self.more: dict[str, Any] = {}
        """Other fields of every model than a bored one's."""
        self.pushes: list[dict[str, Any]] = []
        self.offloads: list[dict[str, Any]] = []
        self.loads: list[str] = []
        self.helpers: list[dict[str, Any]] = []
        """Bodies of `POST /v1/helpers`."""
        self.answer_offload: Handler | None = None
        """Instead of offloading at once."""
        self.tokens: list[str | None] = []
        self.streams = 0
        self.before_push: Callable[[], Awaitable[object]] = _at_once
        """Awaited before a push is taken."""
        self.answer_push: Handler | None = None
        """Instead of taking a push."""
        self.answer_state: Handler | None = None
        """Instead of the state stream."""
        self.silent = False
        """Streams stay open and say nothing more, not even a heartbeat."""
        self._changed = asyncio.Event()
        self._open = True

    def state(self) -> dict[str, Any]:
        return {
            "pod": {"name": self.name, "uid": self.uid},
            "version": "0.1.0",
            "draining": False,
            "device": self.device,
            "models": [
                {
                    "name": name,
                    "engine": "rapidocr",
                    "state": state,
                    "location": location,
                    "worker": "running",
                    "since": "2026-11-23T08:00:00.000Z",
                    "in_flight": 0,
                    "waiting": 0,
                    "memory_bytes": 0,
                    "host_bytes": 0,
                    "loads": 0,
                    "wakes": 0,
                    "failures": 0,
                    "last_wake_seconds": None,
                    "last_load_seconds": None,
                    "last_failure": None,
                    **self.more,
                }
                for name, (state, location) in self.models.items()
            ],
            "queue": {"waiting": self.waiting, "in_flight": 0, "limit": 64},
            "settings": self.settings,
        }

    def change(self, **models: tuple[str, str]) -> None:
        """Models change their state; dashes of names are underscores here. Streams tell at once."""
        self.models |= {name.replace("_", "-"): each for name, each in models.items()}
        self.tell()

    def tell(self) -> None:
        """Every stream sends the state again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @asynccontextmanager
    async def serve(self, ip: str, port: int) -> AsyncIterator[None]:
        app = web.Application()
        app.add_routes(
            [
                web.get("/v1/state", self._state),
                web.put("/v1/settings", self._settings),
                web.post("/gpu/offload", self._offload),
                web.post("/gpu/load", self._load),
                web.post("/v1/helpers", self._helpers),
            ]
        )
        async with webserver.serving(app, ip, port):
            try:
                yield
            finally:
                self._open = False
                self.tell()

    async def _state(self, request: web.Request) -> web.StreamResponse:
        return await (self.answer_state or self.answer)(request)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The state stream."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.streams += 1
        try:
            while self._open:
                changed = self._changed
                if not self.silent:
                    await response.write(
                        b"event: state\ndata: " + msgspec.json.encode(self.state()) + b"\n\n"
                    )
                while not changed.is_set():
                    try:
                        async with asyncio.timeout(self.heartbeat):
                            await changed.wait()
                    except TimeoutError:
                        if not self.silent:
                            await response.write(b": heartbeat\n\n")
        except ConnectionError:
            pass  # the operator hung up
        finally:
            self.streams -= 1
        return response

    async def _settings(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization"))
        await self.before_push()
        if self.answer_push is not None:
            return await self.answer_push(request)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": {"message": "wrong token"}}, status=403)
        sent = await request.json()
        self.pushes.append(sent)
        if sent["hash"] != digest(sent["values"]):
            return web.json_response({"error": {"param": "hash"}}, status=422)
        mine = (self.settings["revision"], self.settings["hash"])
        if sent["revision"] < mine[0] or (sent["revision"] == mine[0] and sent["hash"] != mine[1]):
            return web.json_response({"error": {"message": "older revision"}}, status=409)
        self.settings = sent
        self.tell()
        return web.json_response(sent)

    async def _load(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({}, status=401)
        sent = await request.json()
        self.loads.append(sent["model"])
        self.models[sent["model"]] = ("ready", "gpu")
        self.tell()
        return web.json_response({"success": True})

    async def _helpers(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({}, status=401)
        self.helpers.append(await request.json())
        return web.json_response({"success": True, "message": ""})

    async def _offload(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": {"message": "wrong token"}}, status=403)
        sent = await request.json()
        self.offloads.append(sent)
        if self.answer_offload is not None:
            return await self.answer_offload(request)
        self.models[sent["model"]] = ("offloaded", "cpu")
        self.tell()
        return web.json_response({"success": True})


@asynccontextmanager
async def serve_metrics(text: Callable[[], str], ip: str, port: int) -> AsyncIterator[None]:
    """A DCGM exporter that says `text()`."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=text())

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    async with webserver.serving(app, ip, port):
        yield
