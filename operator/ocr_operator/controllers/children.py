"""The children of a resource: written when they differ, deleted when they are no longer wanted.

What they should be is decided in `manifests`, what to do about it in `plan`; here it is done.
"""

import base64
import logging
from collections.abc import Callable, Sequence

from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.decide import manifests, plan
from ocr_operator.decide.manifests import Defaults
from ocr_operator.decide.status import Refusal
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names

MAX_MESSAGE = 1000
"""Characters of a refusal that go into a condition."""

log = logging.getLogger(__name__)


class Children:
    """Knows the Secret of every resource by its UID: Secrets are never listed or watched, only read by name."""

    def __init__(
        self,
        kube: api.Kube,
        cluster: ClusterState,
        *,
        defaults: Defaults,
        metrics: Metrics,
        new_token: Callable[[], str],
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._defaults = defaults
        self._metrics = metrics
        self._new_token = new_token
        self._secrets: dict[str, api.Json] = {}

    def forget(self, uid: str) -> None:
        """The Secret is read again, or never needed again."""
        self._secrets.pop(uid, None)

    async def token(self, resource: OcrDeployment) -> str:
        """The admin token of the resource's pods. Its Secret is made here: only one of two operators wins."""
        fresh = self._new_token()
        if resource.uid not in self._secrets:
            wanted = manifests.desired(resource, self._defaults, fresh)
            secret = next(each for each in wanted if each["kind"] == api.SECRET.name)
            self._secrets[resource.uid] = await self._get_or_create(secret)
        return _token(self._secrets[resource.uid], resource.name) or fresh

    async def ensure(self, resource: OcrDeployment, token: str) -> Refusal | None:
        """Make the children the desired ones. What the API server says no to comes back as a value; what it
        didn't answer raises.
        """
        await self.token(resource)  # the Secret may have been forgotten since, for a resync
        desired = manifests.desired(resource, self._defaults, token)
        key = (resource.namespace, resource.name)
        owned = [*self._cluster.children(key), self._secrets[resource.uid]]
        owned += await self._foreign(desired, owned)
        todo = plan.plan(desired, owned)
        if todo.blocked:
            return Refusal(reason="NameTaken", message="; ".join(todo.blocked)[:MAX_MESSAGE])
        for sentence in todo.why:
            log.info("child %s", sentence, extra={"resource": "/".join(key)})
        try:
            for old in todo.delete:
                await self._delete(old)
            for new in todo.apply:
                answer = await self._kube.apply(new)
                self._metrics.children.labels("apply").inc()
                if new["kind"] == api.SECRET.name:
                    self._secrets[resource.uid] = answer
                else:
                    self._cluster.written(answer)
        except api.Refused as error:
            return Refusal(reason="ManifestRefused", message=str(error)[:MAX_MESSAGE])
        return None

    async def _get_or_create(self, secret: api.Json) -> api.Json:
        ref = api.ref_of(secret)
        try:
            return await self._kube.get(ref)
        except api.NotFound:
            try:
                return await self._kube.create(secret)
            except api.Conflict:
                return await self._kube.get(ref)

    async def _foreign(self, desired: Sequence[api.Json], owned: Sequence[api.Json]) -> list[api.Json]:
        """Objects of a desired name that our label doesn't find: server-side apply would take them over."""
        have = {(each["kind"], each["metadata"]["name"]) for each in owned}
        found = []
        for each in desired:
            if (each["kind"], each["metadata"]["name"]) not in have:
                try:
                    found.append(await self._kube.get(api.ref_of(each)))
                except api.NotFound:
                    continue
        return found

    async def _delete(self, old: api.Json) -> None:
        try:
            await self._kube.delete(api.ref_of(old), uid=old["metadata"]["uid"])
        except api.NotFound:
            return
        self._metrics.children.labels("delete").inc()


def _token(secret: api.Json, name: str) -> str:
    """Empty for a Secret that isn't ours, whatever it holds, and for a damaged one."""
    if (secret["metadata"].get("labels") or {}).get(names.LABEL_DEPLOYMENT) != name:
        return ""
    try:
        text = (secret.get("data") or {}).get(names.ADMIN_KEY, "")
        return base64.b64decode(text, validate=True).decode("ascii")
    except ValueError:
        return ""
