"""Runs measurements one after the other: each is written, printed, and held to its targets and ranges."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

from bench import ranges, report

Measure = Callable[[], Coroutine[Any, Any, report.Result]]


def run(
    measurements: Mapping[str, Measure],
    *,
    required: Collection[str] = (),
    adds: bool = False,
    results: Path = report.RESULTS,
    known: Path = ranges.FOLDER,
) -> int:
    """Return the exit status: 1 where a target is missed, a ratio lies outside of its range, or one of the `required`
    can't be measured here.

    With `adds` the ratios are added to the ranges in the folder `known`, instead of being held to them.
    """
    missed = 0
    for name, measure in measurements.items():
        try:
            result = asyncio.run(measure())
        except report.NotHere as error:
            print(f"{name} isn't measured: {error}")
            missed += name in required
            continue
        print(f"{name} → {report.write(result, results)}")
        for row in result.rows:
            verdict = {True: "met", False: "MISSED", None: ""}[row.met]
            print(f"  {row.what:60} {row.value:10g} {row.unit:6} {row.target:12} {verdict}")
            missed += row.met is False
        name_of = report.name_of(result)
        if adds:
            machine = ranges.machine_of(result)
            print(f"  → {ranges.add(name_of, machine, result.rows, report.today(), known)}")
            continue
        held = ranges.read(name_of, known)
        for what, (least, most) in held.outside(result.rows).items():
            print(f"  OUTSIDE of {least:g} to {most:g} ({held.of}): {what}")
            missed += 1
    return 1 if missed else 0
