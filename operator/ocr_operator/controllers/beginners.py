"""Pods that were promised a part of a GPU and don't run yet: whose passes look at the books again when another promise
on that GPU shows.
"""

from collections.abc import Collection

from ocr_operator.decide.placement import overbooked
from ocr_operator.resources.observed import Key, Pod
from ocr_wire import names


class Beginners:
    """These pods, by what the annotation says of their GPU."""

    def __init__(self) -> None:
        self._on: dict[str, dict[str, Key]] = {}
        """GPU → pod UID → its resource."""

    def changed(self, old: Pod | None, new: Pod | None) -> Collection[Key]:
        """Take a change of a pod. Returns the resources of others that begin on its GPU, if they now have to share it
        with this one: it was placed, or runs, which makes it the first among them.
        """
        before, after = _gpu(old), _gpu(new)
        if old is not None and before and (new is None or before != after or not overbooked.begins(new)):
            there = self._on.get(before, {})
            there.pop(old.uid, None)
            if not there:
                self._on.pop(before, None)
        if new is None or not after:
            return ()
        news = before != after or (old is not None and overbooked.begins(old) and not overbooked.begins(new))
        found = {key for uid, key in self._on.get(after, {}).items() if uid != new.uid} if news else ()
        if overbooked.begins(new):
            self._on.setdefault(after, {})[new.uid] = new.namespace, new.deployment
        return found


def _gpu(pod: Pod | None) -> str:
    """Return the GPU of a pod that was placed and takes memory there, as it is written; empty for others."""
    if pod is None or pod.gated or pod.terminating or pod.finished:
        return ""
    return pod.annotation(names.ANNOTATION_GPU_UUIDS)
