"""`GET /v1/state`: all that an observer needs, as one object, once or as a stream of changes."""

import asyncio

from aiohttp import web

from ocr_inference.api import sse
from ocr_inference.api.appkeys import LATEST_STATE, respond
from ocr_inference.errors import ApiError

MAX_WATCHERS = 64


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
    if latest.watchers >= MAX_WATCHERS:
        raise ApiError(
            429,
            "too_many_watchers",
            f"{MAX_WATCHERS} watch already",
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
