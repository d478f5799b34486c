"""Ranges of figures, from several runs on one kind of machine: what a run is held to besides its targets.

`bench/ranges/<name>.json` has the figures of the last runs. From five runs on, a figure that lies farther outside of
theirs than half of their spread fails. A run on another kind of machine is held to nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import report
from bench.report import Row

FOLDER: Final = Path(__file__).parent / "ranges"
LEAST_RUNS: Final = 5
MOST_RUNS: Final = 20
"""Runs that are kept; older ones are dropped."""
SLACK: Final = 0.5
"""Share of the spread by which a figure may lie outside."""
ROUNDED: Final = 1e-4
"""Figures are written with four decimals."""
_MACHINE: Final = ("cpu", "cores", "accelerator")
"""What makes two machines one kind."""


class Run(msgspec.Struct, frozen=True):
    """Figures of one run, by the names of their rows."""

    date: str
    figures: dict[str, float]


class Ranges(msgspec.Struct, frozen=True):
    """Figures of one measurement, the newest run last."""

    machine: dict[str, Any]
    runs: tuple[Run, ...] = ()

    def with_run(self, run: Run) -> "Ranges":
        return Ranges(self.machine, (*self.runs, run)[-MOST_RUNS:])

    def range(self, what: str) -> tuple[float, float] | None:
        """Return the least and the most that a figure may be; None while too few runs have it."""
        known = [run.figures[what] for run in self.runs if what in run.figures]
        if len(known) < LEAST_RUNS:
            return None
        slack = SLACK * (max(known) - min(known)) + ROUNDED
        return min(known) - slack, max(known) + slack

    def outside(self, rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
        """Return the rows whose figures lie outside, with their ranges."""
        found = {row.what: (row.value, self.range(row.what)) for row in rows}
        return {
            what: within
            for what, (value, within) in found.items()
            if within is not None and not within[0] <= value <= within[1]
        }


def kind(machine: Mapping[str, Any], accelerator: str = "none") -> dict[str, Any]:
    """Return what makes the machine one of its kind."""
    whole = {**machine, "accelerator": accelerator}
    return {key: whole.get(key) for key in _MACHINE}


def read(name: str, machine: Mapping[str, Any], folder: Path = FOLDER) -> Ranges:
    """Return the ranges that hold for this kind of machine; empty ones where there are none."""
    path = folder / f"{name}.json"
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Ranges)
        if found.machine == machine:
            return found
    return Ranges(dict(machine))


def add(name: str, ranges: Ranges, rows: Sequence[Row], date: str, folder: Path = FOLDER) -> Path:
    """Write the ranges with one more run; they replace those of another kind of machine."""
    figures = {row.what: row.value for row in rows if math.isfinite(row.value)}
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    body = msgspec.to_builtins(ranges.with_run(Run(date, figures)))
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return path


def of(result: report.Result) -> Ranges:
    """Return the ranges for a result of this machine."""
    return read(report.name_of(result), kind(report.machine(), result.accelerator))
