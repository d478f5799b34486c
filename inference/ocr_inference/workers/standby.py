"""Standbys: workers of models in deep idle that are started and have their checkpoint opened, with nothing on the GPU.

A wake from deep idle takes a process with its imports done, the checkpoint opened, a context on the GPU and one copy.
A forkserver saves the imports; a standby saves the opening, too, which needs no GPU: building the model, reading the
tokenizer. It costs a process's memory. Without a standby, a wake starts a worker.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ocr_inference.protocol.engine import EngineError, Failure, ModelSpec
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.workers.limits import LIMITS, Limits
from ocr_inference.workers.processes import Starter
from ocr_inference.workers.worker import Worker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """Worker, and the task that delivers its answers and ends with it."""

    worker: Worker
    end: "asyncio.Task[Failure]"


@dataclass
class _Standby:
    running: Running | None = None
    """None until the process has started."""
    ready: bool = False
    wanted: bool = True
    """Whether it is neither taken nor dropped."""


class Standbys:
    """Standbys, at most one of each model. An async context manager: leaving it ends them."""

    def __init__(self, starter: Starter, changed: Callable[[], None], limits: Limits = LIMITS) -> None:
        """Prepare; `changed` is called after `ready` has changed by itself."""
        self._starter = starter
        self._changed = changed
        self._limits = limits
        self._tasks = asyncio.TaskGroup()
        self._standbys: dict[str, _Standby] = {}

    @property
    def ready(self) -> Collection[str]:
        """Names of models whose standby is prepared."""
        return {model for model, standby in self._standbys.items() if standby.ready}

    def begin(self, spec: ModelSpec, host: HostTier) -> None:
        """Start to prepare the model's standby, unless there is one."""
        if spec.name not in self._standbys:
            standby = self._standbys[spec.name] = _Standby()
            self._tasks.create_task(self._prepare(standby, spec, host), name=f"standby of {spec.name}")

    def take(self, model: str) -> Running | None:
        """Hand over the model's standby; None where there is none. It may still be preparing: its next call waits for
        that, and is still earlier than a call to a worker that starts now."""
        standby = self._standbys.pop(model, None)
        if standby is None:
            return None
        standby.wanted, running = False, standby.running
        return None if running is None or running.worker.ended else running

    def drop(self, model: str) -> None:
        """End the model's standby, if there is one."""
        if (running := self.take(model)) is not None:
            running.worker.kill("its standby isn't needed")

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for model in list(self._standbys):
            self.drop(model)
        await self._tasks.__aexit__(kind, error, trace)

    async def _prepare(self, standby: _Standby, spec: ModelSpec, host: HostTier) -> None:
        fields = {"model": spec.name}
        try:
            worker = await Worker.start(spec, host, self._starter, self._limits)
            end = self._tasks.create_task(worker.run(), name=f"standby worker of {spec.name}")
            if not standby.wanted:
                worker.kill("its standby isn't needed")
                return
            standby.running = Running(worker, end)
            await worker.call("stand_by", host_bytes=host.size)
        except (EngineError, OSError) as error:
            # Nothing is lost: the next wake starts a worker, and reports what is still wrong then.
            if standby.wanted:
                log.warning("no standby: %s", error, extra=fields)
                self.drop(spec.name)
            return
        standby.ready = True
        end.add_done_callback(lambda _: self._ended(spec.name, standby))
        if standby.wanted:
            log.info("standby ready", extra=fields | {"pid": worker.pid})
            self._changed()

    def _ended(self, model: str, standby: _Standby) -> None:
        """Forget a standby whose process has ended."""
        if standby.wanted:
            self.take(model)
            self._changed()
