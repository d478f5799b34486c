"""What a GPU cluster has before our operator comes: the NVIDIA operator's namespace, exporters and runtime class."""

from collections.abc import Mapping
from typing import Any, Final

EXPORTER_NAMESPACE: Final = "gpu-operator"
EXPORTER_LABELS: Final = {"app": "nvidia-dcgm-exporter"}

OBJECTS: Final[tuple[dict[str, Any], ...]] = (
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EXPORTER_NAMESPACE}},
    {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia"},
        "handler": "nvidia",
    },
    {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "nvidia-dcgm-exporter",
            "namespace": EXPORTER_NAMESPACE,
            "labels": EXPORTER_LABELS,
        },
        "spec": {
            "selector": {"matchLabels": EXPORTER_LABELS},
            "template": {
                "metadata": {"labels": EXPORTER_LABELS},
                "spec": {
                    "nodeSelector": {"nvidia.com/gpu.present": "true"},
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [
                        {
                            "name": "nvidia-dcgm-exporter",
                            "image": "nvcr.io/nvidia/k8s/dcgm-exporter:simulated",
                            "ports": [{"name": "metrics", "containerPort": 9400}],
                            "readinessProbe": {
                                "httpGet": {"path": "/metrics", "port": "metrics"},
                                "periodSeconds": 1,
                            },
                        }
                    ],
                },
            },
        },
    },
)

_PATHS: Final = {
    "Namespace": "/api/v1/namespaces/{name}",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses/{name}",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}",
    "DaemonSet": "/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}",
}


def path_of(resource: Mapping[str, Any]) -> str:
    """Return the API path of an object that the supervisor applies: one of those above, or a definition."""
    metadata = resource["metadata"]
    return _PATHS[resource["kind"]].format(name=metadata["name"], namespace=metadata.get("namespace", ""))
