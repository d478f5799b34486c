"""An operator that dies after so many writes: its last one is done, and it never learns the answer.

WRITES=3 python -m tests.support.mortal     # the operator's process; ends by SIGKILL
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from ocr_operator import kube as real
from ocr_operator.controllers.controller import Controller
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.settings import Settings

WRITES = {"apply", "apply_status", "patch", "create", "delete"}


class Mortal:
    """The API server as one life of an operator sees it."""

    def __init__(
        self,
        kube: Any,
        writes: int,
        die: Callable[[], None] = lambda: None,
        spared: tuple[api.Kind, ...] = (),
    ) -> None:
        """`writes`: how many it has; negative for one that lives on. Those of `spared` kinds don't count."""
        self._kube, self.left, self._die, self._spared = kube, writes, die, spared
        self.dead = asyncio.Event()
        self.last = ""

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._kube, verb)
        if verb not in WRITES:
            return found

        async def write(what: Any, *arguments: Any, **options: Any) -> Any:
            ref = what if isinstance(what, api.Ref) else api.ref_of(what)
            if not self.dead.is_set():
                self.left -= ref.kind not in self._spared
                if self.left:
                    return await found(what, *arguments, **options)
                self.dead.set()
                self.last = f"{verb} {ref}"
                with contextlib.suppress(api.KubeError):
                    await found(what, *arguments, **options)
                self._die()
            return await asyncio.Event().wait()

        return write


async def main() -> None:
    async with real.connect(os.environ) as client, wire.session() as session:

        def die() -> None:
            sys.stderr.write(f"last: {kube.last}\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        kube = Mortal(client, int(os.environ["WRITES"]), die)
        controller: Any = Controller(
            kube,
            session,
            Settings.from_env(os.environ),
            metrics=Metrics(CollectorRegistry()),
            now=partial(datetime.now, UTC),
            time=time.monotonic,
            rng=random.Random(1),
        )
        await controller.run()


if __name__ == "__main__":
    asyncio.run(main())
