"""Keys of what handlers get from the application; `app` puts it there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from ocr_inference.api import origins
from ocr_inference.api.bodies import Bodies
from ocr_inference.api.control.latest_state import LatestState
from ocr_inference.api.jobs.view import Writer
from ocr_inference.api.mistral.file_store import FileStore
from ocr_inference.api.peers.client import Peers
from ocr_inference.api.tokens import TokenFile
from ocr_inference.api.ui import files
from ocr_inference.config.live_settings import LiveSettingsOwner
from ocr_inference.config.settings import Config
from ocr_inference.documents.places import Places
from ocr_inference.jobs.owner import Jobs
from ocr_inference.manager.manager import Manager
from ocr_inference.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """Tokens that allow calls; None: all are allowed, but the controls where calls have tokens. Routes are (method,
    path)."""

    calls: TokenFile | None
    controls: TokenFile | None
    call_routes: frozenset[tuple[str, str]]
    control_routes: frozenset[tuple[str, str]]
    tool_routes: frozenset[tuple[str, str]]
    """Routes that any of these tokens opens; what is done there needs the right one."""
    look_routes: frozenset[str]
    """Paths."""


CONFIG = web.AppKey("config", Config)
MANAGER = web.AppKey("manager", Manager)
BODIES = web.AppKey("bodies", Bodies)
PLACES = web.AppKey("places", Places)
"""For processes that render documents that requests wait for."""
JOBS = web.AppKey("jobs", Jobs)
JOB_WRITER = web.AppKey("job_writer", Writer)
FILES = web.AppKey("files", FileStore)
LIVE_SETTINGS = web.AppKey("live_settings", LiveSettingsOwner)
LATEST_STATE = web.AppKey("latest_state", LatestState)
METRICS = web.AppKey("metrics", Metrics)
ACCESS = web.AppKey("access", Access)
PEERS = web.AppKey("peers", Peers)
ORIGINS = web.AppKey("origins", origins.Policy)
MOST_WATCHES = web.AppKey("most_watches", int)
"""Watches of the state that need no token."""
OPENAPI = web.AppKey("openapi", bytes)
"""The OpenAPI document."""
UI_FILES = web.AppKey[files.Table]("ui_files")
"""Files of the web page."""
STARTED = web.AppKey("started", int)
"""Unix time of the start, whole seconds."""

REQUEST_ID = web.RequestKey("request_id", str)
CORS_HEADERS = web.RequestKey("cors_headers", dict[str, str])
"""Headers of every answer to this request, streams included."""


def respond(value: object, status: int = 200) -> web.Response:
    """Make a JSON answer."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
