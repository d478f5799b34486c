"""`POST /mcp`: the Model Context Protocol over streamable HTTP.

The protocol is the SDK's, which takes a second and 40 MiB to import: that is done in a thread, by the first call. A
server whose tools are never called doesn't pay for them.
"""

import asyncio
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import Final

from aiohttp import web

from ocr_inference.api import forms
from ocr_inference.api.appkeys import BODIES, CONFIG
from ocr_inference.api.mcp import asgi
from ocr_inference.api.mcp.sent import Sent
from ocr_inference.api.mcp.tools import Caller
from ocr_inference.api.openapi.operations import EVENTS, Schema, Tag, documented, json
from ocr_inference.errors import ApiError

INSTALLED: Final = find_spec("mcp") is not None


_ID: Final[Schema] = {"type": ["string", "integer"]}
_REQUEST: Final[Schema] = {
    "type": "object",
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {**_ID, "description": "none where no answer is wanted"},
        "method": {"type": "string", "description": "such as `tools/list` or `tools/call`"},
        "params": {"type": "object"},
    },
    "required": ["jsonrpc", "method"],
}
_ANSWER: Final[Schema] = {
    "type": "object",
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"type": [*_ID["type"], "null"]},
        "result": {"type": "object"},
        "error": {"type": "object"},
    },
    "required": ["jsonrpc", "id"],
}
"""Messages of JSON-RPC; what is in them is the protocol's."""


@documented(
    "The Model Context Protocol",
    tag=Tag.READ,
    description="One message of JSON-RPC. Clients accept both of the types of answers.",
    takes=json(_REQUEST),
    answers={"application/json": _ANSWER, **EVENTS},
    others={202: {}},
)
async def mcp(request: web.Request) -> web.StreamResponse:
    """Answer one message of a client. There are no sessions: each message is whole, so any replica may get the next."""
    if not INSTALLED:
        raise ApiError(
            404, "mcp_unavailable", "MCP isn't installed here: install ocr-operator with extra 'mcp'"
        )
    most = request.app[CONFIG].server.limits.max_upload_bytes
    size = forms.json_size(request, forms.most_json_bytes(most))
    async with request.app[BODIES].admitted(size) as reserved, AsyncExitStack() as files:
        sent = Sent(files.enter_context(reserved.file()), most)
        await forms.copy_body(request, forms.most_json_bytes(most), sent.add)
        reserved.shrink(sent.size)
        await asyncio.to_thread(sent.refuse_many)
        speak = await asyncio.to_thread(_protocol)
        return await asgi.respond(request, speak, sent.text, {"caller": Caller(request, sent, reserved)})


def _protocol() -> asgi.Application:
    from ocr_inference.api.mcp import sdk  # noqa: PLC0415 - see above

    return sdk.speak
