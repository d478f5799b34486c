"""Whether the server lives, accepts requests, and what it holds: answers that never wait for a model."""

import platform
import time

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from ocr_inference.api.appkeys import CONFIG, LIVE_SETTINGS, MANAGER, METRICS, respond
from ocr_inference.api.pages import choose_model
from ocr_inference.config.settings import Effective
from ocr_inference.manager.manager import Snapshot

MIB = 1 << 20


async def livez(_request: web.Request) -> web.Response:
    """Answer while the event loop runs. A dead owner task ends the whole process, so nothing else is checked."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Answer whether requests are accepted, also when nothing is loaded: the first request loads."""
    if request.app[MANAGER].snapshot().draining:
        return web.Response(text="draining\n", status=503)
    return web.Response(text="ok\n")


async def metrics(request: web.Request) -> web.Response:
    body = request.app[METRICS].exposition()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def health(request: web.Request) -> web.Response:
    """Answer the compatible health document: the default model's location and the device's memory in MiB."""
    app = request.app
    snapshot = app[MANAGER].snapshot()
    return respond(
        {
            "status": "draining" if snapshot.draining else "healthy",
            "backend": snapshot.device.kind,
            "platform": f"{platform.system()} {platform.machine()}",
            "gpu_manager": True,
            **gpu(snapshot, app[LIVE_SETTINGS].effective, app[CONFIG].models[0].name),
        }
    )


async def gpu_status(request: web.Request) -> web.Response:
    app = request.app
    model = choose_model(app[CONFIG], request.query.get("model"))
    return respond(status(app[MANAGER].snapshot(), app[LIVE_SETTINGS].effective, model.name))


def status(snapshot: Snapshot, effective: Effective, name: str) -> dict[str, object]:
    """Return what the controls answer: the model's state and the compatible keys."""
    return {"model": name, "state": snapshot.model(name).state, **gpu(snapshot, effective, name)}


def gpu(snapshot: Snapshot, effective: Effective, name: str) -> dict[str, object]:
    """Return the compatible keys about one model and the device. Memory is what our models hold, not all that is used
    of the device; nothing is reserved beyond it."""
    device, model = snapshot.device, snapshot.model(name)
    idle_since = model.idle_since
    used = snapshot.memory_used_bytes if device.kind != "cpu" else 0
    return {
        "model_location": model.location,
        "idle_time": 0.0 if idle_since is None else round(max(0.0, time.time() - idle_since.timestamp()), 1),
        "device": device.kind if device.uuid is None else f"{device.kind}:{device.uuid}",
        "timeout": effective.models[name].idle.offload_after_seconds,
        "gpu_memory_allocated": round(used / MIB, 1),
        "gpu_memory_reserved": round(used / MIB, 1),
        "gpu_memory_free": round(max(0, device.memory_total_bytes - used) / MIB, 1),
    }
