"""`python -m bench [--range] [NAME …]`: run the measurements and write bench/results/NAME.json.

A run ends with status 1 where a target is missed, or a ratio lies outside of what earlier runs had (`ranges`).
"""

import argparse
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from bench import (
    again,
    awake,
    batched,
    before,
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
    report,
    running,
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
    "before": before.measure,
    "again": again.measure,
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
    chosen = {name: MEASUREMENTS[name] for name in arguments.names or MEASUREMENTS}
    return running.run(chosen, required=arguments.names, adds=arguments.range)


if __name__ == "__main__":
    sys.exit(main())
