"""Reads pods so that what is equal between them is there once: pods of a template differ in little but their names.

Nothing is kept for pods that are gone: tables have weak references, and one pod, the last one that was read.
"""

from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from ocr_operator.resources import observed
from ocr_operator.resources.observed import NO_POD, Pod
from ocr_operator.resources.reading import mapping

_NODE: Final = "nodeAffinity"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_TERMS: Final = "nodeSelectorTerms"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


class _Term(dict[str, Any]):
    """A dict that can be referred to weakly."""

    __slots__ = ("__weakref__",)


class PodReader:
    """Returns views as `observed.pod` does, of equal values. A part is shared as it was first read, for as long as
    there is a pod that has it.
    """

    def __init__(self) -> None:
        self._newest: WeakValueDictionary[str, Pod] = WeakValueDictionary()
        """UID of an owner → its pod that was read last."""
        self._last = NO_POD
        self._terms: WeakValueDictionary[bytes, _Term] = WeakValueDictionary()
        """JSON → term of node affinity. There are some for each node, and placement gives several to each pod."""

    def read(self, raw: Mapping[str, Any]) -> Pod:
        """Return the view of a pod."""
        owner = observed.owner_of(mapping(raw, "metadata"))
        like = self._newest.get(owner.uid, self._last) if owner else self._last
        found = self._last = observed.pod(self._with_terms(raw, like), like)
        if owner and owner.uid:
            self._newest[owner.uid] = found
        return found

    def _with_terms(self, raw: Mapping[str, Any], like: Pod) -> Mapping[str, Any]:
        """Return the pod with those terms of node affinity that others have, too."""
        spec = mapping(raw, "spec")
        affinity = mapping(spec, "affinity")
        wanted = mapping(affinity, _NODE)
        if not wanted or affinity == like.affinity:
            return raw
        shared = dict(wanted)
        if terms := _listed(wanted, _PREFERRED):
            shared[_PREFERRED] = [self._shared(each) for each in terms]
        required = mapping(wanted, _REQUIRED)
        if terms := _listed(required, _TERMS):
            shared[_REQUIRED] = {**required, _TERMS: [self._shared(each) for each in terms]}
        return {**raw, "spec": {**spec, "affinity": {**affinity, _NODE: shared}}}

    def _shared(self, term: Any) -> Any:
        if not isinstance(term, dict):
            return term
        key = msgspec.json.encode(term)
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = _Term(term)
        return found


def _listed(of: Mapping[str, Any], field: str) -> list[Any]:
    value = of.get(field)
    return value if isinstance(value, list) else []
