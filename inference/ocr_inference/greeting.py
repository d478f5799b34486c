"""What a server says at its start: where it is reached, and what it serves on."""

import enum
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ocr_inference.config.settings import Settings
from ocr_inference.device.gpu import Device

_ALL: Final = ("", "0.0.0.0", "::")
"""Hosts that mean every address."""
_MARKS: Final = ("/.dockerenv", "/run/.containerenv")
"""Files of Docker and Podman in each container."""


class Place(enum.Enum):
    """Surroundings of the process."""

    MACHINE = "machine"
    CONTAINER = "container"
    POD = "pod"


def place(environ: Mapping[str, str], root: Path = Path("/")) -> Place:
    """Return where this process runs."""
    if environ.get("KUBERNETES_SERVICE_HOST") or environ.get("POD_NAME"):
        return Place.POD
    if environ.get("container") or any((root / mark[1:]).exists() for mark in _MARKS):
        return Place.CONTAINER
    return Place.MACHINE


def lines(url: str, device: Device, settings: Settings, place: Place) -> Iterator[str]:
    """Yield sentences for people; `url` is where this machine reaches the server."""
    yield f"serving on {url}, page {url}/, docs {url}/docs, {_served_on(device)}"
    if place is Place.POD:
        return
    port = url.rpartition(":")[2]
    everywhere = settings.host in _ALL
    if place is Place.CONTAINER and everywhere:
        yield (
            f"in a container: publish port {port}, as by docker run --publish 127.0.0.1:{port}:{port}, and open"
            f" http://localhost:{port}/ on its host"
        )
    elif place is Place.CONTAINER:
        yield f"in a container, at {settings.host} of it alone: unset OCR_HOST to publish port {port}"
    if everywhere and not settings.has_tokens:
        yield (
            f"whoever reaches port {port} may read pages and control models: set OCR_API_KEYS_FILE and"
            " OCR_ADMIN_TOKEN_FILE, or "
            + ("publish it at 127.0.0.1 alone" if place is Place.CONTAINER else "OCR_HOST=127.0.0.1")
        )


def _served_on(device: Device) -> str:
    if device.uuid is None:
        return "CPU"
    kind = "" if device.kind == "cuda" else f"{device.kind} "
    return f"{kind}GPU {device.product} {device.uuid} ({device.memory_total_bytes / (1 << 30):.1f} GiB)"
