"""One document as a job of one pod: sent, followed until it ends, fetched, dropped.

The job lives in the memory of that pod's server, so all calls go there. A port-forward may break, and is replaced: the
job goes on without it. Whatever ends the command, Ctrl-C included, cancels the job.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import replace
from typing import Final

from kubectl_ocr import pagetexts, podjobs
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.pagetexts import Text
from kubectl_ocr.podhttp import Broken, Server
from kubectl_ocr.podjobs import Job
from kubectl_ocr.views.progress import Reading

PAUSE_SECONDS: Final = 2.0
"""Before a pod that is full, or can't be reached now, is asked again."""
ATTEMPTS: Final = 5
"""Connections in a row that break before anything is heard of the job."""
CANCEL_SECONDS: Final = 10.0

Connect = Callable[[], AbstractAsyncContextManager[Server]]


async def by_job(
    content: bytes,
    name: str,
    fields: Mapping[str, str],
    *,
    connect: Connect,
    within: float,
    progress: Callable[[Reading], None],
    made_as: str = "",
) -> Text:
    """Return what was read, with a file of the format `made_as`, if there is one.

    Raises `Failure`, also where no page ends for `within` seconds, and where none could be read.
    """
    job = await _submitted(content, name, fields, connect, within)
    try:
        try:
            async with asyncio.timeout(within) as patience:
                job = await _followed(job, connect, patience, within, progress)
        except TimeoutError:
            raise Failure(
                f"no page ended within {within:g} s: a model may still load; --within waits longer",
                Exit.LATER,
            ) from None
        async with connect() as server:
            pages = await podjobs.result(server, job.id)
            has_text = any(page.get("error") is None for page in pages)
            made = await podjobs.made(server, job.id, made_as) if made_as and has_text else None
    finally:
        # A task of its own: what cancels this one must not cancel the call.
        await asyncio.shield(asyncio.create_task(_dropped(job.id, connect)))
    found = pagetexts.of_pages(pages, job.pages.total)
    if not has_text:
        raise podjobs.refused(job, found.errors)
    return replace(found, made=made)


async def _submitted(
    content: bytes, name: str, fields: Mapping[str, str], connect: Connect, within: float
) -> Job:
    """Submit the job; a pod that is full is asked again for as long as the command may wait."""
    time = asyncio.get_running_loop().time
    deadline = time() + within
    while True:
        try:
            async with connect() as server:
                return await podjobs.submit(server, content, name, fields)
        except Broken:
            raise  # the pod may have it: a second job would be read for nobody
        except Failure as failure:
            if failure.status is not Exit.LATER or time() + PAUSE_SECONDS > deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def _followed(
    job: Job, connect: Connect, patience: asyncio.Timeout, within: float, progress: Callable[[Reading], None]
) -> Job:
    time, failures = asyncio.get_running_loop().time, 0
    while not podjobs.ended(job):
        try:
            async with connect() as server, aclosing(podjobs.follow(server, job.id)) as changes:
                async for reported in changes:
                    if (reported.pages.done, reported.queued_ahead) != (job.pages.done, job.queued_ahead):
                        patience.reschedule(time() + within)
                    job, failures = reported, 0
                    progress(reading(job))
        except Failure as failure:
            failures += 1
            if failure.status is not Exit.LATER or failures >= ATTEMPTS:
                raise
        if not podjobs.ended(job):
            await asyncio.sleep(PAUSE_SECONDS)
    return job


def reading(job: Job) -> Reading:
    """Return how far a job is."""
    return Reading(
        total=job.pages.total,
        done=job.pages.done,
        failed=job.pages.failed,
        queued_ahead=job.queued_ahead,
        rate=job.pages_per_second,
        ends_at=job.estimated_end_at,
    )


async def _dropped(id_: str, connect: Connect) -> None:
    """Cancel the job, or drop its results, by a connection of its own: Ctrl-C has ended the one that was there.

    What fails leaves it to its pod, which keeps results for an hour.
    """
    with suppress(Failure, TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS), connect() as server:
            await podjobs.drop(server, id_)
