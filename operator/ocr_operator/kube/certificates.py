"""Certificates that the connections to the API server are made with: their files are followed.

The authority of a cluster is rotated, and so is a certificate of ours. From the first request after a change on, only
what the files have counts. Requests that run are left alone, and their connections end with them: a watch's within five
minutes. A session that is closed under them would leave them waiting for ever: aiohttp (seen with 3.14) drops their
timeouts and tells their readers nothing.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kubernetes.aio import client as kubernetes_client
from kubernetes.aio.client.rest import RESTClientObject

MAX_BYTES: Final = 2**20

log = logging.getLogger(__name__)

_Stats = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """Lends connections, new ones where a file has changed. The one owner of the client's `rest_client`."""

    def __init__(self, client: kubernetes_client.ApiClient) -> None:
        config = client.configuration
        self._client = client
        self._files = [Path(each) for each in (config.ssl_ca_cert, config.cert_file, config.key_file) if each]
        self._known = self._stats()
        self._content = self._read()
        self._users: Counter[RESTClientObject] = Counter()

    @asynccontextmanager
    async def connections(self) -> AsyncIterator[RESTClientObject]:
        """Lend those of the newest certificates to one request."""
        self._follow()
        lent = self._client.rest_client
        self._users[lent] += 1
        try:
            yield lent
        finally:
            self._users[lent] -= 1
            for each in [each for each, users in self._users.items() if not users]:
                del self._users[each]
                if each is not self._client.rest_client:
                    await each.close()

    def _follow(self) -> None:
        """Compare the files with what is used. Costs a few microseconds while nothing changes; never raises."""
        stats = self._stats()
        if stats == self._known:
            return
        self._known = stats
        content = self._read()
        if content is None or content == self._content:
            return  # gone for a moment; or written anew, as a kubelet does with each token
        try:
            fresh = RESTClientObject(self._client.configuration)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            log.warning("certificates can't be used, those before still are: %s", error)
            return
        self._content = content
        self._users[self._client.rest_client] += 0  # closed by the next request where none uses it
        self._client.rest_client = fresh
        log.info("certificates for the API server have changed")

    def _stats(self) -> _Stats:
        return tuple(map(_stat, self._files))

    def _read(self) -> tuple[bytes, ...] | None:
        try:
            return tuple(_start(each) for each in self._files)
        except OSError as error:
            log.warning("certificates can't be read: %s", error)
            return None


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _start(file: Path) -> bytes:
    with file.open("rb") as source:
        return source.read(MAX_BYTES)
