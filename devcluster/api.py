"""The few calls that devcluster itself makes to its API server."""

import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from devcluster.errors import DevclusterError

FIELD_MANAGER: Final = "devcluster"

_PATHS: Final = {
    "Namespace": "/api/v1/namespaces/{name}",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses/{name}",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}",
    "DaemonSet": "/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}",
}


def path_of(resource: Mapping[str, Any]) -> str:
    """Where an object of a kind that devcluster applies lies."""
    metadata = resource["metadata"]
    return _PATHS[resource["kind"]].format(name=metadata["name"], namespace=metadata.get("namespace", ""))


class Api:
    """A session as one user; an async context manager."""

    def __init__(self, url: str, authority: bytes, token: str) -> None:
        context = ssl.create_default_context(cadata=authority.decode())
        self._session = aiohttp.ClientSession(
            url,
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=10),
        )

    async def ready(self) -> bool:
        """True when the API server says that it is ready."""
        try:
            async with self._session.get("/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def get(self, path: str) -> Any:
        """Read an object or a list; None when there is none."""
        async with self._session.get(path) as response:
            if response.status == 404:
                return None
            return await self._body(response)

    async def text(self, path: str) -> str:
        """Read what isn't an object, such as a pod's log."""
        async with self._session.get(path) as response:
            if response.status >= 400:
                await self._body(response)
            return await response.text(errors="replace")

    async def apply(self, resource: Mapping[str, Any]) -> None:
        """Create or update an object by server-side apply."""
        async with self._session.patch(
            path_of(resource),
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            data=json.dumps(resource),
            headers={"Content-Type": "application/apply-patch+yaml"},
        ) as response:
            await self._body(response)

    async def _body(self, response: aiohttp.ClientResponse) -> Any:
        body = await response.json(content_type=None)
        if response.status >= 400:
            message = body.get("message", "") if isinstance(body, dict) else ""
            raise DevclusterError(
                f"{response.method} {response.url.path}: {response.status} {message}".rstrip()
            )
        return body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
