"""`python -m bench [--range] [NAME …]`: run the measurements and write bench/results/NAME.json.

A run ends with status 1 where a target is missed, or a ratio lies outside of what earlier runs had (`ranges`).
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from bench import (
    awake,
    batched,
    bodies,
    bursts,
    coldstart,
    control,
    day,
    decoding,
    documents,
    download,
    exports,
    failover,
    firstpage,
    fleet,
    fuzz,
    fuzzdocuments,
    growth,
    idle,
    jobs,
    layouts,
    library,
    peers,
    placement,
    ppocr,
    preemption,
    ranges,
    report,
    scale,
    scheduler,
    server,
    serverstorm,
    serving,
    sharing,
    soak,
    storm,
    waiting,
    wake,
    weights,
)

MEASUREMENTS: Final[dict[str, Callable[[], Coroutine[Any, Any, report.Result]]]] = {
    "firstpage": firstpage.measure,
    "server": server.measure,
    "bodies": bodies.measure,
    "waiting": waiting.measure,
    "jobs": jobs.measure,
    "exports": exports.measure,
    "decoding": decoding.measure,
    "batched": batched.measure,
    "coldstart": coldstart.measure,
    "serving": serving.measure,
    "control": control.measure,
    "awake": awake.measure,
    "bursts": bursts.measure,
    "day": day.measure,
    "fleet": fleet.measure,
    "scale": scale.measure,
    "failover": failover.measure,
    "growth": growth.measure,
    "weights": weights.measure,
    "storm": storm.measure,
    "serverstorm": serverstorm.measure,
    "soak": soak.measure,
    "documents": documents.measure,
    "fuzz": fuzz.measure,
    "fuzzdocuments": fuzzdocuments.measure,
    "ppocr": ppocr.measure,
    "wake": wake.measure,
    "idle": idle.measure,
    "peers": peers.measure,
    "sharing": sharing.measure,
    "download": download.measure,
    "placement": placement.measure,
    "scheduler": scheduler.measure,
    "preemption": preemption.measure,
    "layouts": layouts.measure,
    "library": library.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(MEASUREMENTS)}; none: all"
    )
    parser.add_argument(
        "--range",
        action="store_true",
        help="add this run to bench/ranges/NAME.json, instead of being held to it",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    missed = 0
    for name in arguments.names or MEASUREMENTS:
        try:
            result = asyncio.run(MEASUREMENTS[name]())
        except report.NotHere as error:
            print(f"{name} isn't measured: {error}")
            missed += name in arguments.names
            continue
        print(f"{name} → {report.write(result)}")
        for row in result.rows:
            verdict = {True: "met", False: "MISSED", None: ""}[row.met]
            print(f"  {row.what:60} {row.value:10g} {row.unit:6} {row.target:12} {verdict}")
            missed += row.met is False
        name_of = report.name_of(result)
        if arguments.range:
            print(f"  → {ranges.add(name_of, ranges.machine_of(result), result.rows, report.today())}")
            continue
        known = ranges.read(name_of)
        for what, (least, most) in known.outside(result.rows).items():
            print(f"  OUTSIDE of {least:g} to {most:g} ({known.of}): {what}")
            missed += 1
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
