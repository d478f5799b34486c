"""`GET /v1/models`, in OpenAI's shape, with the state and location of each model."""

from typing import Literal, TypedDict

from aiohttp import web

from ocr_inference import families
from ocr_inference.api.appkeys import CONFIG, MANAGER, STARTED, respond
from ocr_inference.api.openapi.operations import Tag, documented, json
from ocr_inference.api.pages import choose_model
from ocr_wire import engines
from ocr_wire.state import Model
from ocr_wire.states import Location, State
from ocr_wire.tasks import Task


class ModelObject(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    engine: str | None
    state: State
    location: Location
    scripts: list[str] | None
    """Codes (ISO 15924) of the scripts that it reads."""
    tasks: list[Task]
    """Tasks that it can do, as `prompt_type` names them."""


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelObject]


@documented("The models", tag=Tag.MODELS, answers=json(ModelList))
async def models(request: web.Request) -> web.Response:
    """List the models; the first one is the default model."""
    return respond(ModelList(object="list", data=listed(request.app)))


def listed(app: web.Application) -> list[ModelObject]:
    """Return the models' objects."""
    return [_object(model, app[STARTED]) for model in app[MANAGER].snapshot().models]


@documented("One model", tag=Tag.MODELS, answers=json(ModelObject))
async def model(request: web.Request) -> web.Response:
    name = choose_model(request.app[CONFIG], request.match_info["model"]).name
    return respond(_object(request.app[MANAGER].snapshot().model(name), request.app[STARTED]))


def _object(model: Model, created: int) -> ModelObject:
    engine = engines.BY_NAME.get(model.engine or "")
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "ocr-operator",
        "engine": model.engine,
        "state": model.state,
        "location": model.location,
        "scripts": list(engine.scripts) if engine and engine.scripts else None,
        "tasks": list(families.of(engine.name).tasks) if engine else [],
    }
