"""`ocr-inference mcp`: the SDK's client over the standard streams of the real command."""

import os
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from ocr_inference import mcp_stdio
from ocr_inference.config.settings import Config, InvalidSettings, Settings
from tests.support import inference, pages
from tests.support.mcp import words


def command(*arguments: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "ocr_inference", "mcp", *arguments],
        env={**os.environ, "OCR_DEVICE": "cpu"},
    )


async def test_a_file_is_read_by_its_path_on_a_server_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(inference.FAKE)
    (tmp_path / "page.png").write_bytes(pages.blank())
    async with Client(command("--config", str(tmp_path / "config.yaml"))) as mcp:
        tools = {tool.name: tool.input_schema for tool in (await mcp.list_tools()).tools}
        assert "path" in tools["ocr_image"]["properties"]
        assert "path" not in tools["release_gpu"]["properties"]
        read = await mcp.call_tool("ocr_image", {"path": str(tmp_path / "page.png")})
        assert not read.is_error, words(read)
        (tmp_path / "two.pdf").write_bytes(pages.pdf(2))
        told: list[float] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            told.append(progress)

        read = await mcp.call_tool("ocr_pdf", {"path": str(tmp_path / "two.pdf")}, progress_callback=note)
        assert read.structured_content["page_count"] == 2
        assert told == [0, 1, 2]
        changed = await mcp.call_tool("update_gpu_timeout", {"timeout_seconds": 3})
        assert changed.structured_content["timeout"] == 3
        for path, refusal in [
            ("nowhere.png", "is no file"),
            ("/dev/zero", "is no file"),
            (".", "is no file"),
        ]:
            refused = await mcp.call_tool("ocr_image", {"path": path})
            assert refused.is_error
            assert refusal in words(refused)


async def test_a_server_that_runs_is_asked_with_its_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    async with inference.server(api_keys_file=token) as server:
        arguments = ("--url", server.running.url, "--token-file", str(token))
        async with Client(command(*arguments)) as mcp:
            assert not (await mcp.call_tool("list_models")).is_error

        with pytest.raises(InvalidSettings, match="this call needs an API key"):
            await offer(server.running.url)
    with pytest.raises(InvalidSettings, match="no tools from this server") as refused:
        await offer("http://127.0.0.1:9")
    assert refused.value.param == "http://127.0.0.1:9"


async def offer(url: str) -> None:
    """Do what `ocr-inference mcp --url` does, which fails before its own streams are used."""
    await mcp_stdio.serve(Settings(), Config(), {}, mcp_stdio.remote(url, None))
