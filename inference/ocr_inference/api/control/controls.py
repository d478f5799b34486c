"""The classic controls: wake a model, offload it, unload it, change its idle timeout."""

from collections.abc import Mapping

from aiohttp import web

from ocr_inference.api.appkeys import CONFIG, LIVE_SETTINGS, MANAGER, respond
from ocr_inference.api.control import fields, health
from ocr_inference.api.pages import choose_model
from ocr_inference.errors import ApiError


async def load(request: web.Request) -> web.Response:
    """Make a model ready, as a page would. Without a model: the first one, since all of them need not fit together."""
    model = _model(request, await fields.read(request, ("model",)))
    async with request.app[MANAGER].lease(model or request.app[CONFIG].models[0].name):
        pass
    return _done(request, model)


async def offload(request: web.Request) -> web.Response:
    """Offload a model, after the requests that run, or all of them. Also serves `/cleanup`.

    With `if_idle`: at once or not at all (409), and only one model. With `force`: workers that are at work are killed.
    """
    sent = await fields.read(request, ("model", "all", "force", "if_idle", "min_resident_seconds"))
    force, if_idle = fields.flag(sent, "force"), fields.flag(sent, "if_idle")
    resident = "min_resident_seconds"
    if force and if_idle:
        raise ApiError(422, "invalid_value", "give either force or if_idle", param="force")
    if if_idle and "model" not in sent:
        raise ApiError(422, "missing_value", "if_idle needs model: which one may go", param="model")
    if resident in sent and not if_idle:
        raise ApiError(422, "invalid_value", f"{resident} needs if_idle: true", param=resident)
    model = _model(request, sent)
    if if_idle and model is not None:
        seconds = fields.seconds(sent, resident) if resident in sent else 0.0
        await request.app[MANAGER].offload_idle(model, seconds)
    else:
        await request.app[MANAGER].offload(model, force=force)
    return _done(request, model)


async def release(request: web.Request) -> web.Response:
    """Unload a model, after the requests that run, or all of them. `force` as of `offload`."""
    sent = await fields.read(request, ("model", "all", "force"))
    force, model = fields.flag(sent, "force"), _model(request, sent)
    await request.app[MANAGER].release(model, force=force)
    return _done(request, model)


async def timeout(request: web.Request) -> web.Response:
    """Set the idle time until offload, of a model or of all, at this server, until newer settings are declared."""
    sent = await fields.read(request, ("timeout", "model", "all"))
    seconds = fields.seconds(sent, "timeout", never=True)
    model = _model(request, {name: sent[name] for name in sent if name != "timeout"})
    request.app[LIVE_SETTINGS].set_timeout(model, seconds)
    return _done(request, model)


def _model(request: web.Request, sent: Mapping[str, object]) -> str | None:
    """Return the model that is meant. None, which is all of them, only where nothing was sent, or `all: true`."""
    whole = fields.flag(sent, "all")
    if "model" not in sent:
        if sent and not whole:
            raise ApiError(422, "missing_value", "say which model, or all: true", param="model")
        return None
    if whole:
        raise ApiError(422, "invalid_value", "give either model or all: true", param="all")
    name = sent["model"]
    if not isinstance(name, str) or not name:
        raise ApiError(
            422, "invalid_value", "model must be a model's name; leave it out for all of them", param="model"
        )
    return choose_model(request.app[CONFIG], name).name


def _done(request: web.Request, model: str | None) -> web.Response:
    app = request.app
    name = model or app[CONFIG].models[0].name
    return respond(
        {"success": True, **health.status(app[MANAGER].snapshot(), app[LIVE_SETTINGS].effective, name)}
    )
