"""The operator's role as the chart has it, around an API server in memory: a call that no rule grants is refused.

So every test of the whole operator is one of its role, too: a verb taken out of the chart breaks those that need it.
"""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import yaml

from ocr_operator.kube import api
from tests.support.chart_docs import CHART

RBAC: Final = CHART / "templates" / "rbac.yaml"
Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""

NEEDS: Final = {
    "get": ("get",),
    "find": ("list",),
    "watch": ("list", "watch"),
    "apply": ("create", "patch"),
    "apply_status": ("patch",),
    "patch": ("patch",),
    "create": ("create",),
    "delete": ("delete",),
}
"""What the API server asks for. Server-side apply creates what isn't there."""


def _rules() -> list[dict[str, Any]]:
    """Of a release that watches all namespaces: its own, those of what has no namespace, and those of its Lease."""
    text = RBAC.read_text(encoding="utf-8")
    own = re.search(r'define "ocr-operator\.rules" -}}\n(.*?){{- end }}', text, re.DOTALL)
    wide = re.search(r"watch-namespaces: .*?\nrules:\n(.*?)  {{- if ", text, re.DOTALL)
    leader = re.search(r"name: {{ \$name }}-leader\n.*?\nrules:\n(.*?)---", text, re.DOTALL)
    assert own is not None
    assert wide is not None
    assert leader is not None
    parts = (own[1], wide[1], leader[1].replace("{{ $name }}", "any"))
    return [rule for part in parts for rule in yaml.safe_load(part)]


RULES: Final = _rules()


def granted() -> set[Right]:
    return {
        (group, resource, verb)
        for rule in RULES
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def allows(right: Right, name: str) -> bool:
    """Whether a rule grants it for an object of that name; the Lease of the replicas is called after the release."""
    group, resource, verb = right
    return any(
        group in rule["apiGroups"]
        and resource in rule["resources"]
        and verb in rule["verbs"]
        and (
            "resourceNames" not in rule
            or name in rule["resourceNames"]
            or (name.endswith("-leader") and "any-leader" in rule["resourceNames"])
        )
        for rule in RULES
    )


class Authorized:
    """An `api.Kube` that asks the role before it passes a call on."""

    def __init__(self, kube: api.Kube) -> None:
        self._kube = kube
        self.used: set[Right] = set()
        self.denied: list[str] = []

    def _ask(self, call: str, ref: api.Ref, subresource: str = "") -> None:
        group = ref.kind.api_version.rpartition("/")[0]
        for verb in NEEDS[call]:
            right = (group, f"{ref.kind.plural}{subresource}", verb)
            if not allows(right, ref.name):
                self.denied.append(f"{verb} {right[1]} {ref.name}".rstrip())
                raise api.Refused(ref, 403, f"the role doesn't grant {verb}")
            self.used.add(right)

    async def get(self, ref: api.Ref) -> api.Json:
        self._ask("get", ref)
        return await self._kube.get(ref)

    async def find(self, kind: api.Kind, *, namespace: str = "", selector: str = "") -> Sequence[api.Json]:
        self._ask("find", api.Ref(kind, namespace, ""))
        return await self._kube.find(kind, namespace=namespace, selector=selector)

    def watch(
        self, kind: api.Kind, *, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[api.WatchEvent]:
        self._ask("watch", api.Ref(kind, namespace, ""))
        return self._kube.watch(kind, namespace=namespace, selector=selector)

    async def apply(self, manifest: api.Json) -> api.Json:
        self._ask("apply", api.ref_of(manifest))
        return await self._kube.apply(manifest)

    async def apply_status(self, ref: api.Ref, status: api.Json, *, resource_version: str) -> api.Json:
        self._ask("apply_status", ref, "/status")
        return await self._kube.apply_status(ref, status, resource_version=resource_version)

    async def patch(self, ref: api.Ref, operations: Sequence[api.Json], *, subresource: str = "") -> api.Json:
        self._ask("patch", ref, subresource)
        return await self._kube.patch(ref, operations, subresource=subresource)

    async def create(self, manifest: api.Json) -> api.Json:
        self._ask("create", api.ref_of(manifest))
        return await self._kube.create(manifest)

    async def delete(self, ref: api.Ref, *, uid: str, resource_version: str = "") -> None:
        self._ask("delete", ref)
        await self._kube.delete(ref, uid=uid, resource_version=resource_version)
