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
