"""How Kubernetes tells the items of a list apart, and how a partial manifest is laid over a whole one.

The table follows the merge keys of the Kubernetes API types (`patchMergeKey`, `listMapKey`). A list that
isn't in it is one value: it is replaced, and compared, as a whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "schedulingGates": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "port", "protocol"),
}
"""Fields that identify an item, by the name of the list; those that an item lacks don't count."""

_WHOLE: Final = frozenset({"env", "volumes"})
"""Lists whose items are unions (value or valueFrom, one volume source): merging two would set both members.
"""

_APPENDED: Final = frozenset({"tolerations"})
"""One value to Kubernetes, but a partial manifest that adds a toleration doesn't mean to drop the others."""


def identity(field: str, item: object) -> tuple[Any, ...] | None:
    """Return what sets `item` apart from the others in the list `field`; None when nothing does."""
    if field not in KEYS or not isinstance(item, Mapping):
        return None
    # TCP is what the API server fills in, so leaving it out is the same port.
    parts = ((key, item.get(key, "TCP" if key == "protocol" else None)) for key in KEYS[field])
    found = tuple((key, value) for key, value in parts if isinstance(value, str | int))
    return found if any(key != "protocol" for key, _ in found) else None


def overlay(base: Any, patch: Any, field: str = "") -> Any:
    """`base` with `patch` laid over it; neither is changed. `field` is the name that they stand under.

    1. An object is merged field by field; null removes a field.
    2. A list of the table is merged item by item; items that aren't there yet go last.
    3. Everything else is replaced.
    """
    if isinstance(patch, Mapping):
        merged = dict(base) if isinstance(base, Mapping) else {}
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = overlay(merged.get(key), value, key)
        return merged
    if isinstance(patch, list):
        return _overlay_list(base if isinstance(base, list) else [], patch, field)
    return patch


def _overlay_list(base: Sequence[Any], patch: Sequence[Any], field: str) -> list[Any]:
    if field in _APPENDED:
        return [*base, *(item for item in patch if item not in base)]
    if field not in KEYS:
        return [overlay(None, item) for item in patch]
    merged = list(base)
    places = {identity(field, item): place for place, item in enumerate(merged)}
    for item in patch:
        key = identity(field, item)
        if key is not None and key in places:
            place = places[key]
            merged[place] = overlay(None if field in _WHOLE else merged[place], item)
            continue
        added = overlay(None, item)
        if key is not None or added not in merged:
            places[key] = len(merged)
            merged.append(added)
    return merged
