"""A result as it is published: what was measured, on which machine, how, and whether it met its target."""

import contextlib
import json
import os
import platform
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

RESULTS: Final = Path(__file__).parent / "results"
PACKAGES: Final = (
    *("ocr-operator", "kopf", "kubernetes", "aiohttp", "rapidocr", "onnxruntime", "torch", "transformers"),
    *("huggingface-hub", "hf-xet", "httpx2"),
)


# fmt: off
Unit = Literal[
    "×", "%",  # of figures that mean the same on another machine (`ranges`)
    "s", "ms", "min", "h", "ms a page",
    "B", "MiB", "MB", "MB/s", "GB/s", "1/s",
    "", "of 1", "% of a core",
    "asks", "calls", "events", "kills", "leases", "lines", "moves", "pages", "requests", "states", "times",
    "wakes", "writes",
]
# fmt: on
"""Word for what a figure counts in: one for each unit, since rows are chosen by it."""


class NotHere(Exception):
    """What a measurement needs isn't installed; says what."""


@dataclass(frozen=True)
class Row:
    what: str
    value: float
    unit: Unit
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Result:
    name: str
    method: str
    rows: Sequence[Row]
    samples: dict[str, Sequence[float]] = field(default_factory=dict)
    accelerator: str = "none"
    """Product of the GPU that it was measured on."""
    variant: str = ""
    """What of its size isn't the usual one, such as `5000-pods`: it stands beside the usual one."""


def at_most(what: str, value: float, unit: Unit, limit: float) -> Row:
    return Row(what, round(value, 4), unit, f"≤ {limit:g} {unit}", value <= limit)


def at_least(what: str, value: float, unit: Unit, limit: float) -> Row:
    return Row(what, round(value, 4), unit, f"≥ {limit:g} {unit}", value >= limit)


def plain(what: str, value: float, unit: Unit) -> Row:
    return Row(what, round(value, 4), unit)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all samples don't exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def machine() -> dict[str, Any]:
    cpu: str = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Of what is installed here: a machine with a GPU may have no operator."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def name_of(result: Result) -> str:
    """Return the name of the result's files, without their endings."""
    parts = (result.name, result.variant, "" if result.accelerator == "none" else "gpu")
    return "-".join(filter(None, parts))


def command(result: Result, environ: Mapping[str, str]) -> str:
    """Return the command that measures it again, with the settings of benches that it was measured with."""
    settings = [
        f"{key}={shlex.quote(value)} " for key, value in sorted(environ.items()) if key.startswith("BENCH_")
    ]
    how = f"make bench ONLY={result.name}" if result.accelerator == "none" else "make bench-gpu"
    return "".join(settings) + how


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def write(result: Result, folder: Path = RESULTS) -> Path:
    """Write `<name>.json`; the newest run replaces the one before. What was measured on a GPU has a name of
    its own, `<name>-gpu`, so that it stands beside the same measurement of a CPU."""
    name = name_of(result)
    body = {
        "name": name,
        "date": today(),
        "command": command(result, os.environ),
        "machine": machine() | {"accelerator": result.accelerator},
        "versions": versions(),
        "method": result.method,
        "rows": [asdict(row) for row in result.rows],
        "samples": {key: [round(value, 5) for value in values] for key, values in result.samples.items()},
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return path
