"""Ranges of ratios, from several runs on one machine: what a run is held to besides its targets.

`bench/ranges/<name>.json` has the ratios and shares of the last runs, and the machine that they are of. Seconds, rates
and bytes stay out of it: they say how fast a machine is, and a ratio of two that were measured in turns doesn't, so it
holds elsewhere, too. From five runs on, one that lies farther outside of theirs than their spread fails: with half of
the spread, a figure that is distributed normally would fail in every fortieth run.
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
SLACK: Final = 1.0
"""Share of the spread by which a figure may lie outside."""
LEAST_SLACK: Final = 0.02
"""Share of the figure by which it may where it has any spread at all: five runs can be near each other by chance."""
UNITS: Final[tuple[report.Unit, ...]] = ("×", "%")
"""Of figures that mean the same on another machine."""
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
        spread = max(known) - min(known)
        slack = max(SLACK * spread, LEAST_SLACK * max(map(abs, known)) if spread else 0.0) + ROUNDED
        return min(known) - slack, max(known) + slack

    @property
    def of(self) -> str:
        """The machine, in words."""
        return f"{self.machine.get('cpu')}, {self.machine.get('cores')} cores"

    def outside(self, rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
        """Return the rows whose figures lie outside, with their ranges."""
        found = {row.what: (row.value, self.range(row.what)) for row in rows if row.unit in UNITS}
        return {
            what: within
            for what, (value, within) in found.items()
            if within is not None and not within[0] <= value <= within[1]
        }


def kind(machine: Mapping[str, Any], accelerator: str = "none") -> dict[str, Any]:
    """Return what makes the machine one of its kind."""
    whole = {**machine, "accelerator": accelerator}
    return {key: whole.get(key) for key in _MACHINE}


def read(name: str, folder: Path = FOLDER) -> Ranges:
    """Return the ranges of a measurement; empty ones, of no machine, where there are none."""
    path = folder / f"{name}.json"
    return msgspec.json.decode(path.read_bytes(), type=Ranges) if path.exists() else Ranges({})


def add(name: str, machine: Mapping[str, Any], rows: Sequence[Row], date: str, folder: Path = FOLDER) -> Path:
    """Write the ranges with one more run; ranges of another kind of machine begin anew."""
    figures = {row.what: row.value for row in rows if row.unit in UNITS and math.isfinite(row.value)}
    known = read(name, folder)
    if known.machine != machine:
        known = Ranges(dict(machine))
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    body = msgspec.to_builtins(known.with_run(Run(date, figures)))
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return path


def machine_of(result: report.Result) -> dict[str, Any]:
    """Return the kind of machine that a result of this one is of."""
    return kind(report.machine(), result.accelerator)
