"""`PUT /v1/settings`: newer live settings, applied at once and echoed."""

from aiohttp import web
from msgspec import Struct

from ocr_inference.api import forms
from ocr_inference.api.appkeys import LIVE_SETTINGS, respond
from ocr_inference.api.control import fields
from ocr_inference.api.openapi.operations import Tag, documented, json
from ocr_wire.live_settings import Envelope, LiveValues
from ocr_wire.text import Counter

MAX_BODY_BYTES = 1 << 20
"""Bound on what is read; a body over the bound of live settings is refused as such."""


class SettingsBody(Struct, frozen=True):
    """Body, as it is documented; `LiveSettingsOwner` reads it, and passes over what it doesn't know."""

    generation: Counter
    revision: Counter
    values: LiveValues
    hash: str = ""


@documented("Declare the live settings", tag=Tag.CONTROL, takes=json(SettingsBody), answers=json(Envelope))
async def put(request: web.Request) -> web.Response:
    fields.merged(request.query.items(), ())  # settings of one model stand in the body, not in the query
    if request.body_exists:
        forms.json_size(request, MAX_BODY_BYTES)
    return respond(request.app[LIVE_SETTINGS].declare(bytes(await forms.read_body(request, MAX_BODY_BYTES))))
