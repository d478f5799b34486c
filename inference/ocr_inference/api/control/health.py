"""Whether the server lives, accepts requests, and what it holds: answers that never wait for a model."""

import platform
from typing import Literal, TypedDict

from aiohttp import web

from ocr_inference.api.appkeys import CONFIG, LIVE_SETTINGS, MANAGER, METRICS, respond
from ocr_inference.api.openapi.operations import TEXT, Field, Tag, documented, json
from ocr_inference.api.pages import choose_model
from ocr_inference.config.settings import Effective, ModelConfig
from ocr_inference.manager.manager import Manager
from ocr_wire.state import Queue
from ocr_wire.states import Location, State

MIB = 1 << 20
GIB = 1 << 30


class Held(TypedDict):
    """Compatible keys about one model and the device; memory in MiB."""

    model_location: Location
    idle_time: float
    device: str
    timeout: float
    gpu_memory_allocated: float
    gpu_memory_reserved: float
    gpu_memory_free: float
    gpu_memory_allocated_gb: float


class Status(Held):
    model: str
    state: State


class OcrQueue(TypedDict):
    depth: int
    max_size: int
    is_full: bool


class Health(Held):
    """Keys of all comparable servers."""

    status: Literal["healthy", "busy", "full", "draining"]
    backend: str
    platform: str
    gpu_manager: bool
    machine: str
    model_loaded: bool
    tokenizer_loaded: bool
    model_version: str
    mode: str
    gpu_name: str | None
    gpu_memory_total: float
    ocr_queue: OcrQueue


@documented("Whether the process should go on", tag=Tag.LOOK, answers=TEXT, others={503: TEXT})
async def livez(request: web.Request) -> web.Response:
    """Answer whether the process should go on: 503 with the reason where only a restart may help. A dead owner task
    ends the whole process."""
    if (reason := request.app[MANAGER].unhealthy_reason) is not None:
        return web.Response(text=f"{reason}\n", status=503)
    return web.Response(text="ok\n")


@documented("Whether requests are accepted", tag=Tag.LOOK, answers=TEXT, others={503: TEXT})
async def readyz(request: web.Request) -> web.Response:
    """Answer whether requests are accepted, also when nothing is loaded: the first request loads. Where the engine of
    no model is installed, none ever is."""
    manager = request.app[MANAGER]
    if manager.snapshot().draining:
        return web.Response(text="draining\n", status=503)
    if (reason := manager.unready_reason) is not None:
        return web.Response(text=f"{reason}\n", status=503)
    return web.Response(text="ok\n")


@documented(
    "Metrics of Prometheus",
    tag=Tag.LOOK,
    answers={**TEXT, "application/openmetrics-text": {"type": "string"}},
)
async def metrics(request: web.Request) -> web.Response:
    accept = ",".join(request.headers.getall("Accept", ()))
    body, media_type = request.app[METRICS].exposition(accept)
    return web.Response(body=body, headers={"Content-Type": media_type, "Vary": "Accept"})


@documented("The compatible health document", tag=Tag.LOOK, answers=json(Health))
async def health(request: web.Request) -> web.Response:
    """Answer the health document: the keys of all comparable servers, about the first model, memory in MiB."""
    app = request.app
    snapshot, model = app[MANAGER].snapshot(), app[CONFIG].models[0]
    device, queue = snapshot.device, snapshot.queue
    loaded = snapshot.model(model.name).location is not Location.UNLOADED
    found: Health = {
        "status": condition(queue, draining=snapshot.draining),
        "backend": device.kind,
        "platform": f"{platform.system()} {platform.machine()}",
        "gpu_manager": True,
        **gpu(app[MANAGER], app[LIVE_SETTINGS].effective, model.name),
        "machine": platform.machine(),
        "model_loaded": loaded,
        "tokenizer_loaded": loaded,
        "model_version": version(model),
        "mode": f"{model.engine} on {device.kind}",
        "gpu_name": device.product,
        "gpu_memory_total": round(device.memory_total_bytes / MIB, 1),
        "ocr_queue": {
            "depth": queue.waiting,
            "max_size": queue.limit,
            "is_full": queue.waiting >= queue.limit,
        },
    }
    return respond(found)


def condition(queue: Queue, *, draining: bool) -> Literal["healthy", "busy", "full", "draining"]:
    """Return the word for `status`. Pages of DeepSeek-OCR-WebUI wait while it isn't `healthy`, so a request that is
    only being read doesn't make it `busy`."""
    if draining:
        return "draining"
    if queue.waiting >= queue.limit:
        return "full"
    return "busy" if queue.waiting else "healthy"


def version(model: ModelConfig) -> str:
    """Return what the model is known by: the last part of its source, or its name."""
    source = model.source
    if source is None:
        return model.name
    place = source.path if source.hugging_face is None else source.hugging_face.repo
    return (place or "").rstrip("/").rpartition("/")[2] or model.name


@documented(
    "A model's location and the GPU's memory",
    tag=Tag.LOOK,
    query={"model": Field({"type": "string"}, "one of `GET /v1/models`; else the first one")},
    answers=json(Status),
)
async def gpu_status(request: web.Request) -> web.Response:
    app = request.app
    model = choose_model(app[CONFIG], request.query.get("model"))
    return respond(status(app[MANAGER], app[LIVE_SETTINGS].effective, model.name))


def status(manager: Manager, effective: Effective, name: str) -> Status:
    """Return what the controls answer: the model's state and the compatible keys."""
    return {"model": name, "state": manager.snapshot().model(name).state, **gpu(manager, effective, name)}


def gpu(manager: Manager, effective: Effective, name: str) -> Held:
    """Return the compatible keys about one model and the device. Memory is what our models hold, not all that is used
    of the device; nothing is reserved beyond it."""
    snapshot = manager.snapshot()
    device, model = snapshot.device, snapshot.model(name)
    used = snapshot.memory_used_bytes if device.kind != "cpu" else 0
    return {
        "model_location": model.location,
        "idle_time": round(manager.idle_seconds(name), 1),
        "device": device.kind if device.uuid is None else f"{device.kind}:{device.uuid}",
        "timeout": effective.models[name].idle.offload_after_seconds,
        "gpu_memory_allocated": round(used / MIB, 1),
        "gpu_memory_reserved": round(used / MIB, 1),
        "gpu_memory_free": round(max(0, device.memory_total_bytes - used) / MIB, 1),
        "gpu_memory_allocated_gb": round(used / GIB, 2),
    }
