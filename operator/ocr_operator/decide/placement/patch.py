"""A decision as one JSON patch: annotations, node affinity and the gate go together or not at all."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ocr_operator.decide.placement.types import Placement
from ocr_operator.resources.observed import Pod
from ocr_wire import names

Operation = dict[str, Any]

_NODE: Final = "nodeAffinity"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def patch(pod: Pod, placement: Placement, live: str, now: datetime) -> list[Operation]:
    """Bind a gated pod to its placement and stamps the live settings (an envelope as JSON text).

    Tests guard everything that the patch builds on, so a pod that changed in between refuses all of it (the
    API server answers 422, or 404 when the path is gone): look again. ValueError for a pod that isn't gated.
    """
    gate = f"/spec/schedulingGates/{pod.gates.index(names.GATE)}"
    annotations = {
        names.ANNOTATION_LIVE_SETTINGS: live,
        names.ANNOTATION_PLACEMENT: placement.to_json(now),
    }
    if placement.gpus:
        annotations[names.ANNOTATION_GPU_UUIDS] = ",".join(gpu.uuid for gpu in placement.gpus)
    return [
        _test("/metadata/uid", pod.uid),
        _test(f"{gate}/name", names.GATE),
        *_annotate(pod, annotations),
        *(_pin(pod.affinity, placement.node) if placement.node else []),
        {"op": "remove", "path": gate},
    ]


def stamp(pod: Pod, annotations: dict[str, str]) -> list[Operation]:
    """Set annotations of a pod, for example newer live settings; empty when they are already there."""
    changed = {key: value for key, value in annotations.items() if (pod.annotations or {}).get(key) != value}
    return [_test("/metadata/uid", pod.uid), *_annotate(pod, changed)] if changed else []


def _annotate(pod: Pod, annotations: Mapping[str, str]) -> list[Operation]:
    """Add annotations; with the map itself the version is tested too, or it would erase what another client adds."""
    if not pod.annotations:
        return [
            _test("/metadata/resourceVersion", pod.resource_version),
            _add("/metadata/annotations", dict(annotations)),
        ]
    return [
        _add(f"/metadata/annotations/{_escape(key)}", value) for key, value in sorted(annotations.items())
    ]


def _pin(affinity: Mapping[str, Any] | None, node: str) -> list[Operation]:
    """Required node affinity by name. Terms are ORed, so every term that is there gets the requirement; an
    empty term matches no node and stays as it is.
    """
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    if not affinity:
        return [_add("/spec/affinity", {_NODE: {_REQUIRED: required}})]
    unchanged = _test("/spec/affinity", affinity)
    present = affinity.get(_NODE)
    if not present:
        return [unchanged, _add(f"/spec/affinity/{_NODE}", {_REQUIRED: required})]
    terms = (present.get(_REQUIRED) or {}).get("nodeSelectorTerms")
    path = f"/spec/affinity/{_NODE}/{_REQUIRED}"
    if not terms:
        return [unchanged, _add(path, required)]
    return [
        unchanged,
        *(
            _add(f"{path}/nodeSelectorTerms/{index}/matchFields", [*(term.get("matchFields") or []), field])
            for index, term in enumerate(terms)
            if term
        ),
    ]


def _test(path: str, value: object) -> Operation:
    return {"op": "test", "path": path, "value": value}


def _add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _escape(key: str) -> str:
    """RFC 6901: `~` before `/`."""
    return key.replace("~", "~0").replace("/", "~1")
