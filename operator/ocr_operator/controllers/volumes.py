"""Which nodes the volumes of pods can be reached from, read when a pod is placed."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from ocr_operator.kube import api
from ocr_operator.resources.observed import Pod
from ocr_operator.resources.reading import mapping, mappings, text

SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
"""Annotation of a claim whose volume is being made: the scheduler's node for the first pod that wants it."""

log = logging.getLogger(__name__)


class VolumeReader:
    """Reads of one pass: replicas have their claims in common."""

    def __init__(self, kube: api.Kube) -> None:
        self._kube = kube
        self._known: dict[str, Mapping[str, Any]] = {}

    async def reach(self, pod: Pod) -> tuple[Mapping[str, Any], ...]:
        """Return the node selector of each volume of the pod that has one: where a bound volume is, and where one that
        is made for its first pod can be.

        What isn't there or may not be read is the scheduler's business, and so is the choice among volumes that are
        there and bound to nothing.
        """
        found = [await self._of_claim(pod.namespace, name) for name in pod.claims]
        return tuple(each for each in found if each)

    async def _of_claim(self, namespace: str, name: str) -> Mapping[str, Any]:
        if name not in self._known:
            try:
                self._known[name] = await self._read(namespace, name)
            except api.KubeError as error:
                log.debug("the volume of claim %s/%s is left to the scheduler: %s", namespace, name, error)
                self._known[name] = {}
        return self._known[name]

    async def _read(self, namespace: str, name: str) -> Mapping[str, Any]:
        claim = await self._kube.get(api.Ref(api.PERSISTENT_VOLUME_CLAIM, namespace, name))
        spec = mapping(claim, "spec")
        if bound := text(spec, "volumeName"):
            volume = await self._kube.get(api.Ref(api.PERSISTENT_VOLUME, "", bound))
            return mapping(mapping(mapping(volume, "spec"), "nodeAffinity"), "required")
        if node := text(mapping(mapping(claim, "metadata"), "annotations"), SELECTED_NODE):
            return {"nodeSelectorTerms": [{"matchFields": [_in("metadata.name", [node])]}]}
        if not (named := text(spec, "storageClassName")):
            return {}
        return _allowed(await self._kube.get(api.Ref(api.STORAGE_CLASS, "", named)))


def _allowed(storage_class: api.Json) -> Mapping[str, Any]:
    """Return where a class makes volumes, if it waits for a pod to make one there, as a node selector."""
    terms = mappings(storage_class, "allowedTopologies")
    if storage_class.get("volumeBindingMode") != "WaitForFirstConsumer" or not terms:
        return {}
    return {
        "nodeSelectorTerms": [
            {
                "matchExpressions": [
                    _in(text(each, "key"), each.get("values"))
                    for each in mappings(term, "matchLabelExpressions")
                ]
            }
            for term in terms
        ]
    }


def _in(key: str, values: object) -> Mapping[str, Any]:
    return {"key": key, "operator": "In", "values": values}
