"""Requests to the API server and their answers, over HTTP.

`kubernetes.aio` brings configuration, TLS and authentication; requests and answers are raw JSON, because its
typed models block the event loop for seconds on long lists. Everything that goes wrong leaves here as an
`api.KubeError`, whatever it was; what is in no family of errors is in the log with its traceback.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client as kubernetes_client

from ocr_operator.kube import api, decoding
from ocr_operator.kube.certificates import Certificates
from ocr_wire import numbers, redaction, tokens
from ocr_wire.garbage import forget_frames

ATTEMPTS: Final = 4
"""Tries of one request that the API server turns away with 429 before the caller hears of it."""
MAX_PATIENCE_SECONDS: Final = 10.0

log = logging.getLogger(__name__)

T = TypeVar("T", str, dict[str, Any])


class Unreadable(api.Unavailable):
    """The answer is none that can be read. From the same place the same would follow: begin anew."""

    verb = "was not understood"


class TooLong(Unreadable):
    """The answer has more bytes than are read."""


class Transport:
    """Sends one request at a time for each caller; nothing is remembered between them."""

    def __init__(
        self, client: kubernetes_client.ApiClient, *, request_seconds: float, rng: random.Random
    ) -> None:
        self._client = client
        self._certificates = Certificates(client)
        self._timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=5)
        self._rng = rng

    async def authorization(self) -> str | None:
        """Return the header's value. Raises `ValueError` for a token that can't be in one."""
        found = await self._client.configuration.get_api_key_with_prefix("BearerToken")
        try:
            return tokens.parse(found or "") or None
        except tokens.Unusable as error:
            raise ValueError(f"the token for the API server {error}") from None

    async def redacted(self, said: T) -> T:
        """Return an answer or an error without what we ask with: a proxy between repeats a token, a library an address
        with its password."""
        known = list(redaction.in_address(self._client.configuration.host))
        with suppress(Exception):  # a token that can't be had was not sent
            known.append((await self.authorization() or "").rpartition(" ")[2])
        redacted: T = redaction.everywhere(said, redaction.Redactor(known))
        return redacted

    async def request(
        self, method: str, ref: api.Ref, *, about: api.Ref | None = None, **how: Any
    ) -> api.Json:
        about = about or ref
        raw = await self.answer(method, ref, about=about, **how)
        try:
            return decoding.document(raw, free_form=about.kind.free_form)
        except decoding.Unreadable as error:
            raise Unreadable(about, 0, f"the answer is {error}") from error

    async def answer(
        self,
        method: str,
        ref: api.Ref,
        *,
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        about: api.Ref | None = None,
        max_bytes: int = decoding.MAX_BYTES,
    ) -> bytes:
        """Return the body of an answer; a 429 is waited for."""
        about = about or ref
        for attempt in range(ATTEMPTS):
            try:
                async with self.send(
                    method,
                    ref,
                    subresource=subresource,
                    query=query,
                    body=body,
                    content_type=content_type,
                    timeout=self._timeout,
                    about=about,
                ) as response:
                    return await decoding.whole(response.content.iter_any(), max_bytes=max_bytes)
            except api.Unavailable as error:
                if error.status != 429 or attempt == ATTEMPTS - 1:
                    raise
                patience = error.retry_after if error.retry_after is not None else 2.0**attempt
                await asyncio.sleep(min(patience, MAX_PATIENCE_SECONDS) + self._rng.uniform(0.0, 0.1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    @asynccontextmanager
    async def send(
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
            if authorization := await self.authorization():
                headers["Authorization"] = authorization
            async with self._certificates.connections() as connections:
                answer = await connections.request(
                    method,
                    self._client.configuration.host + _path(ref) + subresource + _query(query),
                    headers=headers,
                    body=body,
                    _request_timeout=timeout,
                )
                response: aiohttp.ClientResponse = answer.response
                async with response:
                    if response.status >= 400:
                        said = _document(await decoding.whole(response.content.iter_any()))
                        raise error_of(about, response.status, await self.redacted(said), response)
                    yield response
        except api.KubeError:
            raise
        except decoding.TooLong as error:
            raise TooLong(about, 0, f"{method} got {error}") from error
        except decoding.Unreadable as error:
            raise Unreadable(about, 0, f"{method} got {error}") from error
        except Exception as error:
            if not isinstance(error, aiohttp.ClientError | OSError | ValueError):  # a timeout is an OSError
                log.exception("%s of %s failed", method, about)
            forget_frames(error)
            raise fault(about, method, await self.redacted(str(error)) or type(error).__name__) from error


def _path(ref: api.Ref) -> str:
    place = f"/namespaces/{quote(ref.namespace, safe='')}" if ref.kind.namespaced and ref.namespace else ""
    return f"{ref.kind.root}{place}/{ref.kind.plural}" + (f"/{quote(ref.name, safe='')}" if ref.name else "")


def _query(query: Mapping[str, str] | None) -> str:
    return f"?{urlencode(query)}" if query else ""


def fault(ref: api.Ref, method: str, reason: str) -> api.Unavailable:
    return api.Unavailable(ref, 0, f"{method} got no whole answer: {reason[:1000]}")


def _document(raw: bytes) -> dict[str, Any]:
    try:
        return decoding.document(raw)
    except decoding.Unreadable:
        return {"message": raw[:200].decode("utf-8", "replace")}


def code_of(status: Mapping[str, Any]) -> int:
    """Return the code of a watch's error."""
    code = status.get("code")
    return code if isinstance(code, int) and code else 500


def error_of(
    ref: api.Ref, status: int, document: Mapping[str, Any], response: aiohttp.ClientResponse | None
) -> api.KubeError:
    message = str(document.get("message") or "no reason given")[:1000]
    retry_after = response.headers.get("Retry-After", "") if response is not None else ""
    seconds = numbers.whole(retry_after, 0, 99_999)
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
