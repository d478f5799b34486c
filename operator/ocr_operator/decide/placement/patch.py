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
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
MAX_TERMS: Final = 64
"""Of required node affinity: nodes that the pod may go to, times the terms of its template."""
_WEIGHTS: Final = (100, 60, 40, 20)
"""Of the choice and its runners-up: the scheduler's scale ends at 100."""


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
    if placement.uuids:
        annotations[names.ANNOTATION_GPU_UUIDS] = ",".join(placement.uuids)
    return [
        _test("/metadata/uid", pod.uid),
        _test(f"{gate}/name", names.GATE),
        *_annotate(pod, annotations),
        *_where(pod.affinity, placement),
        {"op": "remove", "path": gate},
    ]


def nominate(pod: Pod, node: str) -> list[Operation]:
    """Name the node that the scheduler tries first, as a patch of the pod's status."""
    return [_test("/metadata/uid", pod.uid), _add("/status/nominatedNodeName", node)]


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


def _where(affinity: Mapping[str, Any] | None, placement: Placement) -> list[Operation]:
    """Require the node, or one of several, or prefer it and exclude those that can't work; what the template requires
    and prefers stays.

    By names, which never change. A kubelet that starts again looks at labels anew, and ends running pods whose node
    has others by then; so only the scheduler, when it is left the choice, gets the product's. Of names a requirement
    takes one.
    """
    before: Mapping[str, Any] = (affinity or {}).get(_NODE) or {}
    after = dict(before)
    ways: list[_Way] = []
    if placement.excluded:
        ways = [{"matchFields": [_named("NotIn", name) for name in placement.excluded]}]
    elif placement.node and placement.excluded is None:
        most = max(1, MAX_TERMS // max(1, len((before.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ())))
        nodes = dict.fromkeys((placement.node, *(each.node for each in placement.alternatives)))
        ways = [{"matchFields": [_named("In", name)]} for name in list(nodes)[:most]]
    if placement.products and not placement.node:
        labels = [{"key": placement.product_label, "operator": "In", "values": [*placement.products]}]
        ways = [each | {"matchExpressions": labels} for each in ways or [{}]]
    if placement.excluded is not None or placement.alternatives:
        others = placement.alternatives or placement.runners_up
        best = filter(None, dict.fromkeys((placement.node, *(each.node for each in others))))
        preferred = [
            {"weight": weight, "preference": {"matchFields": [_named("In", name)]}}
            for name, weight in zip(best, _WEIGHTS, strict=False)
        ]
        if preferred:
            after[_PREFERRED] = [*(before.get(_PREFERRED) or []), *preferred]
    if ways:
        after[_REQUIRED] = _required(before.get(_REQUIRED) or {}, ways)
    if after == before:
        return []
    if not affinity:
        return [_add("/spec/affinity", {_NODE: after})]
    return [_test("/spec/affinity", affinity), _add(f"/spec/affinity/{_NODE}", after)]


_Way = dict[str, list[Operation]]


def _required(before: Mapping[str, Any], ways: list[_Way]) -> dict[str, Any]:
    """Terms are ORed, so each that is there is combined with each way; an empty one matches no node and stays so."""
    if not (terms := before.get("nodeSelectorTerms")):
        return {"nodeSelectorTerms": ways}
    return {
        "nodeSelectorTerms": [
            term and {**term, **{kind: [*(term.get(kind) or []), *fields] for kind, fields in way.items()}}
            for term in terms
            for way in (ways if term else ways[:1])
        ]
    }


def _named(operator: str, node: str) -> dict[str, Any]:
    return {"key": "metadata.name", "operator": operator, "values": [node]}


def _test(path: str, value: object) -> Operation:
    return {"op": "test", "path": path, "value": value}


def _add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _escape(key: str) -> str:
    """RFC 6901: `~` before `/`."""
    return key.replace("~", "~0").replace("/", "~1")
