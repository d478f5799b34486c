"""KEDA's kind ScaledObject, as far as our examples use it, in a cluster that has no KEDA."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import yaml

from tests.support.cluster import Place

_NAME: Final = "scaledobjects.keda.sh"
_FIELDS: Final[dict[str, Any]] = {
    "scaleTargetRef": {"apiVersion": "string", "kind": "string", "name": "string"},
    "minReplicaCount": "integer",
    "maxReplicaCount": "integer",
    "cooldownPeriod": "integer",
    "advanced": {
        "horizontalPodAutoscalerConfig": {
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": "integer"},
                "scaleDown": {"stabilizationWindowSeconds": "integer"},
            }
        }
    },
}
"""The fields of KEDA's ScaledObject (keda.sh/v1alpha1, KEDA 2) that the example uses, with their types."""


@contextlib.contextmanager
def defined(place: Place) -> Iterator[None]:
    """The definition, closed as the API server makes it: another field is refused. It goes with the block."""
    spec = _schema(_FIELDS)
    trigger = _schema({"type": "string", "metricType": "string"})
    trigger["properties"]["metadata"] = {"type": "object", "additionalProperties": {"type": "string"}}
    spec["properties"]["triggers"] = {"type": "array", "items": trigger}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": _NAME},
        "spec": {
            "group": "keda.sh",
            "scope": "Namespaced",
            "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
            "versions": [version],
        },
    }
    place.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(definition))
    place.kubectl("wait", "--for=condition=Established", f"crd/{_NAME}", "--timeout=60s")
    try:
        yield
    finally:
        place.kubectl("delete", "crd", _NAME, "--wait=false")


def _schema(fields: dict[str, Any]) -> dict[str, Any]:
    parts = {
        name: {"type": type_} if isinstance(type_, str) else _schema(type_) for name, type_ in fields.items()
    }
    return {"type": "object", "properties": parts}
