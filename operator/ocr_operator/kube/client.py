"""The verbs and the watch of `api.Kube`, over HTTP."""

import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Final

from kubernetes.aio import client as kubernetes_client

from ocr_operator.kube import api
from ocr_operator.kube.transport import Transport
from ocr_operator.kube.watch import Watcher
from ocr_operator.settings import FIELD_MANAGER

IDLE_TIMEOUT_SECONDS: Final = 120.0
"""A watch without any line for so long is dead: the API server sends a bookmark a minute, and may skip one."""


_NEVER: Final = (
    "failed to create typed patch object",
    "failed to convert new object",
    "etcdserver: request is too large",
)
"""How the messages begin of a 500 that says no for good: under server-side apply the API server (seen with 1.36) has
one for a field that isn't known or is of another type, where it answers 400 or 422 otherwise."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials that another client needs to speak to the same API server as us. Read afresh on each call."""

    server: str
    authorization: str | None = field(repr=False)
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
        rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret
        self._client = client
        self._transport = Transport(client, request_seconds=request_seconds, rng=rng)
        self._watcher = Watcher(self._transport, silence_seconds=silence_seconds, rng=rng)

    async def credentials(self) -> Credentials:
        config = self._client.configuration
        return Credentials(
            server=config.host,
            authorization=await self._transport.authorization(),
            ca_path=config.ssl_ca_cert,
            certificate_path=config.cert_file,
            key_path=config.key_file,
            insecure=not config.verify_ssl,
        )

    async def get(self, ref: api.Ref) -> api.Json:
        return await self._transport.request("GET", ref)

    async def find(self, kind: api.Kind, *, namespace: str = "", selector: str = "") -> Sequence[api.Json]:
        items, _ = await self._watcher.list(kind, namespace, selector)
        return items

    async def apply(self, manifest: api.Json) -> api.Json:
        return await self._apply(api.ref_of(manifest), manifest)

    async def apply_status(self, ref: api.Ref, status: api.Json, *, resource_version: str) -> api.Json:
        meta = {"name": ref.name, "namespace": ref.namespace, "resourceVersion": resource_version}
        body = {"apiVersion": ref.kind.api_version, "kind": ref.kind.name, "metadata": meta, "status": status}
        return await self._apply(ref, body, "/status")

    async def _apply(self, ref: api.Ref, body: api.Json, subresource: str = "") -> api.Json:
        try:
            return await self._transport.request(
                "PATCH",
                ref,
                subresource=subresource,
                query={"fieldManager": FIELD_MANAGER, "force": "true"},
                body=body,
                content_type="application/apply-patch+yaml",
            )
        except api.Unavailable as error:
            if error.status == 500 and error.message.startswith(_NEVER):
                raise api.Refused(ref, 500, error.message) from error
            raise

    async def patch(self, ref: api.Ref, operations: Sequence[api.Json], *, subresource: str = "") -> api.Json:
        try:
            return await self._transport.request(
                "PATCH",
                ref,
                subresource=subresource,
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
        return await self._transport.request(
            "POST",
            api.Ref(ref.kind, ref.namespace, ""),
            query={"fieldManager": FIELD_MANAGER},
            body=manifest,
            about=ref,
        )

    async def delete(self, ref: api.Ref, *, uid: str, resource_version: str = "") -> None:
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        try:
            await self._transport.request("DELETE", ref, body={"preconditions": preconditions})
        except api.Conflict as error:
            if resource_version:
                raise
            raise api.NotFound(ref, error.status, error.message) from error

    def watch(
        self, kind: api.Kind, *, namespace: str = "", selector: str = ""
    ) -> AsyncGenerator[api.WatchEvent, None]:
        return self._watcher.watch(kind, namespace=namespace, selector=selector)
