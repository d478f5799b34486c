"""A real inference server on loopback, in this process or one of its own, with models of the test's choice."""

import asyncio
import base64
import io
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from ocr_inference import app
from ocr_inference.config import parsing
from ocr_inference.config.settings import Settings
from tests.support.patience import PATIENCE

FAKE = """
models:
  - {name: quick, engine: fake}
  - {name: slow, engine: fake, options: {infer_seconds: 0.6}}
"""


@dataclass(frozen=True)
class Server:
    running: app.Running
    http: aiohttp.ClientSession
    """With the server's URL as its base."""

    async def json(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        """(status, body) of an answer that must be JSON."""
        async with self.http.request(method, path, **request) as response:
            assert response.content_type == "application/json", await response.text()
            return response.status, await response.json()

    async def read(
        self, picture: bytes, headers: dict[str, str] | None = None, **fields: str
    ) -> tuple[int, Any]:
        """`POST /ocr`."""
        return await self.json("POST", "/ocr", data=form(picture, **fields), headers=headers)

    async def chat(self, body: object, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """`POST /v1/chat/completions`, unstreamed."""
        return await self.json("POST", "/v1/chat/completions", json=body, headers=headers)

    async def raw(self, request: bytes) -> tuple[str, str]:
        """(head, what follows) of the answer to bytes that no client library sends, until the server closes."""
        url = URL(self.running.url)
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            try:
                writer.write(request)
                head, _, rest = (await reader.read()).decode().partition("\r\n\r\n")
                return head, rest
            finally:
                writer.close()

    async def metric(self, line: str) -> float:
        """The value of a metric, by its name and labels as they are exposed; 0 while there is none."""
        async with self.http.get("/metrics") as response:
            text = await response.text()
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def model(self, name: str) -> dict[str, Any]:
        """The model in `GET /v1/state`."""
        _, state = await self.json("GET", "/v1/state")
        found: dict[str, Any] = next(model for model in state["models"] if model["name"] == name)
        return found

    async def until(self, name: str, seconds: float = PATIENCE, **wanted: object) -> None:
        """Wait until the model's fields have these values."""
        async with asyncio.timeout(seconds), self.http.get("/v1/state?watch=true") as response:
            async for state in events(response):
                model = next(model for model in state["models"] if model["name"] == name)
                if wanted.items() <= model.items():
                    return
        raise AssertionError(f"the watch ended before {name} had {wanted}")


def refusal(body: Any) -> dict[str, Any]:
    """The error of an answer in either shape, as OpenAI's object."""
    error = body["error"]
    return error if isinstance(error, dict) else {**body, "message": error}


def form(picture: bytes | None, field: str = "file", **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(fields, default_to_multipart=True)
    if picture is not None:
        data.add_field(
            field, io.BytesIO(picture), filename="page.png", content_type="application/octet-stream"
        )
    return data


def data_url(picture: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def turn(picture: bytes | None = None, text: str | None = None, role: str = "user") -> dict[str, Any]:
    """One message of a chat."""
    parts: list[dict[str, Any]] = []
    if picture is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_url(picture)}})
    if text is not None:
        parts.append({"type": "text", "text": text})
    return {"role": role, "content": parts}


def process(*arguments: str, **environ: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """The real command; killed when the block ends, if it still runs."""
    return _started((sys.executable, "-m", "ocr_inference", *arguments), environ)


def process_with_input(
    data: bytes, *arguments: str
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """The same, with `data` on its standard input."""
    return _started((sys.executable, "-m", "ocr_inference", *arguments), {}, data)


def process_with_open_files(
    files: int, *arguments: str, limit: str = "-n"
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """The same, allowed to open so many files; `limit` is an option of `ulimit`, such as `-Sn` for the soft one."""
    command = ("sh", "-c", f'ulimit {limit} {files}; exec "$@"', "sh", sys.executable, "-m", "ocr_inference")
    return _started((*command, *arguments), {})


@asynccontextmanager
async def _started(
    command: tuple[str, ...], environ: dict[str, str], stdin: bytes | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "OCR_HOST": "127.0.0.1", "PORT": "0", "OCR_DEVICE": "cpu", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=None if stdin is None else asyncio.subprocess.PIPE,
    )
    try:
        if stdin is not None and started.stdin is not None:
            started.stdin.write(stdin)
            started.stdin.close()
        yield started
    finally:
        if started.returncode is None:
            with suppress(ProcessLookupError):
                started.kill()
        await started.communicate()


async def url_of(started: asyncio.subprocess.Process) -> str:
    """From the line that says that it serves."""
    assert started.stderr is not None
    async with asyncio.timeout(PATIENCE):
        async for line in started.stderr:
            if match := re.search(rb" serving url=(\S+) .*device=cpu models=", line):
                return match[1].decode()
    raise AssertionError("the server ended before it served")


@asynccontextmanager
async def server(config: str = FAKE, **settings: Any) -> AsyncIterator[Server]:
    """`settings` replace fields of `Settings`."""
    told = replace(
        Settings(
            host="127.0.0.1", port=0, device="cpu", drain_seconds=10.0, pod_name="pod-a", pod_uid="uid-a"
        ),
        **settings,
    )
    async with (
        app.serving(told, parsing.parse_config(config), os.environ) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        yield Server(running, http)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The states of a watch, until it ends; comments are passed over."""
    data = b""
    async for line in response.content:
        if line.startswith(b"data: "):
            data = line.removeprefix(b"data: ")
        elif line == b"\n" and data:
            yield msgspec.json.decode(data)
            data = b""
