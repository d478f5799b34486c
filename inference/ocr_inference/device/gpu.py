"""Types of devices and GPUs, and the simulated GPUs.

A simulated GPU replaces a real one in demonstrations and tests: a folder holds `gpus.json` (the GPUs) and
`usage/<uuid>/<pid>.json` (what each process takes, by its own count).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from ocr_wire import numbers, text

Kind = Literal["cuda", "cpu", "simulated"]

MAX_FILE_BYTES = 1 << 20
MAX_PID = 1 << 22
"""Bound that Linux has for process ids."""
MAX_USERS = 4096
"""Usage files looked at per GPU."""


@dataclass(frozen=True)
class Device:
    """Device that the server serves on."""

    kind: Kind
    uuid: str | None = None
    product: str | None = None
    memory_total_bytes: int = 0
    """0 on a CPU: its memory isn't ours to budget."""
    compute_capability: tuple[int, int] | None = None
    """Of a CUDA device."""


class NoDevice(Exception):
    """Device that was configured and isn't there; the message names the variable and the way out."""


class Gpu(Struct, frozen=True):
    """One GPU, simulated or real; `gpus.json` is a list of these."""

    uuid: Annotated[str, Meta(min_length=1, max_length=128, pattern=text.whole(r"^[A-Za-z0-9._-]+$"))]
    product: Annotated[str, Meta(min_length=1, max_length=256)]
    memory_bytes: Annotated[int, Meta(ge=1, le=1 << 50)]


class Usage(Struct, frozen=True):
    """Usage of a simulated GPU by one process."""

    memory_bytes: Annotated[int, Meta(ge=0, le=1 << 50)]
    utilization: Annotated[float, Meta(ge=0, le=1)]


_T = TypeVar("_T")


def simulated_gpus(folder: Path) -> list[Gpu]:
    """Read `gpus.json`; raises `NoDevice` where it can't be read."""
    gpus = _read(folder / "gpus.json", list[Gpu])
    if isinstance(gpus, str):
        raise NoDevice(f"OCR_SIMULATED_GPU_DIR: {gpus}")
    return gpus


def usages(folder: Path, uuid: str) -> Iterator[tuple[int, Usage]]:
    """Yield process ids and usage of living processes on a simulated GPU; files of dead processes and damaged files are
    left out."""
    folder = folder / "usage" / uuid
    try:
        names = sorted(os.listdir(folder))[:MAX_USERS]
    except OSError:
        return
    for name in names:
        stem, _, suffix = name.partition(".")
        pid = numbers.whole(stem, 0, MAX_PID)
        if suffix != "json" or pid is None or not _alive(pid):
            continue
        usage = _read(folder / name, Usage)
        if not isinstance(usage, str):
            yield pid, usage


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _read(file: Path, kind: type[_T]) -> _T | str:
    """Read a small JSON file as `kind`; returns a text where something is wrong with it."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return f"{file} can't be read: {error.strerror}"
    if len(data) > MAX_FILE_BYTES:
        return f"{file} is larger than {MAX_FILE_BYTES} bytes"
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        return f"{file} is not valid: {error}"
