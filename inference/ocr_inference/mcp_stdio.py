"""`ocr-inference mcp`: the tools of a server over standard input and output, for an assistant on this machine.

The tools are those of the server's `/mcp`, whichever it has. What is added here: a tool that takes a document also
takes its path, since a model can't write down a picture. The file is read here and sent as if the model had.

Without a server's URL one is started in this process. It listens on the loopback address under a port that the system
chooses, and answers only to a token that is made up here.
"""

import asyncio
import base64
import copy
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from ocr_inference import __version__, app
from ocr_inference.config.settings import Config, InvalidSettings, Settings
from ocr_inference.errors import MCP_PATH
from ocr_wire import tokens

MAX_FILE_BYTES: Final = 1 << 28
"""Bytes of a document that are read here; the server has its own, smaller bound."""
CONNECT_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 60.0
"""The server sends something at least every 15 s while a tool runs."""

_Context = ServerRequestContext[dict[str, Any], Any]


@dataclass(frozen=True)
class Remote:
    """Server whose tools are offered."""

    url: str
    token: str | None = None
    is_local: bool = False
    """Whether it is reached without a proxy, whatever the environment says."""


def remote(url: str, token_file: str | None) -> Remote:
    """Return the server that the command line names; raises `InvalidSettings`."""
    if not url.startswith(("http://", "https://")):
        raise InvalidSettings("expected http://… or https://…", "--url")
    if token_file is None:
        return Remote(url)
    try:
        token = tokens.parse(Path(token_file).read_bytes())
    except (OSError, tokens.Unusable) as error:
        raise InvalidSettings(f"no token can be read from it: {error}", token_file) from error
    return Remote(url, token)


async def serve(
    settings: Settings, config: Config, environ: Mapping[str, str], server: Remote | None
) -> None:
    """Answer the client at the other end until it closes its end. Raises `InvalidSettings` where the server doesn't
    answer."""
    if server is None:
        async with _local(settings, config, environ) as started:
            await _offer(started)
    else:
        await _offer(server)


@asynccontextmanager
async def _local(settings: Settings, config: Config, environ: Mapping[str, str]) -> AsyncIterator[Remote]:
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="ocr-mcp-") as folder:
        file = Path(folder) / "token"
        file.touch(mode=0o600)
        file.write_text(token)
        private = replace(
            settings, host="127.0.0.1", port=0, api_keys_file=file, admin_token_file=file, cors_origins=()
        )
        async with app.serving(private, config, environ) as running:
            yield Remote(running.url, token, is_local=True)


async def _offer(server: Remote) -> None:
    headers = {} if server.token is None else {"Authorization": f"Bearer {server.token}"}
    timeout = httpx2.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
    try:
        async with httpx2.AsyncClient(
            headers=headers, timeout=timeout, trust_env=not server.is_local
        ) as http:
            transport = streamable_http_client(server.url.rstrip("/") + MCP_PATH, http_client=http)
            async with Client(transport) as client, stdio_server() as (read, write):
                mine = _server(client)
                await mine.run(read, write, mine.create_initialization_options())
    except Exception as error:
        first = _first(error)
        if isinstance(first, MCPError | httpx2.HTTPError):
            raise InvalidSettings(
                f"no tools from this server: {str(first) or type(first).__name__}", server.url
            ) from error
        raise


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group: the SDK's tasks raise groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _server(client: Client) -> Server[dict[str, Any]]:
    async def listed(_: _Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_with_path(tool) for tool in (await client.list_tools()).tools])

    async def call(context: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            sent = await _with_file(client, params.name, params.arguments or {})
        except Unreadable as error:
            return types.CallToolResult(
                content=[types.TextContent(type="text", text=str(error))], is_error=True
            )
        return await client.call_tool(params.name, sent, progress_callback=context.session.report_progress)

    return Server(
        "ocr-inference",
        version=__version__,
        instructions=client.instructions,
        on_list_tools=listed,
        on_call_tool=call,
    )


# --- paths in place of documents ------------------------------------------------------------------------------


class Unreadable(Exception):
    """File that can't be sent; says why."""


def _document(tool: types.Tool) -> str | None:
    """Return the argument that takes a document's bytes, if there is one."""
    properties = tool.input_schema.get("properties", {})
    return next((name for name, each in properties.items() if each.get("contentEncoding") == "base64"), None)


def _with_path(tool: types.Tool) -> types.Tool:
    """Return a tool whose document can be named by its path."""
    if (document := _document(tool)) is None:
        return tool
    schema = copy.deepcopy(tool.input_schema)
    schema["properties"] = {
        "path": {"type": "string", "description": f"Path of a file on this machine, instead of {document}."},
        **schema["properties"],
    }
    schema["required"] = [each for each in schema.get("required", ()) if each != document]
    return tool.model_copy(update={"input_schema": schema})


async def _with_file(client: Client, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the document in place of its path; raises `Unreadable`."""
    sent = dict(arguments)
    if "path" not in sent:
        return sent
    found = next((_document(tool) for tool in (await client.list_tools()).tools if tool.name == name), None)
    if found is None:
        return sent
    if found in sent:
        raise Unreadable(f"give either path or {found}")
    path = sent.pop("path")
    if not isinstance(path, str):
        raise Unreadable("path must be a string")
    sent[found] = await asyncio.to_thread(_data_url, path)
    return sent


def _data_url(name: str) -> str:
    path = Path(name).expanduser()
    try:
        if not path.is_file():
            raise Unreadable(f"{path} is no file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"{path} can't be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable(f"{path} has more than {MAX_FILE_BYTES} bytes")
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
