"""`GET /v1/state`: all that an observer needs, as one object, once or as a stream of changes."""

import asyncio

from aiohttp import web

from ocr_inference.api import sse
from ocr_inference.api.appkeys import LATEST_STATE, MOST_WATCHES, respond
from ocr_inference.api.middleware import is_admin
from ocr_inference.api.openapi.operations import EVENTS, Field, Tag, documented
from ocr_inference.errors import ApiError
from ocr_wire.state import PodState

MORE_FOR_ADMINS = 16
"""Watches beyond those of everyone, for the admin token alone: other clients can't keep the operator out."""


@documented(
    "All that an observer needs, once or as a stream of changes",
    tag=Tag.LOOK,
    query={
        "watch": Field({"type": "boolean", "default": False}, "whether changes follow, as server-sent events")
    },
    answers={"application/json": PodState, **EVENTS},
)
async def state(request: web.Request) -> web.StreamResponse:
    match request.query.get("watch", "false").lower():
        case "true" | "1":
            return await _watch(request)
        case "false" | "0":
            return respond(request.app[LATEST_STATE].document())
        case other:
            raise ApiError(422, "invalid_value", f"watch is true or false; got {other[:40]!r}", param="watch")


async def _watch(request: web.Request) -> web.StreamResponse:
    latest = request.app[LATEST_STATE]
    limit = request.app[MOST_WATCHES]
    if latest.watchers >= limit and await is_admin(request):
        limit += MORE_FOR_ADMINS
    if latest.watchers >= limit:
        raise ApiError(
            429,
            "too_many_watchers",
            f"{limit} watch already",
            retry_after_seconds=sse.HEARTBEAT_SECONDS,
        )
    with latest.watched():
        events, version = sse.Events(request), -1
        try:
            await events.open()
            while request.method != "HEAD":  # whose answer is the head alone
                try:
                    async with asyncio.timeout(sse.HEARTBEAT_SECONDS):
                        newer, data = await latest.encoded.after(version)
                except TimeoutError:
                    await events.heartbeat()
                    continue
                if newer == version:
                    return events.response  # Closed: the server goes down.
                version = newer
                await events.send(data, "state")
        except sse.Gone:
            pass
        return events.response
