"""A result as it is published: what was measured, on which machine, how, and whether it met its target."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    what: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Result:
    name: str
    method: str
    rows: Sequence[Row]
    samples: dict[str, Sequence[float]] = field(default_factory=dict)


def at_most(what: str, value: float, unit: str, limit: float) -> Row:
    return Row(what, round(value, 4), unit, f"≤ {limit:g} {unit}", value <= limit)


def plain(what: str, value: float, unit: str) -> Row:
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


def write(result: Result, kind: Literal["cpu", "gpu"] = "cpu") -> Path:
    """`bench/results/<name>.json`; the newest run replaces the one before."""
    packages = ("ocr-operator", "kopf", "kubernetes", "aiohttp", "rapidocr", "onnxruntime")
    body = {
        "name": result.name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": f"make bench ONLY={result.name}",
        "machine": machine() | {"accelerator": "none" if kind == "cpu" else "see rows"},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "method": result.method,
        "rows": [asdict(row) for row in result.rows],
        "samples": {name: [round(value, 5) for value in values] for name, values in result.samples.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result.name}.json"
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return path
