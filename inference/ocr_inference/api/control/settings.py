"""`PUT /v1/settings`: newer live settings, applied at once and echoed."""

from aiohttp import web

from ocr_inference.api.appkeys import LIVE_SETTINGS, respond


async def put(request: web.Request) -> web.Response:
    return respond(request.app[LIVE_SETTINGS].declare(await request.read()))
