"""A simulated DCGM exporter: what processes say about simulated GPUs, in dcgm-exporter's words.

Runs as a pod of image `dcgm-exporter` on a process node and serves `/metrics` on port 9400. Readers of
real exporters need not know the difference.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import web

from ocr_wire import names, numbers

PORT = 9400
MIB = 2**20
MAX_FILE_BYTES = 4096
MAX_PID = 1 << 22
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Gpu(msgspec.Struct, frozen=True):
    """Entry of `gpus.json`."""

    uuid: str
    product: str
    memory_bytes: int


class Usage(msgspec.Struct, frozen=True):
    """Use of one GPU by one process, in `usage/<uuid>/<pid>.json`."""

    memory_bytes: int
    utilization: float


@dataclass(frozen=True)
class Reading:
    """Reading of one GPU, with the sum of what living processes report."""

    gpu: Gpu
    used_bytes: int
    utilization: float


def boot_time() -> float:
    """Return the time at which the machine started, in seconds since the epoch."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise OSError("/proc/stat has no btime")


def wrote(pid: int, written_at: float) -> bool:
    """Whether the process `pid` lives and was there when its file was written (numbers are used again)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    dead, started_at = fields[0] in "ZXx", boot_time() + int(fields[19]) / _TICKS_PER_SECOND
    return not dead and started_at <= written_at + 1.5  # btime has whole seconds


def read(folder: Path) -> list[Reading]:
    """Read the node's GPU folder; entries of dead processes and files that aren't (yet) whole are ignored."""
    gpus = msgspec.json.decode((folder / "gpus.json").read_bytes(), type=list[Gpu])
    readings = []
    for gpu in gpus:
        entries = [entry for file in (folder / "usage" / gpu.uuid).glob("*.json") if (entry := _entry(file))]
        used = sum(entry.memory_bytes for entry in entries)
        readings.append(Reading(gpu, used, min(sum(entry.utilization for entry in entries), 1.0)))
    return readings


def _entry(file: Path) -> Usage | None:
    pid = numbers.whole(file.stem, 0, MAX_PID)
    if pid is None:
        return None
    try:
        with file.open("rb") as opened:
            written_at = os.fstat(opened.fileno()).st_mtime
            entry = msgspec.json.decode(opened.read(MAX_FILE_BYTES), type=Usage)
    except (OSError, msgspec.MsgspecError):
        return None
    return entry if wrote(pid, written_at) else None


_METRICS: tuple[tuple[str, str, Callable[[Reading], int]], ...] = (
    ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", lambda reading: round(reading.utilization * 100)),
    (
        "DCGM_FI_DEV_FB_FREE",
        "Framebuffer memory free (in MiB).",
        lambda reading: max(reading.gpu.memory_bytes - reading.used_bytes, 0) // MIB,
    ),
    (
        "DCGM_FI_DEV_FB_USED",
        "Framebuffer memory used (in MiB).",
        lambda reading: -(-reading.used_bytes // MIB),
    ),
)


def render(readings: Sequence[Reading], hostname: str) -> str:
    """The exposition, one block a metric."""
    lines = []
    for name, text, value in _METRICS:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        for index, reading in enumerate(readings):
            labels = {
                "gpu": str(index),
                "UUID": reading.gpu.uuid,
                "pci_bus_id": f"00000000:{index + 1:02X}:00.0",
                "device": f"nvidia{index}",
                "modelName": reading.gpu.product.replace(
                    "-", " "
                ),  # feature discovery's label has it the other way
                "Hostname": hostname,
            }
            pairs = ",".join(f"{key}={json.dumps(label)}" for key, label in labels.items())
            lines.append(f"{name}{{{pairs}}} {value(reading)}")
    return "\n".join(lines) + "\n"


def application(folder: Path, hostname: str) -> web.Application:
    """The exporter's two paths."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(
            text=render(read(folder), hostname), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/health", health)
    return app


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m devcluster.exporter", description="simulated DCGM exporter"
    )
    parser.add_argument("--port", type=numbers.argument(0, 65_535), default=PORT)
    options = parser.parse_args(argv)
    folder = environ.get(names.ENV_SIMULATED_GPU_DIR)
    if not folder:
        parser.error(f"{names.ENV_SIMULATED_GPU_DIR} isn't set: there are no simulated GPUs to tell of")
    hostname = environ.get("NODE_NAME") or environ.get("HOSTNAME", "")
    app = application(Path(folder), hostname)
    web.run_app(
        app, host=environ.get(names.ENV_HOST, "127.0.0.1"), port=options.port, print=None, access_log=None
    )


if __name__ == "__main__":
    main()
