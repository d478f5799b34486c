"""Marked secrets are everywhere where a server can have some, much goes wrong, and no mark is in what comes out."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.support import hub as hubs
from tests.support import inference, marks, pages
from tests.support.engines import Faults
from tests.support.patience import PATIENCE

KEY, ADMIN, HUB, PROXY, ENDPOINT = (marks.mark() for _ in range(5))
ALL = (KEY, ADMIN, HUB, PROXY, ENDPOINT)


@dataclass
class Running:
    """A server in a process of its own, and all that comes out of it."""

    process: asyncio.subprocess.Process
    url: str
    http: aiohttp.ClientSession
    said: list[bytes] = field(default_factory=list)

    async def ask(self, method: str, path: str, **request: object) -> int:
        """Send a request and note its answer, headers included."""
        async with self.http.request(method, path, **request) as response:  # type: ignore[arg-type]
            self.said += [f"{response.raw_headers!r}".encode(), await response.read()]
            return response.status

    async def send(self, *pieces: bytes) -> None:
        """Send bytes that no client library sends, a packet each, and note the answer."""
        where = URL(self.url)
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(where.host, where.port)
            try:
                with contextlib.suppress(OSError):  # it may have answered and closed already
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0)  # the next piece is a packet of its own
                    writer.write_eof()
                with contextlib.suppress(OSError):
                    self.said.append(await reader.read())
            finally:
                writer.close()

    def children(self) -> Iterator[Path]:
        """Folders in /proc of the server's descendants."""
        todo = [self.process.pid]
        while todo:
            for listed in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
                found = [int(each) for each in listed.read_text().split()]
                todo += found
                yield from (Path(f"/proc/{each}") for each in found)


@asynccontextmanager
async def running(tmp_path: Path, endpoint: str, config: object, **environ: str) -> AsyncIterator[Running]:
    file, keys, admin = tmp_path / "config.yaml", tmp_path / "keys", tmp_path / "admin"
    file.write_text(json.dumps(config))
    keys.write_bytes(f"\ufeff{KEY}\r\n".encode())
    admin.write_text(f"\n {ADMIN}\n")
    told = {
        "OCR_API_KEYS_FILE": str(keys),
        "OCR_ADMIN_TOKEN_FILE": str(admin),
        "OCR_CACHE_DIR": str(tmp_path / "cache"),
        "HF_TOKEN": f"{HUB}\n",
        "HF_ENDPOINT": endpoint,
        "HTTPS_PROXY": f"http://eve:{PROXY}@127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
        **environ,
    }
    async with inference.process("serve", "--config", str(file), **told) as process:
        url = await inference.url_of(process)
        async with aiohttp.ClientSession(url) as http:
            server = Running(process, url, http)
            assert process.stderr is not None
            log = asyncio.create_task(process.stderr.read())
            try:
                yield server
            finally:
                process.terminate()
                server.said.append(await log)


SOURCE = {"huggingFace": {"repo": "owner/name", "revision": "main"}}
"""Of models whose workers get the token."""


def models(*extra: Mapping[str, object]) -> dict[str, object]:
    known = [{"name": "m", "engine": "fake", "source": SOURCE}, {"name": "other", "engine": "fake"}]
    return {"models": [*known, *extra], "logLevel": "debug"}


BEARER = {"Authorization": f"Bearer {KEY}"}
ADMITTED = {"Authorization": f"Bearer {ADMIN}"}
HEAD = b"POST /ocr HTTP/1.1\r\nHost: localhost\r\n"
FAULTS: list[hubs.Fault] = [
    hubs.Status(401, message=f"who is {HUB}?"),
    hubs.Status(403, message=f"Bearer {HUB} may not"),
    hubs.Status(500, message=f"x?token={HUB}"),
    hubs.Status(418, message=f"'authorization': 'Bearer {HUB}'"),
    hubs.Nonsense(b"<html>%s" % HUB.encode()),
    hubs.Nonsense(b'{"sha": "%s"}' % HUB.encode()),
    hubs.Nonsense(b'{"error": "%s"}' % HUB.encode(), 404, {"X-Error-Message": f"no {HUB}"}),
    hubs.Nonsense(b"", 302, {"Location": f"http://eve:{HUB}@127.0.0.1:9/?X-Amz-Signature={HUB}"}),
    hubs.Nonsense(b"", 302, {"Location": f"http://eve:{HUB}/x@127.0.0.1"}),
    hubs.Nonsense(b"", 302, {"Location": f"gopher://{HUB}"}),
    hubs.Nonsense(b"", 307, {"X-Error-Message": HUB}),
]


