"""The device that models are served on."""

from dataclasses import dataclass
from typing import Literal

from ocr_inference.settings import Settings


@dataclass(frozen=True)
class Device:
    kind: Literal["cuda", "cpu", "simulated"]
    uuid: str | None = None
    product: str | None = None
    memory_total_bytes: int = 0
    """0 on a CPU: its memory isn't ours to budget."""


class NoDevice(Exception):
    """The device that was asked for isn't there; the message names the variable and the way out."""


def resolve(settings: Settings) -> Device:
    raise NotImplementedError
