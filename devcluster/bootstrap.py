"""What a GPU cluster has before our operator comes: the NVIDIA operator's namespace, exporters and runtime class."""

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
