"""The classic controls: wake a model, offload it, unload it, change its idle timeout."""

import math
from collections.abc import Mapping

from aiohttp import web

from ocr_inference.api import forms
from ocr_inference.api.appkeys import CONFIG, LIVE_SETTINGS, MANAGER, respond
from ocr_inference.api.control import health
from ocr_inference.api.pages import choose_model
from ocr_inference.errors import ApiError
from ocr_wire.settings import MAX_SECONDS


async def load(request: web.Request) -> web.Response:
    """Make a model ready, as a page would. Without a model: the first one, since all of them need not fit together."""
    model = _model(request, await forms.read_fields(request, ("model",)))
    async with request.app[MANAGER].lease(model or request.app[CONFIG].models[0].name):
        pass
    return _done(request, model)


async def offload(request: web.Request) -> web.Response:
    """Offload a model, after the requests that run; without a model: all of them. Also serves `/cleanup`.

    With `if_idle`: at once or not at all (409), and only one model.
    """
    fields = await forms.read_fields(request, ("model", "if_idle", "min_resident_seconds"))
    model = _model(request, fields)
    resident = fields.get("min_resident_seconds")
    if _flag(fields, "if_idle"):
        if model is None:
            raise ApiError(422, "missing_value", "if_idle needs model: which one may go", param="model")
        seconds = 0.0 if resident is None else _seconds(resident, "min_resident_seconds")
        await request.app[MANAGER].offload_idle(model, seconds)
        return _done(request, model)
    if resident is not None:
        raise ApiError(
            422, "invalid_value", "min_resident_seconds needs if_idle: true", param="min_resident_seconds"
        )
    await request.app[MANAGER].offload(model)
    return _done(request, model)


async def release(request: web.Request) -> web.Response:
    """Unload a model, after the requests that run; without a model: all of them."""
    model = _model(request, await forms.read_fields(request, ("model",)))
    await request.app[MANAGER].release(model)
    return _done(request, model)


async def timeout(request: web.Request) -> web.Response:
    """Set the idle time until offload, at this server, until newer settings are declared."""
    fields = await forms.read_fields(request, ("timeout", "model"))
    model = _model(request, fields)
    request.app[LIVE_SETTINGS].set_timeout(model, _seconds(fields.get("timeout"), "timeout", never=True))
    return _done(request, model)


def _model(request: web.Request, fields: Mapping[str, object]) -> str | None:
    name = fields.get("model")
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        raise ApiError(422, "invalid_value", "model must be a model's name", param="model")
    return choose_model(request.app[CONFIG], name).name


def _flag(fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name, False)
    if value in (True, "true"):
        return True
    if value in (False, "false", ""):
        return False
    raise ApiError(422, "invalid_value", f"{name} is true or false; got {str(value)[:40]!r}", param=name)


def _seconds(value: object, name: str, *, never: bool = False) -> float:
    or_never = ", or -1 for never" if never else ""
    if value is None or value == "":
        raise ApiError(422, "missing_value", f"{name} is needed: seconds{or_never}", param=name)
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not (0 <= seconds <= MAX_SECONDS or (never and seconds == -1)):
        raise ApiError(
            422,
            "invalid_value",
            f"{name} is seconds from 0 to {MAX_SECONDS}{or_never}; got {str(value)[:40]!r}",
            param=name,
        )
    return seconds


def _done(request: web.Request, model: str | None) -> web.Response:
    app = request.app
    name = model or app[CONFIG].models[0].name
    return respond(
        {"success": True, **health.status(app[MANAGER].snapshot(), app[LIVE_SETTINGS].effective, name)}
    )
