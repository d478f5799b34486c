"""The verbs and the watch of `api.Kube`, over HTTP.

`kubernetes.aio` brings configuration, TLS and authentication; requests and answers are raw JSON, because its
typed models block the event loop for seconds on long lists. Its watch doesn't list again after a 410, hence
the loop in `watch`.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from kubernetes.aio import client as kubernetes_client

from ocr_operator.kube import api
from ocr_operator.settings import FIELD_MANAGER

PAGE: Final = 500
"""Items of one list request: a page of 500 pods is about 1 MB, decoded in some 10 ms."""
IDLE_TIMEOUT_SECONDS: Final = 120.0
"""A watch without any line for so long is dead: the API server sends a bookmark a minute, and may skip one."""
ATTEMPTS: Final = 4
"""Tries of one request that the API server turns away with 429 before the caller hears of it."""
MAX_PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials that another client needs to speak to the same API server as us. Read afresh on each call."""

    server: str
    authorization: str | None
    ca_path: str | None
    certificate_path: str | None
    key_path: str | None
    insecure: bool


class Client:
    """An `api.Kube` over HTTP. `config.connect` makes it."""

    def __init__(
        self,
        client: kubernetes_client.ApiClient,
        *,
        request_seconds: float = 30.0,
        silence_seconds: float = IDLE_TIMEOUT_SECONDS,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=5)
        self._stream_timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence_seconds)
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret

    async def credentials(self) -> Credentials:
        config = self._client.configuration
        return Credentials(
            server=config.host,
            authorization=await config.get_api_key_with_prefix("BearerToken"),
            ca_path=config.ssl_ca_cert,
            certificate_path=config.cert_file,
            key_path=config.key_file,
            insecure=not config.verify_ssl,
        )

    async def get(self, ref: api.Ref) -> api.Json:
        return await self._request("GET", ref)

    async def find(self, kind: api.Kind, *, namespace: str = "", selector: str = "") -> Sequence[api.Json]:
        items, _ = await self._list(kind, namespace, selector)
        return items

    async def apply(self, manifest: api.Json) -> api.Json:
        return await self._request(
            "PATCH",
            api.ref_of(manifest),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def apply_status(self, ref: api.Ref, status: api.Json, *, resource_version: str) -> api.Json:
        return await self._request(
            "PATCH",
            ref,
            subresource="/status",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body={
                "apiVersion": ref.kind.api_version,
                "kind": ref.kind.name,
                "metadata": {
                    "name": ref.name,
                    "namespace": ref.namespace,
                    "resourceVersion": resource_version,
                },
                "status": status,
            },
            content_type="application/apply-patch+yaml",
        )

    async def patch(self, ref: api.Ref, operations: Sequence[api.Json]) -> api.Json:
        try:
            return await self._request(
                "PATCH",
                ref,
                query={"fieldManager": FIELD_MANAGER},
                body=list(operations),
                content_type="application/json-patch+json",
            )
        except api.Refused as error:
            # A patch that doesn't fit the object is answered with 422 and this general text; a value that
            # validation refuses with 422, too, but "Pod … is invalid: …".
            if error.status == 422 and error.message.startswith("the server rejected our request"):
                raise api.Conflict(ref, 422, "the patch doesn't fit the object as it is now") from error
            raise

    async def create(self, manifest: api.Json) -> api.Json:
        ref = api.ref_of(manifest)
        return await self._request(
            "POST",
            api.Ref(ref.kind, ref.namespace, ""),
            query={"fieldManager": FIELD_MANAGER},
            body=manifest,
            about=ref,
        )

    async def delete(self, ref: api.Ref, *, uid: str) -> None:
        try:
            await self._request("DELETE", ref, body={"preconditions": {"uid": uid}})
        except api.Conflict as error:
            raise api.NotFound(ref, error.status, error.message) from error

    async def watch(
        self, kind: api.Kind, *, namespace: str = "", selector: str = ""
    ) -> AsyncGenerator[api.WatchEvent, None]:
        """List, then follow; list again only when the API server forgot our place (410)."""
        version = ""
        delay = 0.0
        while True:
            try:
                if not version:
                    items, version = await self._list(kind, namespace, selector)
                    yield api.Listed(items)
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
            except api.KubeError as error:
                if error.status == 410:
                    version = ""
                    continue
                if isinstance(error, api.Refused | api.NotFound):
                    version = ""
                yield api.Lost(error)
                delay = min(MAX_PATIENCE_SECONDS, delay * 2 or 0.2)
                await asyncio.sleep(max(error.retry_after or 0.0, delay * self._rng.uniform(0.5, 1.0)))

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
        } | _selection(selector)
        async with self._send("GET", ref, query=query, timeout=self._stream_timeout) as response:
            while line := await response.content.readline():
                event = _decode(ref, line)
                item = event.get("object") or {}
                match event.get("type"):
                    case "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" as type_:
                        yield type_, item | {"apiVersion": kind.api_version, "kind": kind.name}
                    case _:
                        raise _error(ref, int(item.get("code") or 500), item, None)

    async def _list(self, kind: api.Kind, namespace: str, selector: str) -> tuple[list[api.Json], str]:
        items: list[api.Json] = []
        token = ""
        while True:
            query = {"limit": str(PAGE)} | _selection(selector)
            page = await self._request(
                "GET", api.Ref(kind, namespace, ""), query=query | ({"continue": token} if token else {})
            )
            marks = {"apiVersion": kind.api_version, "kind": kind.name}
            items.extend(item | marks for item in page.get("items") or ())
            token = page["metadata"].get("continue") or ""
            if not token:
                return items, page["metadata"]["resourceVersion"]

    async def _request(
        self,
        method: str,
        ref: api.Ref,
        *,
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        about: api.Ref | None = None,
    ) -> api.Json:
        about = about or ref
        for attempt in range(ATTEMPTS):
            try:
                async with self._send(
                    method,
                    ref,
                    subresource=subresource,
                    query=query,
                    body=body,
                    content_type=content_type,
                    timeout=self._timeout,
                    about=about,
                ) as response:
                    return _decode(about, await response.read())
            except api.Unavailable as error:
                if error.status != 429 or attempt == ATTEMPTS - 1:
                    raise
                patience = error.retry_after if error.retry_after is not None else 2.0**attempt
                await asyncio.sleep(min(patience, MAX_PATIENCE_SECONDS) + self._rng.uniform(0.0, 0.1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        ref: api.Ref,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own, per phase of the request
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        about: api.Ref | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One exchange; every failure, also one while the body is read, leaves as a `KubeError`."""
        about = about or ref
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            authorization = await self._client.configuration.get_api_key_with_prefix("BearerToken")
            if authorization:
                headers["Authorization"] = authorization
            answer = await self._client.rest_client.request(
                method,
                self._client.configuration.host + _path(ref) + subresource + _query(query),
                headers=headers,
                body=body,
                _request_timeout=timeout,
            )
            response: aiohttp.ClientResponse = answer.response
            async with response:
                if response.status >= 400:
                    raise _error(about, response.status, _document(await response.read()), response)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise api.Unavailable(about, 0, f"{method} got no whole answer: {reason}") from error


def _path(ref: api.Ref) -> str:
    place = f"/namespaces/{quote(ref.namespace, safe='')}" if ref.kind.namespaced and ref.namespace else ""
    return f"{ref.kind.root}{place}/{ref.kind.plural}" + (f"/{quote(ref.name, safe='')}" if ref.name else "")


def _query(query: Mapping[str, str] | None) -> str:
    return f"?{urlencode(query)}" if query else ""


def _selection(selector: str) -> dict[str, str]:
    return {"labelSelector": selector} if selector else {}


def _decode(ref: api.Ref, raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise api.Unavailable(ref, 0, f"the answer is no JSON object: {error}") from error


def _document(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"message": raw[:200].decode("utf-8", "replace")}


def _error(
    ref: api.Ref, status: int, document: Mapping[str, Any], response: aiohttp.ClientResponse | None
) -> api.KubeError:
    message = str(document.get("message") or "no reason given")[:1000]
    retry_after = response.headers.get("Retry-After", "") if response is not None else ""
    seconds = float(retry_after) if retry_after.isdecimal() else None
    match status:
        case 404:
            return api.NotFound(ref, status, message)
        case 409:
            return api.Conflict(ref, status, message)
        case 408 | 429 | 410:
            return api.Unavailable(ref, status, message, retry_after=seconds)
        case _ if status >= 500:
            return api.Unavailable(ref, status, message, retry_after=seconds)
        case _:
            return api.Refused(ref, status, message)
