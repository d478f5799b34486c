"""Writes end with the Lease that allows them: a pass that began in time may take minutes.

A write is begun only while the Lease is this operator's, and given up before another operator may begin.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from ocr_operator.kube import api


class NotOurs(api.Unavailable):
    """The Lease isn't this operator's, or no longer: its holder does what is to be done."""

    verb = "was not written"


def lets(left: float | None) -> bool:
    """Return whether a Lease that leaves so many seconds lets a write begin; None: nothing limits it."""
    return left is None or left > 0


class Fence:
    """An `api.Kube` that refuses writes that a Lease doesn't allow. Reads pass."""

    def __init__(
        self, kube: api.Kube, seconds_left: Callable[[str], float | None], whose: str = "its namespace"
    ) -> None:
        """Prepare; `seconds_left` says for how long a write in a namespace that begins now may take: 0 for none at
        all, None for as long as it likes. `whose` Lease that is, errors say.
        """
        self._kube = kube
        self._seconds_left = seconds_left
        self._whose = whose

    async def get(self, ref: api.Ref) -> api.Json:
        return await self._kube.get(ref)

    async def find(self, kind: api.Kind, *, namespace: str = "", selector: str = "") -> Sequence[api.Json]:
        return await self._kube.find(kind, namespace=namespace, selector=selector)

    def watch(
        self, kind: api.Kind, *, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[api.WatchEvent]:
        return self._kube.watch(kind, namespace=namespace, selector=selector)

    async def apply(self, manifest: api.Json) -> api.Json:
        async with self._in_time(api.ref_of(manifest)):
            return await self._kube.apply(manifest)

    async def apply_status(self, ref: api.Ref, status: api.Json, *, resource_version: str) -> api.Json:
        async with self._in_time(ref):
            return await self._kube.apply_status(ref, status, resource_version=resource_version)

    async def patch(self, ref: api.Ref, operations: Sequence[api.Json], *, subresource: str = "") -> api.Json:
        async with self._in_time(ref):
            return await self._kube.patch(ref, operations, subresource=subresource)

    async def create(self, manifest: api.Json) -> api.Json:
        async with self._in_time(api.ref_of(manifest)):
            return await self._kube.create(manifest)

    async def delete(self, ref: api.Ref, *, uid: str, resource_version: str = "") -> None:
        async with self._in_time(ref):
            await self._kube.delete(ref, uid=uid, resource_version=resource_version)

    @asynccontextmanager
    async def _in_time(self, ref: api.Ref) -> AsyncIterator[None]:
        left = self._seconds_left(ref.namespace)
        if not lets(left):
            raise NotOurs(
                ref, 0, f"the Lease of {self._whose} isn't this operator's, or wasn't renewed in time"
            )
        try:
            async with asyncio.timeout(left):
                yield
        except TimeoutError:
            raise NotOurs(ref, 0, f"no answer before the Lease of {self._whose} may be another's") from None
