"""The objects a pod refers to, fetched from the API server, and its service account tokens, kept until they age."""

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from devcluster.kube.api import Api, ApiError
from devcluster.kube.model import Pod
from devcluster.node.decide.podspec import Needs, Token

FRESH_SHARE = 0.8
"""A token is replaced after this share of its life, as a kubelet does."""

_MIN_TOKEN_SECONDS = 600  # the API server refuses shorter ones


@dataclass(frozen=True)
class Fetched:
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    config_maps: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    tokens: Mapping[Token, str] = field(default_factory=dict)


class Sources:
    """Client that fetches for one pod. Objects are read by name, one by one: a node may not list them."""

    def __init__(self, api: Api, pod: Pod) -> None:
        self._api = api
        self._pod = pod
        self._tokens: dict[Token, tuple[str, float]] = {}

    async def fetch(self, needs: Needs) -> Fetched:
        """Return what exists of `needs`; a missing object is left out, any other failure raises `ApiError`."""
        secrets, config_maps, tokens = await asyncio.gather(
            self._objects("secrets", needs.secrets),
            self._objects("configmaps", needs.config_maps),
            asyncio.gather(*(self._token(token) for token in needs.tokens)),
        )
        return Fetched(secrets, config_maps, dict(zip(needs.tokens, tokens, strict=True)))

    async def _objects(self, kind: str, names: frozenset[str]) -> dict[str, dict[str, bytes]]:
        found = {}
        for name in sorted(names):
            try:
                body = await self._api.get(f"/api/v1/namespaces/{self._pod.metadata.namespace}/{kind}/{name}")
            except ApiError as error:
                if error.status == 404:
                    continue
                raise
            content = body.get("data") or {}
            if kind == "secrets":
                found[name] = {key: base64.b64decode(value) for key, value in content.items()}
            else:
                binary = {
                    key: base64.b64decode(value) for key, value in (body.get("binaryData") or {}).items()
                }
                found[name] = {key: value.encode() for key, value in content.items()} | binary
        return found

    async def _token(self, wanted: Token) -> str:
        known = self._tokens.get(wanted)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        meta, account = self._pod.metadata, self._pod.spec.service_account_name
        seconds = max(wanted.expiration_seconds, _MIN_TOKEN_SECONDS)
        reference = {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}
        spec = {"expirationSeconds": seconds, "boundObjectRef": reference}
        if wanted.audience:
            spec["audiences"] = [wanted.audience]
        answer = await self._api.create(
            f"/api/v1/namespaces/{meta.namespace}/serviceaccounts/{account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        token: str = answer["status"]["token"]
        self._tokens[wanted] = token, time.monotonic() + seconds * FRESH_SHARE
        return token
