"""The official SDK of the Model Context Protocol, which speaks it over HTTP; it is imported only here.

Each HTTP request gets a session manager of its own, without sessions: nothing outlives the request, and where its
client leaves, the tool that runs for it is cancelled with it.
"""

import logging
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from ocr_inference import __version__
from ocr_inference.api import faults
from ocr_inference.api.appkeys import REQUEST_ID
from ocr_inference.api.diversion import MAX_TEXT_BYTES
from ocr_inference.api.mcp import asgi, tools
from ocr_inference.errors import ApiError

log = logging.getLogger(__name__)
# It tells of each request's beginning and end; ours are in the access log.
logging.getLogger("mcp").setLevel(logging.WARNING)

_Context = ServerRequestContext[dict[str, Any], Any]


async def speak(scope: asgi.Message, receive: Any, send: Any) -> None:
    """Answer one request. Its scope has the `caller`."""
    # Who may ask, and under which name, is decided before (`api.origins`), for all routes by the same rules. What the
    # SDK adds to it would know neither Services nor OCR_ALLOWED_HOSTS.
    manager = StreamableHTTPSessionManager(
        _SERVER, stateless=True, max_request_body_size=2 * MAX_TEXT_BYTES, security_settings=None
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)


async def _list(_: _Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=_TOOLS)


async def _call(context: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    assert context.request is not None
    caller: tools.Caller = context.request.scope["caller"]
    try:
        result = await tools.call(
            caller, params.name, params.arguments or {}, context.session.report_progress
        )
    except Exception as error:
        # What is raised, the SDK answers with a bare code; a result is what the model reads.
        if (fault := faults.known(error)) is None:
            request_id = caller.request[REQUEST_ID]
            log.exception("tool failed tool=%r request_id=%s", params.name[:64], request_id)
            fault = faults.unexpected(request_id)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=_words(fault))],
            structured_content=fault.body(),
            is_error=True,
        )
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=result.text)], structured_content=result.data
    )


def _words(fault: ApiError) -> str:
    after = fault.retry_after_seconds
    again = "" if after is None else f" (try again in {after:g} s)"
    return f"{fault.message}{again}"


_TOOLS: Final = [
    types.Tool(
        name=each.name,
        title=each.title,
        description=each.description,
        input_schema=each.schema,
        annotations=types.ToolAnnotations(
            read_only_hint=not each.changes,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )
    for each in tools.TOOLS
]
_SERVER: Final = Server(
    "ocr-inference",
    version=__version__,
    instructions="Reads pictures and PDFs on this server's own models, and manages the GPU memory that they hold.",
    get_tool_input_schema={each.name: each.schema for each in tools.TOOLS}.get,
    on_list_tools=_list,
    on_call_tool=_call,
)
