"""Faults of the operator itself on one resource: the pass goes on with its other steps, and the status says so."""

import logging
from collections.abc import Awaitable
from typing import Final, TypeVar

from ocr_operator.controllers.context import Context, ResourceCache
from ocr_operator.decide import status
from ocr_operator.decide.status import Event, Fault
from ocr_operator.kube import api
from ocr_operator.resources.observed import Key

LOG: Final = "its log has the traceback"

log = logging.getLogger(__name__)

T = TypeVar("T")


class Contained:
    """The steps of one pass, of which none keeps the others from being done."""

    def __init__(self) -> None:
        self.first: Exception | None = None
        """The first fault of ours; raised at the end of the pass."""

    @property
    def fault(self) -> Fault | None:
        return None if self.first is None else fault(self.first)

    async def run(self, step: Awaitable[T]) -> T | None:
        """Await a step; None if it failed by a fault of ours. Raises `api.KubeError`."""
        try:
            return await step
        except api.KubeError:
            raise
        except Exception as error:
            if self.first is None:
                self.first = error
            else:
                log.exception("another step of the pass failed, too")
            return None


def fault(error: Exception) -> Fault:
    """Name a fault by its type alone: its text may quote what the resource, or a pod, holds."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return Fault(message=f"the operator fails on this resource ({type(error).__name__}); {LOG}")


async def report(context: Context, cache: ResourceCache | None, key: Key, found: Fault) -> None:
    """Say in the status, and so in an Event, that the operator fails on a resource; where no status can be written, in
    an Event alone.
    """
    body = context.cluster.resource(key)
    if body is None:
        return
    try:
        if cache is not None:
            after = status.faulty(body, found, context.now())
            await context.reporter.write(cache.report, body, after, urgent=True)
            await context.reporter.record_events(cache.report, body)
            return
    except Exception:
        log.exception("a fault isn't in the status resource=%s/%s", *key)
    await context.reporter.recorder.record(
        body, Event(type="Warning", reason=found.reason, message=found.message)
    )
