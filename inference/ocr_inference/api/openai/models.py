"""`GET /v1/models`, in OpenAI's shape, with the state and location of each model."""

from typing import Any

from aiohttp import web

from ocr_inference.api.appkeys import CONFIG, MANAGER, STARTED, respond
from ocr_inference.api.pages import choose_model
from ocr_wire.state import Model


async def models(request: web.Request) -> web.Response:
    """List the models; the first one is the default model."""
    created = request.app[STARTED]
    data = [_object(model, created) for model in request.app[MANAGER].snapshot().models]
    return respond({"object": "list", "data": data})


async def model(request: web.Request) -> web.Response:
    name = choose_model(request.app[CONFIG], request.match_info["model"]).name
    return respond(_object(request.app[MANAGER].snapshot().model(name), request.app[STARTED]))


def _object(model: Model, created: int) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "ocr-operator",
        "engine": model.engine,
        "state": model.state,
        "location": model.location,
    }
