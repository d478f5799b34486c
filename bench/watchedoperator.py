"""`python -m bench.watchedoperator FILE`: the operator, with what its event loop is late by in a file.

A line a second: the monotonic time, and the delays (seconds) of timers of 20 ms since the line before.
`BENCH_PROFILE=FILE` writes what cProfile finds when it ends.
"""

import asyncio
import cProfile
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ocr_operator import __main__ as operator
from ocr_operator import logs
from ocr_operator.settings import Settings

TICK_SECONDS: Final = 0.02


async def watched(settings: Settings, environ: Mapping[str, str], file: Path) -> int:
    ticks = asyncio.create_task(_measure(file), name="loop lag")
    try:
        return await operator.run(settings, environ)
    finally:
        ticks.cancel()


async def _measure(file: Path) -> None:
    with file.open("a", encoding="utf-8", buffering=1) as out:
        late: list[float] = []
        written = time.monotonic()
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            late.append(round(max(0.0, now - due), 4))
            if now - written >= 1:
                out.write(json.dumps([now, late]) + "\n")
                late, written = [], now


def main() -> int:
    settings = Settings.from_env(os.environ)
    logs.configure(settings.log_level, settings.log_format)
    wanted = os.environ.get("BENCH_PROFILE")
    profile = cProfile.Profile() if wanted else None
    if profile:
        profile.enable()
    status = asyncio.run(watched(settings, os.environ, Path(sys.argv[1])))
    if profile:
        profile.disable()
        profile.dump_stats(str(wanted))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
