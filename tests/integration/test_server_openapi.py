"""`/openapi.json` and `/docs` of the real server."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import inference, schemathesis


async def test_the_page_loads_all_from_this_server() -> None:
    async with inference.server() as server:
        async with server.http.get("/docs") as response:
            html = await response.text()
            policy = response.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
        assert loaded == ["data:,", "docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/docs.js"]
        assert not re.search(r"<script>|<style|javascript:| on\w+=", html)
        for path in loaded[1:]:
            async with server.http.get(f"/{path}") as response:
                assert response.status == 200, path
                assert response.headers["Content-Encoding"] in {"deflate", "gzip"}
                assert len(await response.text()) > 50
                assert response.content_type == ("text/css" if path.endswith(".css") else "text/javascript")
        for path in ("/docs/LICENSE", "/docs/..%2Fdocument.py", "/docs/"):
            assert (await server.json("GET", path))[0] == 404


async def test_the_document_is_served() -> None:
    async with inference.server() as server:
        status, document = await server.json("GET", "/openapi.json")
        assert (status, document["openapi"]) == (200, "3.1.0")


async def test_no_call_fails_by_what_the_document_allows(tmp_path: Path) -> None:
    async with _running(tmp_path) as url:
        assert not await schemathesis.run(url, tmp_path, "--phases", "fuzzing", "--max-examples", "1")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["--exclude-path", "--include-path"])
async def test_no_call_fails_by_anything(tmp_path: Path, which: str) -> None:
    async with _running(tmp_path) as url:
        arguments = ("--phases", "coverage,fuzzing", "--max-examples", "100")
        assert not await schemathesis.run(url, tmp_path, which, schemathesis.SETTINGS, *arguments)


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[str]:
    """A server in a process of its own."""
    config = folder / "config.yaml"
    config.write_text("models: [{name: quick, engine: fake}, {name: second, engine: fake}]")
    async with inference.process("serve", "--config", str(config)) as server:
        url = await inference.url_of(server)
        assert server.stderr is not None
        reading = asyncio.create_task(server.stderr.read())
        yield url
        server.terminate()
        assert "Traceback" not in (await reading).decode()
