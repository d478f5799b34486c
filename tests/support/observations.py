"""Raw API objects and pod states that show only what a test is about."""

from collections.abc import Mapping, Sequence
from typing import Any

from ocr_wire import names

T0 = "2026-11-23T08:00:00Z"


def raw_pod(
    name: str = "invoices-7c9-abc",
    *,
    node: str = "gpu-a",
    ready: bool = True,
    gated: bool = False,
    annotations: Mapping[str, str] | None = None,
    deployment: str = "invoices",
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod of `invoices`, running and ready unless said otherwise."""
    status: dict[str, Any] = {"name": names.CONTAINER, "ready": ready, "restartCount": 0}
    status |= {"state": {"running": {"startedAt": T0}}} | dict(container or {})
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": T0}]
    if gated:
        conditions.append({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"})
        spec["schedulingGates"] = [{"name": names.GATE}]
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "creationTimestamp": T0,
            "labels": {names.LABEL_DEPLOYMENT: deployment, names.LABEL_AWAKE: "true"} if deployment else {},
            "annotations": {names.ANNOTATION_CONFIG: "{}"} if annotations is None else dict(annotations),
        },
        "spec": spec if gated else {"nodeName": node} | spec,
        "status": {
            "phase": "Pending" if gated else "Running",
            "podIP": "127.0.1.5",
            "conditions": conditions,
            "containerStatuses": [] if gated else [status],
        },
    }


def full_pod(
    name: str = "invoices-7c9-abc", *, owner: str = "uid-7c9", node: str = "gpu-a"
) -> dict[str, Any]:
    """A pod as the API server returns it once it was placed and ended, with every field that is read, and others."""
    selector = {"matchLabels": {names.LABEL_DEPLOYMENT: "invoices"}}
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    asked = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"example.com/fpga": "1"}}
    ended = {"reason": "OOMKilled", "message": "m", "exitCode": 137, "finishedAt": T0, "startedAt": T0}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
    conditions = {
        "Ready": {"status": "True"},
        "PodReadyToStartContainers": {"status": "True"},
        "PodScheduled": {"status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
        "PodResizePending": {"status": "True", "reason": "Infeasible"},
    }
    status = {
        "name": names.CONTAINER,
        "image": "image:1",
        "imageID": "sha256:1",
        "restartCount": 2,
        "ready": True,
    }
    labels = {names.LABEL_DEPLOYMENT: "invoices", names.LABEL_AWAKE: "true", "pod-template-hash": "7c9"}
    return {
        "metadata": {
            "name": name,
            "generateName": "invoices-7c9-",
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "creationTimestamp": T0,
            "deletionTimestamp": T0,
            "deletionGracePeriodSeconds": 120,
            "labels": labels,
            "annotations": {
                names.ANNOTATION_CONFIG: '{"models":[]}',
                names.ANNOTATION_PLACEMENT: f"of {name}",
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "other", "uid": "1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "invoices-7c9", "uid": owner}
                | {"controller": True, "blockOwnerDeletion": True},
            ],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:phase": {}}}}] * 9,
        },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 120,
            "schedulingGates": [{"name": names.GATE}],
            "nodeSelector": {"disk": "fast"},
            "tolerations": [
                {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
                | {"tolerationSeconds": 300},
            ],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [named]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": named}],
                },
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
                    ]
                },
            },
            "topologySpreadConstraints": [
                {"topologyKey": "zone", "maxSkew": 2, "minDomains": 2, "labelSelector": selector}
                | {"nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor", "matchLabelKeys": ["a"]}
                | {"whenUnsatisfiable": "DoNotSchedule"}
            ],
            "volumes": [
                {"name": "cache", "persistentVolumeClaim": {"claimName": "models", "readOnly": False}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                {"name": "tmp", "emptyDir": {}},
            ],
            "containers": [
                {"name": names.CONTAINER, "image": "image:1", "resources": asked, "env": [{"name": "A"}]}
                | {
                    "ports": [
                        {"containerPort": 8000, "hostPort": 80, "hostIP": "10.0.0.1", "protocol": "UDP"}
                    ]
                }
            ],
            "initContainers": [{"name": "side", "restartPolicy": "Always", "resources": asked}],
            "overhead": {"cpu": "1"},
            "resources": {"requests": {"memory": "8Gi"}},
            "priority": 7,
            "preemptionPolicy": "Never",
            "serviceAccountName": "default",
        },
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "startTime": T0,
            "nominatedNodeName": "gpu-b",
            "podIP": "127.0.1.5",
            "podIPs": [{"ip": "127.0.1.5"}],
            "conditions": [
                {"type": kind, "lastTransitionTime": T0, "lastProbeTime": None} | parts
                for kind, parts in conditions.items()
            ],
            "containerStatuses": [
                status
                | {"state": {"waiting": waiting}, "lastState": {"terminated": ended}, "resources": asked}
                | {"allocatedResources": {"cpu": "3"}}
            ],
            "initContainerStatuses": [status | {"name": "side", "state": {"running": {"startedAt": T0}}}],
            "resources": {"requests": {"memory": "9Gi"}},
            "allocatedResources": {"memory": "10Gi"},
        },
    }


def raw_state(
    pod: str = "invoices-7c9-abc",
    *,
    models: Mapping[str, tuple[str, str]] | None = None,
    kind: str = "simulated",
    uuid: str | None = "GPU-1",
    revision: int = 1,
    digest: str = "0123456789abcdef",
    failure: Mapping[str, Any] | None = None,
    ignored: Sequence[str] = (),
) -> dict[str, Any]:
    """What that pod answers; `models` maps a name to its state and location."""
    return {
        "pod": {"name": pod, "uid": f"uid-{pod}"},
        "version": "0.1.0",
        "draining": False,
        "device": {
            "kind": kind,
            "uuid": uuid,
            "product": "NVIDIA-L40S",
            "memory_total_bytes": 46068 * 2**20,
            "memory_used_bytes": 0,
        },
        "models": [
            {
                "name": name,
                "engine": "rapidocr",
                "state": state,
                "location": location,
                "worker": "running",
                "since": "2026-11-23T08:00:00.000Z",
                "in_flight": 0,
                "waiting": 0,
                "memory_bytes": 0,
                "host_bytes": 0,
                "loads": 1,
                "wakes": 0,
                "failures": 0,
                "last_wake_seconds": None,
                "last_load_seconds": None,
                "last_failure": dict(failure) if failure else None,
            }
            for name, (state, location) in (models or {"invoice-ocr": ("unloaded", "unloaded")}).items()
        ],
        "queue": {"waiting": 0, "in_flight": 0, "limit": 64},
        "settings": {"generation": 1, "revision": revision, "hash": digest, "values": {"logLevel": "info"}}
        | ({"ignored": list(ignored)} if ignored else {}),
    }