async def misuse(server: Running) -> None:
    """Send right secrets in wrong places, broken requests, and some that are right."""
    page = pages.blank()
    for headers in ({}, BEARER, ADMITTED, {"Authorization": f"Basic {KEY}"}, {"Authorization": KEY}):
        await server.ask("POST", "/ocr", headers=headers, data=inference.form(page, model="other"))
        await server.ask("POST", "/ocr", headers=headers, data=b"\xff")
        await server.ask("POST", "/v1/chat/completions", headers=headers, data=b'{"x": ')
        await server.ask("POST", "/gpu/offload", headers=headers, json={"model": "none"})
        await server.ask("PUT", "/v1/settings", headers=headers, data=b"[]")
        await server.ask("GET", "/nowhere", headers=headers)
        await server.ask("DELETE", "/ocr", headers=headers)
    for path in (f"/v1/state?token={ADMIN}", f"/health?access_token={KEY}", f"/?x=Bearer%20{KEY}"):
        await server.ask("GET", path)
    for head in (
        f"Authorization: Bearer {KEY}\x01\r\n".encode(),
        f"Authorization: Bearer {KEY * 400}\r\n".encode(),
        f"Authorization : Bearer {KEY}\r\n".encode(),
        f"Authorization: Bearer {KEY}\r\n{ADMIN}\r\n".encode(),
        f"{KEY}: x\x02\r\n".encode(),
        f"Content-Length: {KEY}\r\n".encode(),
    ):
        await server.send(HEAD + head + b"\r\n")
        await server.send(HEAD, head[:30], head[30:40], head[40:], b"\r\n")
    await server.send(f"GET /v1/state?token={ADMIN} HTTP/7.5\r\n\r\n".encode())
    await server.send(f"{KEY} / HTTP/1.1\r\n\r\n".encode())
    await server.send(
        HEAD + f"Authorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n{ADMIN}\r\n".encode()
    )


async def observe(server: Running) -> None:
    """Note what anyone may see."""
    for path in ("/v1/state", "/metrics", "/health", "/gpu/status", "/v1/models", "/"):
        assert await server.ask("GET", path) == 200
    for folder in server.children():
        with contextlib.suppress(OSError):
            server.said += [(folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()]


@pytest.mark.parametrize("userinfo", ["", f"eve:{ENDPOINT}@"], ids=["token", "password"])
async def test_no_mark_comes_out_whatever_goes_wrong(tmp_path: Path, userinfo: str) -> None:
    with hubs.serving() as hub:
        # An address with a name and a password is authorized by them, and not by the token.
        hub.add("owner/name", hubs.checkpoint(1000), token=None if userinfo else HUB)
        endpoint = hub.url.replace("://", f"://{userinfo}")
        faults = Faults(tmp_path)
        faulty = {"name": "faulty", "engine": "fake", "source": SOURCE}
        options = {"faults_file": str(faults.file)}
        async with running(tmp_path, endpoint, models(faulty | {"options": options})) as server:
            await misuse(server)
            for fault in FAULTS:
                hub.heal()
                hub.fail("info", fault)
                status = await server.ask("POST", "/gpu/load", headers=ADMITTED, json={"model": "m"})
                assert status in {200, 503}
                await observe(server)
                await server.ask("POST", "/gpu/release", headers=ADMITTED, json={"model": "m"})
            for fault_text in (f"Illegal header value b'Bearer {HUB}'", f"the {HUB} of us", f"x?sig={HUB}"):
                faults.set(infer=fault_text)
                await server.ask(
                    "POST", "/ocr", headers=BEARER, data=inference.form(pages.blank(), model="faulty")
                )
        asked_with = {(each.token or "")[:6] for each in hub.seen}
        assert ("Basic " if userinfo else HUB[:6]) in asked_with
    said = b"\n".join(server.said)
    for sign in (b"not HTTP: ", b"worker started", b"faults file: no fault"):
        assert sign in said
    assert not marks.leaks(said, *ALL), [line for line in said.splitlines() if marks.leaks(line, *ALL)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", f"{HUB}é"),
        ("HF_ENDPOINT", f"http://eve:{ENDPOINT}/x@h"),
        ("HF_ENDPOINT", f"eve:{ENDPOINT}@h"),
        ("HTTP_PROXY", f"http://eve:{PROXY}/x@h"),
        ("HTTP_PROXY", f"gopher://eve:{PROXY}@h"),
    ],
    ids=["token", "address", "no address", "proxy", "no proxy"],
)
async def test_a_setting_that_cannot_be_used_is_named_without_its_secret(
    tmp_path: Path, name: str, value: str
) -> None:
    with hubs.serving() as hub:
        more = {"NO_PROXY": "x", "no_proxy": "x", name: value}
        async with running(tmp_path, hub.url, models(), **more) as server:
            assert await server.ask("POST", "/gpu/load", headers=ADMITTED, json={"model": "m"}) == 503
            assert await server.ask("GET", "/v1/state") == 200
    said = b"\n".join(server.said)
    assert name.encode() in said
    assert not marks.leaks(said, *ALL), [line for line in said.splitlines() if marks.leaks(line, *ALL)]
