"""The classic controls: wake a model, offload it, unload it, empty caches, change its idle timeout."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from aiohttp import web

from ocr_inference.api.appkeys import CONFIG, LIVE_SETTINGS, MANAGER, respond
from ocr_inference.api.control import cleanup, fields, health
from ocr_inference.api.openapi.operations import Tag, documented, json
from ocr_inference.api.pages import choose_model
from ocr_inference.errors import ApiError
from ocr_wire.settings import NEVER

TIMEOUTS: Final = ("timeout", "timeout_seconds")
"""Names of the idle time; tools of assistants have the second one."""


class Controlled(health.Status):
    """Answer of a control: what was done, and what is true of the model afterwards, of all of them the first."""

    success: Literal[True]
    message: str


class CleanedUpAll(Controlled):
    workers: list[dict[str, Any]]


_LOAD: Final = ("model",)
_OFFLOAD: Final = ("model", "all", "force", "if_idle", "min_resident_seconds")
_CLEAN_UP: Final = ("model", "all")
_RELEASE: Final = ("model", "all", "force")
_TIMEOUT: Final = (*TIMEOUTS, "model", "all")
"""Fields of each control."""


@documented(
    "Wake a model without a page",
    tag=Tag.CONTROL,
    takes=fields.documents(_LOAD),
    needs_body=False,
    answers=json(Controlled),
)
async def load(request: web.Request) -> web.Response:
    """Make a model ready, as a page would. Without a model: the first one, since all of them need not fit together."""
    model = _model(request, await fields.read(request, _LOAD))
    name = model or request.app[CONFIG].models[0].name
    async with request.app[MANAGER].lease(name):
        pass
    return _done(request, model, {"message": f"model {name} is ready"})


@documented(
    "Move weights from the GPU to host memory",
    tag=Tag.CONTROL,
    description="After the requests that run. Fields may stand in the query, too.",
    takes=fields.documents(_OFFLOAD),
    needs_body=False,
    answers=json(Controlled),
)
async def offload(request: web.Request) -> web.Response:
    """Offload a model, after the requests that run, or all of them.

    With `if_idle`: at once or not at all (409), and only one model. With `force`: workers that are at work are killed.
    """
    sent = await fields.read(request, _OFFLOAD)
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
    return _done(request, model, {"message": f"off the GPU: {_named(model)}"})


@documented(
    "Empty caches; models stay where they are",
    tag=Tag.CONTROL,
    takes=fields.documents(_CLEAN_UP),
    needs_body=False,
    answers=json(CleanedUpAll),
)
async def clean_up(request: web.Request) -> web.Response:
    """Empty the caches of running workers; models stay where they are, and pages are read on."""
    model = _model(request, await fields.read(request, _CLEAN_UP))
    cleaned = await request.app[MANAGER].clean_up(model)
    return _done(request, model, cleanup.report(cleaned))


@documented(
    "Drop weights altogether",
    tag=Tag.CONTROL,
    description="After the requests that run. Fields may stand in the query, too.",
    takes=fields.documents(_RELEASE),
    needs_body=False,
    answers=json(Controlled),
)
async def release(request: web.Request) -> web.Response:
    """Unload a model, after the requests that run, or all of them. `force` as of `offload`."""
    sent = await fields.read(request, _RELEASE)
    force, model = fields.flag(sent, "force"), _model(request, sent)
    await request.app[MANAGER].release(model, force=force)
    return _done(request, model, {"message": f"unloaded: {_named(model)}"})


@documented(
    "Set the idle timeout at this server",
    tag=Tag.CONTROL,
    takes=fields.documents(("timeout", "model", "all")),
    answers=json(Controlled),
)
async def timeout(request: web.Request) -> web.Response:
    """Set the idle time until offload, of a model or of all, at this server, until newer settings are declared."""
    sent = await fields.read(request, _TIMEOUT)
    found = {name: fields.seconds(sent, name, never=True) for name in TIMEOUTS if name in sent}
    if len({*found.values()}) > 1:
        raise ApiError(422, "invalid_value", f"{' and '.join(found)} differ: send one", param=TIMEOUTS[1])
    seconds = next(iter(found.values())) if found else fields.seconds(sent, TIMEOUTS[0], never=True)
    model = _model(request, {name: sent[name] for name in sent if name not in TIMEOUTS})
    request.app[LIVE_SETTINGS].set_timeout(model, seconds)
    time = "never" if seconds == NEVER else f"{seconds:g} s"
    return _done(request, model, {"message": f"idle time until offload of {_named(model)}: {time}"})


def _named(model: str | None) -> str:
    return "all models" if model is None else f"model {model}"


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


def _done(request: web.Request, model: str | None, report: Mapping[str, object]) -> web.Response:
    app = request.app
    name = model or app[CONFIG].models[0].name
    status = health.status(app[MANAGER], app[LIVE_SETTINGS].effective, name)
    return respond({"success": True, **report, **status})
