"""Lists and watches: everything of a kind, page by page, and then every change of it."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any, Final

import aiohttp

from ocr_operator.kube import api, decoding
from ocr_operator.kube.transport import (
    MAX_PATIENCE_SECONDS,
    TooLong,
    Transport,
    Unreadable,
    code_of,
    error_of,
    fault,
)
from ocr_wire import numbers

PAGE: Final = 500
"""Items of one list request: a page of 500 pods is about 1 MB, decoded in some 10 ms."""
MAX_PAGE_BYTES: Final = 8 * 2**20
"""A longer page is asked for again with fewer items: what is decoded in one go holds up everything else."""
LARGE_BYTES: Final = 64 * 1024
"""A longer line is decoded beside the event loop: 1.4 MB take up to 0.15 s."""
RELIST_SECONDS: Final = 3600.0
"""A watch is begun anew with a list after so long: nothing that it missed, for whatever reason, stays wrong for longer.
"""

log = logging.getLogger(__name__)


class Watcher:
    """The lists and watches of a client."""

    def __init__(self, transport: Transport, *, silence_seconds: float, rng: random.Random) -> None:
        self._transport = transport
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence_seconds)
        self._rng = rng

    async def watch(
        self, kind: api.Kind, *, namespace: str = "", selector: str = ""
    ) -> AsyncGenerator[api.WatchEvent, None]:
        """List, then follow; list again when the API server forgot our place, or went back behind it, or said what
        can't be read.
        """
        loop = asyncio.get_running_loop()
        ref = api.Ref(kind, namespace, "")
        version, delay, listed_at = "", 0.0, loop.time()
        while True:
            try:
                aged = loop.time() - listed_at > RELIST_SECONDS
                if version and (aged or await self._went_back(ref, version)):
                    version = ""
                if not version:
                    listed_at = loop.time()
                    items, version = await self.list(kind, namespace, selector)
                    yield api.Listed(items)
                    items = []  # or all of it stays in memory for as long as the watch goes on
                quiet = True
                async for type_, item in self._follow(kind, namespace, selector, version):
                    quiet, delay = False, 0.0
                    version = item["metadata"]["resourceVersion"]
                    if type_ == "BOOKMARK":
                        yield api.Alive()
                    else:
                        yield api.Changed(type_, item)
                if quiet:  # an API server that ends watches at once must not make us spin
                    await asyncio.sleep(self._rng.uniform(0.5, 1.0))
                continue
            except api.KubeError as error:
                lost = error
            except Exception as error:
                log.exception("the watch of %s failed", kind.plural)
                lost, version = fault(ref, "GET", str(error) or type(error).__name__), ""
            if lost.status == 410 and version:
                version = ""
                continue
            if isinstance(lost, api.Refused | api.NotFound | Unreadable):
                version = ""
            yield api.Lost(lost)
            delay = min(MAX_PATIENCE_SECONDS, delay * 2 or 0.2)
            await asyncio.sleep(max(lost.retry_after or 0.0, delay * self._rng.uniform(0.5, 1.0)))

    async def _went_back(self, ref: api.Ref, version: str) -> bool:
        """Return whether the API server is at an older version than we are: its etcd was restored from a backup.

        Kubernetes 1.36 takes a watch from a version of the future, and sends neither changes nor bookmarks until it
        is there; what happened meanwhile never comes.
        """
        try:
            answer = await self._transport.request("GET", ref, query={"limit": "1"})
            now = (answer.get("metadata") or {}).get("resourceVersion", "")
        except api.KubeError:
            return False  # the watch itself finds out what is wrong
        theirs, ours = (numbers.whole(each, 0, 2**63 - 1) for each in (str(now), version))
        return theirs is not None and ours is not None and theirs < ours

    async def _follow(
        self, kind: api.Kind, namespace: str, selector: str, version: str
    ) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
        ref = api.Ref(kind, namespace, "")
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            # Spread, so that the watches of many clients don't end in the same second.
            "timeoutSeconds": str(self._rng.randint(240, 300)),
        } | _selection(kind, selector)
        async with self._transport.send("GET", ref, query=query, timeout=self._timeout) as response:
            async for line in decoding.lines(response.content.iter_any()):
                read = partial(decoding.event, line, free_form=kind.free_form, shape=kind.shape)
                found, item = read() if len(line) < LARGE_BYTES else await asyncio.to_thread(read)
                match found:
                    case "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" as type_:
                        yield type_, item | {"apiVersion": kind.api_version, "kind": kind.name}
                    case _:
                        raise error_of(ref, code_of(item), await self._transport.redacted(item), None)

    async def list(self, kind: api.Kind, namespace: str, selector: str) -> tuple[list[api.Json], str]:
        """List all of it, page by page; a page that is too long is asked for again with fewer items."""
        ref = api.Ref(kind, namespace, "")
        marks = {"apiVersion": kind.api_version, "kind": kind.name}
        items: list[api.Json] = []
        limit, token = PAGE, ""
        while True:
            query = (
                {"limit": str(limit)} | _selection(kind, selector) | ({"continue": token} if token else {})
            )
            try:
                most = MAX_PAGE_BYTES if limit > 1 else decoding.MAX_BYTES
                raw = await self._transport.answer("GET", ref, query=query, max_bytes=most)
                found, version, token = await asyncio.to_thread(
                    decoding.page, raw, free_form=kind.free_form, shape=kind.shape
                )
            except TooLong:
                if limit == 1:
                    raise
                limit = max(1, limit // 8)
                continue
            except decoding.Unreadable as error:
                raise Unreadable(ref, 0, str(error)) from error
            items.extend(item | marks for item in found)
            if not token:
                return items, version


def _selection(kind: api.Kind, selector: str) -> dict[str, str]:
    asked = {"labelSelector": selector, "fieldSelector": kind.fields}
    return {name: value for name, value in asked.items() if value}
