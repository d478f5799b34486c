"""A reverse proxy as examples/standalone configures it, real, before real servers on loopback."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tests.support import certificates
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

NAME = "ocr.example.com"
EXAMPLES = ROOT / "examples" / "standalone"
WITHIN = """
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path unused1;
    uwsgi_temp_path unused2;
    scgi_temp_path unused3;
    include ocr.conf;
}
"""
"""What /etc/nginx/nginx.conf is to the example."""


@dataclass(frozen=True)
class Front:
    """A running proxy."""

    kind: str
    port: int
    certificate: Path

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}"

    def client(self, address: str = "127.0.0.1", **options: Any) -> aiohttp.ClientSession:
        """A client at an address of loopback that finds the public name here, and trusts its certificate."""
        connector = aiohttp.TCPConnector(
            resolver=_OnLoopback(),
            ssl=ssl.create_default_context(cafile=str(self.certificate)),
            local_addr=(address, 0),
        )
        return aiohttp.ClientSession(self.url, connector=connector, **options)


class _OnLoopback(AbstractResolver):
    """Resolver of the name as a hosts file does it."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        assert host == NAME
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        pass


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """The text with all changes; each must have something to change."""
    for old, new in changes.items():
        assert old in text, f"the example has no {old!r} any more"
        text = text.replace(old, new)
    return text


def program(kind: str) -> str:
    found = shutil.which(kind)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {kind} here: make standalone-tools")
    return found


@asynccontextmanager
async def before(
    kind: str, servers: Sequence[str], folder: Path, changes: Mapping[str, str] | None = None
) -> AsyncIterator[Front]:
    """The proxy `nginx` or `caddy`, before the servers of two URLs; it writes into the folder, which is its own."""
    command = program(kind)
    certificate = certificates.certify(folder, NAME, "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    upstreams = {
        f"127.0.0.1:{number}": f"127.0.0.1:{URL(url).port}"
        for number, url in zip((8001, 8002), servers, strict=True)
    } | dict(changes or {})
    start = _nginx if kind == "nginx" else _caddy
    arguments = start(folder, certificate, port, upstreams)
    process = await asyncio.create_subprocess_exec(
        command, *arguments, cwd=folder, env={**os.environ, "HOME": str(folder)}
    )
    try:
        await _answering(process, port)
        yield Front(kind, port, certificate)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _nginx(folder: Path, certificate: Path, port: int, upstreams: Mapping[str, str]) -> list[str]:
    changes = {
        **upstreams,
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "    listen [::]:443 ssl http2;\n": "",
        "/etc/ssl/ocr/fullchain.pem": str(certificate),
        "/etc/ssl/ocr/privkey.pem": f"{certificate}.key",
    }
    (folder / "ocr.conf").write_text(replaced((EXAMPLES / "nginx.conf").read_text(), changes))
    (folder / "main.conf").write_text(("user root;" if os.geteuid() == 0 else "") + WITHIN)
    return ["-p", str(folder), "-c", "main.conf"]


def _caddy(folder: Path, certificate: Path, port: int, upstreams: Mapping[str, str]) -> list[str]:
    site = f"{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {certificate}.key\n"
    text = replaced((EXAMPLES / "Caddyfile").read_text(), {**upstreams, f"{NAME} {{\n": site})
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text)
    return ["run", "--config", "Caddyfile", "--adapter", "caddyfile"]


async def _answering(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.returncode is None, "the proxy ended; it has said why"
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


def version(kind: str) -> str:
    done = subprocess.run(
        [program(kind), "-v" if kind == "nginx" else "version"], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr
