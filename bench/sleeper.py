"""A real server in a process of its own with one model that is sent to sleep and woken: what `bench.wake` measures."""

import asyncio
import base64
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import msgspec

from bench import server, storm
from ocr_wire import engines, live_settings, names
from ocr_wire.states import State, Worker

LIVE: Final = f"""
queue: {{limit: 1000, deadlineSeconds: 3600}}
idle: {json.dumps(server.NO_TIMERS)}
"""


class Sleeper:
    """A server process with one model, and what the measurement does to it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str, *, stands_by: bool) -> None:
        self.http = http
        self.url = url
        self.model = model
        self.page = storm.page(1)
        self.stands_by = stands_by
        self._revision = 0

    async def read(self, page: bytes | None = None, max_tokens: int = 32) -> tuple[float, float]:
        """Seconds until the answer, and seconds in the engine."""
        asked = {
            "prompt_type": "ocr",
            "model": self.model,
            "max_tokens": str(max_tokens),
            "resolution": "tiny",
        }
        form = aiohttp.FormData(asked)
        form.add_field("file", page or self.page, filename="page.png", content_type="image/png")
        began = time.perf_counter()
        async with self.http.post(self.url + names.PATH_OCR, data=form) as answer:
            body = await answer.json()
            answer.raise_for_status()
        return time.perf_counter() - began, float(body["metadata"]["engine_seconds"])

    async def first_piece(self) -> float:
        """Seconds until the answer begins to come."""
        picture = "data:image/png;base64," + base64.b64encode(self.page).decode()
        content = [{"type": "image_url", "image_url": {"url": picture}}]
        asked = {
            "model": self.model,
            "stream": True,
            "max_tokens": 32,
            "messages": [{"role": "user", "content": content}],
            "ocr": {"task": "ocr", "resolution": "tiny"},
        }
        began = time.perf_counter()
        async with self.http.post(f"{self.url}/v1/chat/completions", json=asked) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    if choice["delta"].get("content") or choice["finish_reason"]:
                        return time.perf_counter() - began
        raise RuntimeError("the answer ended before it began")

    async def declare(self, **idle: float) -> None:
        self._revision += 1
        wanted = live_settings.envelope(1, self._revision, {"idle": server.NO_TIMERS | idle})
        async with self.http.put(self.url + names.PATH_SETTINGS, json=msgspec.to_builtins(wanted)) as answer:
            answer.raise_for_status()

    async def sleep(self, *, deep: bool, settled: bool = True) -> None:
        """Offload; when `deep`, let the worker exit, too. Returns when that is done, with timers off; when `settled`,
        with the standby ready, if the engine has one."""
        await self.declare(**({"exitAfterSeconds": 0} if deep else {"offloadAfterSeconds": 0}))
        await self.until(state=State.OFFLOADED, worker=Worker.EXITED if deep else Worker.RUNNING)
        await self.declare()
        if deep and settled and self.stands_by:
            await self.until(standby=True)

    async def state(self) -> dict[str, Any]:
        async with self.http.get(self.url + names.PATH_STATE) as answer:
            body: dict[str, Any] = await answer.json()
        return body

    async def until(self, **wanted: object) -> None:
        async with asyncio.timeout(300), contextlib.aclosing(server.states(self.http, self.url)) as states:
            async for state in states:
                if wanted.items() <= self._of(state).items():
                    return
        raise RuntimeError(f"the server ended before its model had {wanted}")

    async def last_wake(self) -> float:
        return float(self._of(await self.state())["last_wake_seconds"])

    def _of(self, state: dict[str, Any]) -> dict[str, Any]:
        return next(model for model in state["models"] if model["name"] == self.model)


@contextlib.asynccontextmanager
async def sleeper(config: str, environ: dict[str, str]) -> AsyncIterator[Sleeper]:
    """Started, and its model loaded once."""
    timeout = aiohttp.ClientTimeout(total=600)
    unlimited = aiohttp.TCPConnector(limit=0)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config + LIVE)
        file.flush()
        async with (
            aiohttp.ClientSession(connector=unlimited, timeout=timeout) as http,
            server.started(environ, "--config", file.name) as (url, _),
        ):
            async with http.get(url + names.PATH_STATE) as answer:
                (model,) = (await answer.json())["models"][:1]
            stands_by = engines.BY_NAME[model["engine"]].stands_by and environ.get("OCR_FORKSERVER") != "off"
            found = Sleeper(http, url, model["name"], stands_by=stands_by)
            await found.read()
            yield found
