"""The Model Context Protocol at `/mcp`, by the SDK's own client over the real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.support import inference, pages
from tests.support.engines import Faults
from tests.support.mcp import words

both_modes = pytest.mark.parametrize("mode", ["legacy", "auto"])
"""The handshake of 2025, and what came after it."""

TOOLS = {
    "ocr_image",
    "ocr_pdf",
    "list_models",
    "get_gpu_status",
    "offload_gpu",
    "release_gpu",
    "update_gpu_timeout",
}


@asynccontextmanager
async def client(server: inference.Server, mode: str, token: str | None = None) -> AsyncIterator[Client]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{server.running.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as connected:
            yield connected


@both_modes
async def test_a_client_finds_the_tools_and_uses_them(mode: str) -> None:
    async with inference.server() as server, client(server, mode) as mcp:
        listed = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        assert set(listed) == TOOLS
        assert all(tool.description and tool.input_schema["type"] == "object" for tool in listed.values())

        read = await mcp.call_tool("ocr_image", {"image": inference.data_url(pages.blank())})
        assert not read.is_error, words(read)
        assert read.structured_content["text"] == words(read)
        assert (await server.model("quick"))["location"] == "cpu"

        released = await mcp.call_tool("release_gpu", {"model": "quick"})
        assert released.structured_content["model_location"] == "unloaded"
        changed = await mcp.call_tool("update_gpu_timeout", {"timeout_seconds": 17})
        assert changed.structured_content["timeout"] == 17
        assert "timeout: 17" in words(await mcp.call_tool("get_gpu_status"))
        models = await mcp.call_tool("list_models")
        assert [each["id"] for each in models.structured_content["models"]] == ["quick", "slow"]


async def test_a_call_with_very_many_values_is_refused() -> None:
    """Each costs the SDK as much as a whole call of ours."""
    headers = {"Accept": "application/json, text/event-stream"}
    async with inference.server() as server:
        for count, status in ((900, 200), (1001, 413)):
            arguments = {f"k{number}": "," * 10 for number in range(count)}
            called = {"name": "ocr_image", "arguments": arguments}
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
            async with server.http.post("/mcp", json=call, headers=headers) as response:
                assert response.status == status, await response.text()


@both_modes
async def test_a_pdf_is_read_page_by_page_and_tells_its_progress(mode: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    document: dict[str, Any] = {"pdf": inference.data_url(pages.pdf(3), "application/pdf")}
    async with inference.server() as server, client(server, mode) as mcp:
        read = await mcp.call_tool("ocr_pdf", document | {"pages": "2-"}, progress_callback=note)
        assert not read.is_error, words(read)
        assert [page["index"] for page in read.structured_content["pages"]] == [1, 2]
        assert read.structured_content["page_count"] == 3
        assert words(read) == "\n\n---\n\n".join(page["text"] for page in read.structured_content["pages"])
        assert told == [(0, 2, None), (1, 2, "page 2 of 3"), (2, 2, "page 3 of 3")]
        cases: list[tuple[dict[str, Any], str]] = [
            ({"pages": "9"}, "there is no page 9"),
            ({"pages": "x"}, "1-3,7"),
            ({"dpi": 0}, "dpi"),
        ]
        for wrong, said in cases:
            refused = await mcp.call_tool("ocr_pdf", document | wrong)
            assert refused.is_error
            assert said in words(refused)


@both_modes
async def test_errors_are_results_that_a_model_can_read(mode: str) -> None:
    async with inference.server() as server, client(server, mode) as mcp:
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("ocr_image", {"image": "data:image/png;base64,iVBORw0KGgo="}, "header"),
            ("ocr_image", {"image": "https://example.com/a.png"}, "remote URLs are off"),
            ("ocr_image", {"image": inference.data_url(pages.blank()), "task": "find"}, "needs find_term"),
            ("ocr_image", {"image": inference.data_url(pages.blank()), "dpi": 3}, "has no argument 'dpi'"),
            ("ocr_pdf", {"pdf": "x", "page": "1"}, "did you mean 'pages'"),
            ("list_models", {"model": "quick"}, "it takes none"),
            ("update_gpu_timeout", {"timeout": 3}, "did you mean 'timeout_seconds'"),
            ("update_gpu_timeout", {"timeout_seconds": -2}, "timeout_seconds: expected"),
            (
                "ocr_image",
                {"image": inference.data_url(pages.blank()), "find_term": "a", "prompt": "b"},
                "say by task",
            ),
            ("ocr_image", {}, "missing required field `image`"),
            ("offload_gpu", {"model": "quik"}, "there are quick, slow"),
            ("update_gpu_timeout", {"timeout_seconds": -0.5}, "-1 for never"),
            ("ocr_video", {}, "there are ocr_image"),
        ]
        for name, arguments, said in cases:
            result = await mcp.call_tool(name, arguments)
            assert result.is_error, name
            assert said in words(result), words(result)
        meant = {"image": inference.data_url(pages.blank()), "find_term": "total"}
        found = await mcp.call_tool("ocr_image", meant)
        assert found.structured_content["prompt_type"] == "find"


@both_modes
async def test_tools_obey_the_tokens_of_their_calls(mode: str, tmp_path: Path) -> None:
    keys, admin = tmp_path / "keys", tmp_path / "admin"
    keys.write_text("key\nboth\n")
    admin.write_text("s3cret\nboth\n")
    page = {"image": inference.data_url(pages.blank())}
    async with inference.server(api_keys_file=keys, admin_token_file=admin) as server:
        for token, reads, controls in [("key", True, False), ("s3cret", False, True), ("both", True, True)]:
            async with client(server, mode, token) as mcp:
                assert not (await mcp.call_tool("list_models")).is_error
                assert (await mcp.call_tool("ocr_image", page)).is_error is not reads
                assert (await mcp.call_tool("release_gpu")).is_error is not controls
        wrong = {"Authorization": "Bearer wrong"}
        assert (await server.json("POST", "/mcp", json=LIST))[0] == 401
        assert (await server.json("POST", "/mcp", headers=wrong, json=LIST))[0] == 403


LIST: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@both_modes
async def test_without_keys_only_controls_need_the_admin_token(mode: str, tmp_path: Path) -> None:
    admin = tmp_path / "admin"
    admin.write_text("s3cret\n")
    async with inference.server(admin_token_file=admin) as server, client(server, mode) as mcp:
        assert not (await mcp.call_tool("ocr_image", {"image": inference.data_url(pages.blank())})).is_error
        for tool in ("offload_gpu", "release_gpu"):
            refused = await mcp.call_tool(tool)
            assert refused.is_error
            assert "needs the admin token" in words(refused)


@both_modes
async def test_a_page_above_the_bound_of_the_sdk_is_read(mode: str) -> None:
    noise = pages.noise(1800, 1800)
    assert len(noise) > 2 * (4 << 20), "twice what the JSON of a call may have besides"
    async with inference.server() as server, client(server, mode) as mcp:
        url = inference.data_url(noise)
        for image in (url, url.partition(",")[2]):
            read = await mcp.call_tool("ocr_image", {"image": image})
            assert not read.is_error, words(read)
            assert read.structured_content["image_dims"] == {"w": 1800, "h": 1800}


@both_modes
async def test_a_client_gets_the_words_of_a_refusal_before_the_protocol(mode: str) -> None:
    async with inference.server() as server:
        with pytest.RaisesGroup(MCPError, flatten_subgroups=True, allow_unwrapped=True) as refused:
            async with client(server, mode) as mcp:
                await mcp.call_tool("ocr_image", {"image": "", "prompt": "Words. " * (1 << 20)})
        assert "besides its pictures" in str(next(leaves(refused.value)))


def leaves(error: BaseException) -> Iterator[BaseException]:
    for each in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from leaves(each)
    if not isinstance(error, BaseExceptionGroup):
        yield error


async def test_a_call_whose_client_leaves_ends_with_it(tmp_path: Path) -> None:
    """With the handshake of 2025 its stream has begun, so that it shows only when the next ping is sent, after 15 s."""
    faults = Faults(tmp_path)
    faults.set(load="hold")
    config = f"models: [{{name: m, engine: fake, options: {{faults_file: {faults.file}}}}}]"
    async with inference.server(config) as server:
        async with client(server, "auto") as mcp, asyncio.TaskGroup() as tasks:
            call = tasks.create_task(mcp.call_tool("ocr_image", {"image": inference.data_url(pages.blank())}))
            await server.until("m", waiting=1)
            call.cancel()
        await server.until("m", waiting=0)
        faults.set()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("invoices.default.svc.cluster.local:8001", 200),
        ("invoices-all", 200),
        ("localhost:8001", 200),
        ("10.0.0.7:8001", 200),
        ("ocr.example.com", 200),
        ("evil.example.net:8001", 403),
    ],
)
async def test_only_names_that_lead_here_are_answered(host: str, status: int) -> None:
    headers = {"Host": host, "Accept": "application/json, text/event-stream"}
    async with (
        inference.server(allowed_hosts=("ocr.example.com",)) as server,
        server.http.post("/mcp", headers=headers, json=LIST) as response,
    ):
        assert response.status == status, await response.text()
