"""The API server: requests, errors and watches, by raw JSON. The only module that talks to it."""

import asyncio
import base64
import json
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
import yaml

from devcluster.errors import DevclusterError

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 16 * 2**20
"""A watch event larger than this ends the watch; etcd refuses objects far smaller."""

WATCH_SECONDS = 240
SILENCE_SECONDS = 120
"""Bookmarks come about once a minute, so a watch that says nothing for this long is dead."""

Json = dict[str, Any]


class ApiError(DevclusterError):
    """Error of a request that the API server refused, or of one that didn't reach it (`status` 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Event:
    """Change of a watched collection. `synced` carries everything there is and replaces what was known before."""

    kind: Literal["synced", "changed", "gone"]
    objects: list[Json]


@dataclass(frozen=True)
class Access:
    """Address and credentials of an API server, from a kubeconfig's current context."""

    server: str
    token: str | None
    ca: str | None
    """PEM."""
    client_cert: tuple[str, str] | None
    """PEM of certificate and key."""


def access(kubeconfig: Path) -> Access:
    """Read the current context of a kubeconfig; tokens, token files and client certificates are supported."""
    content = yaml.safe_load(kubeconfig.read_text())

    def named(kind: str, name: str) -> Json:
        for entry in content.get(f"{kind}s", []):
            if entry["name"] == name:
                found: Json = entry[kind]
                return found
        raise ValueError(f"kubeconfig {kubeconfig} has no {kind} named {name!r}")

    def pem(part: Json, key: str) -> str | None:
        if inline := part.get(f"{key}-data"):
            return base64.b64decode(str(inline)).decode()
        if path := part.get(key):
            return (kubeconfig.parent / str(path)).read_text()
        return None

    context = named("context", content["current-context"])
    cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
    token = user.get("token")
    if token is None and (path := user.get("tokenFile")):
        token = (kubeconfig.parent / path).read_text().strip()
    cert, key = pem(user, "client-certificate"), pem(user, "client-key")
    ca = None if cluster.get("insecure-skip-tls-verify") else pem(cluster, "certificate-authority")
    if ca is None and not cluster.get("insecure-skip-tls-verify") and cluster["server"].startswith("https:"):
        ca = ""
    return Access(cluster["server"], token, ca, (cert, key) if cert and key else None)


def _tls(how: Access) -> ssl.SSLContext:
    """Trust the given authority; `ca=""` means the system's, with None no certificate is checked."""
    context = ssl.create_default_context(cadata=how.ca or None)
    if how.ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if how.client_cert is not None:
        with tempfile.TemporaryDirectory() as folder:
            cert, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
            for path, content in zip((cert, key), how.client_cert, strict=True):
                path.touch(mode=0o600)
                path.write_text(content)
            context.load_cert_chain(cert, key)
    return context


class Api:
    """Connection pool to one API server; use as an async context manager."""

    def __init__(self, how: Access) -> None:
        self.server = how.server.rstrip("/")
        headers = {"Accept": "application/json", "User-Agent": "devcluster"}
        if how.token:
            headers["Authorization"] = f"Bearer {how.token}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(ssl=_tls(how), limit=0),
            timeout=aiohttp.ClientTimeout(total=15, connect=5),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """Return the parsed body of a 2xx; raise `ApiError` otherwise."""
        answer: Json = json.loads(
            await self._request(method, path, body, params=params, content_type=content_type)
        )
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        try:
            async with self._session.request(
                method, self.server + path, data=data, headers=headers, params=params
            ) as response:
                text = await response.read()
                if response.status >= 400:
                    raise _refusal(response.status, text, f"{method} {path}")
                return text
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(
                0, "Unreachable", f"{method} {path}: {str(error) or type(error).__name__}"
            ) from error

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        return await self.request("GET", path, params=params)

    async def find(self, path: str) -> Json | None:
        """Return an object or a list; None when there is none."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    async def text(self, path: str) -> str:
        """Return what isn't an object, such as a pod's log."""
        return (await self._request("GET", path)).decode(errors="replace")

    async def create(self, path: str, body: object) -> Json:
        return await self.request("POST", path, body)

    async def merge(self, path: str, body: object) -> Json:
        """Send a JSON merge patch."""
        return await self.request("PATCH", path, body, content_type="application/merge-patch+json")

    async def strategic(self, path: str, body: object) -> Json:
        """Send a strategic merge patch: lists with a merge key, such as conditions, are merged by it."""
        return await self.request("PATCH", path, body, content_type="application/strategic-merge-patch+json")

    async def apply(self, path: str, body: object, *, manager: str) -> Json:
        """Apply by the server: create the object, or take over the fields that the body names."""
        return await self.request(
            "PATCH",
            path,
            body,
            params={"fieldManager": manager, "force": "true"},
            content_type="application/apply-patch+yaml",
        )

    async def follow(self, path: str, selector: Mapping[str, str]) -> AsyncIterator[Event]:
        """List, then watch, for ever: reconnect with growing delays, and list again whenever changes may be missing."""
        version, delay = "", 0.1
        while True:
            try:
                if not version:
                    listing = await self.get(path, selector)
                    version = listing["metadata"]["resourceVersion"]
                    yield Event("synced", listing.get("items") or [])
                async for kind, item in self._watch(path, selector, version):
                    delay = 0.1
                    if kind == "ERROR":
                        raise _refusal(item.get("code", 500), json.dumps(item).encode(), f"watch {path}")
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield Event("gone" if kind == "DELETED" else "changed", [item])
            except ApiError as error:
                if error.status == 410:
                    version = ""
                    continue
                log.warning("%s; next attempt in %.1f s", error, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _watch(
        self, path: str, selector: Mapping[str, str], version: str
    ) -> AsyncIterator[tuple[str, Json]]:
        """Yield (type, object) until the server closes the stream; bounded in line length and idle time."""
        params = {
            **selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=SILENCE_SECONDS)
        try:
            async with self._session.get(self.server + path, params=params, timeout=timeout) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await response.read(), f"watch {path}")
                pending = b""
                async for chunk in response.content.iter_any():
                    *lines, pending = (pending + chunk).split(b"\n")
                    if len(pending) > MAX_LINE_BYTES:
                        raise ApiError(
                            0, "TooLarge", f"watch {path}: an event exceeds {MAX_LINE_BYTES} bytes"
                        )
                    for line in lines:
                        event = json.loads(line)
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(0, "Unreachable", f"watch {path}: {str(error) or type(error).__name__}") from error


def _refusal(status: int, body: bytes, what: str) -> ApiError:
    try:
        answer = json.loads(body)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", body[:200].decode(errors="replace")
    return ApiError(status, reason, f"{what}: {message} ({status})")
