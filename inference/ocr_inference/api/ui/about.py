"""What `GET /` tells a program: browsers ask for HTML by name, programs take whatever comes.

Clients of the low-VRAM server ask it what it is before they begin, and read JSON.
"""

from collections.abc import Iterable
from typing import Literal, TypedDict

from ocr_inference import __version__


class About(TypedDict):
    name: str
    version: str
    status: Literal["running"]
    model: str
    """The default model."""
    endpoints: dict[str, str]
    """What it is for → the path."""
    openapi: str
    """The document with all calls."""


ENDPOINTS = {
    "health": "/health",
    "ocr": "/ocr",
    "ocr_base64": "/ocr-base64",
    "cleanup": "/cleanup",
    "jobs": "/v1/jobs",
    "chat": "/v1/chat/completions",
    "state": "/v1/state",
    "page": "/",
}


def wants_page(accept: Iterable[str]) -> bool:
    """Return whether HTML is accepted by its name."""
    kinds = [each.partition(";")[0].strip().lower() for line in accept for each in line.split(",")]
    return "text/html" in kinds or "application/xhtml+xml" in kinds


def about(model: str) -> About:
    return {
        "name": "ocr-inference",
        "version": __version__,
        "status": "running",
        "model": model,
        "endpoints": ENDPOINTS,
        "openapi": "/openapi.json",
    }
