"""What to write and what to delete so that the owned objects become the desired ones.

The API server returns more than was written (defaults, status, fields of other managers) and in other
spellings, so an object is left alone when all that we want is a subset of what is there. That can't see a
field that we stopped wanting; the manifests carry their own hash as an annotation, and that one then differs.

Only the comparison of two lists of manifests: no client, no retry, no order beyond the given one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ocr_operator.decide import edits, merge
from ocr_wire import names, quantity

Manifest = Mapping[str, Any]

MAX_REASONS: Final = 3
"""Differences named per object; the first ones are enough to see what changed."""

_QUANTITIES: Final = frozenset({"limits", "requests", "sizeLimit", "divisor", "storage"})
"""Fields at and below which `1` and `"1"`, `1Gi` and `1024Mi` are the same."""
_PRESENT: Final = frozenset({"emptyDir"})
"""Objects that say something by being there, even empty."""
_WHOLE: Final = frozenset({"selector", "nodeSelector"})
"""Objects that are one value to Kubernetes: a key more is another selector."""
_MADE_FROM: Final = (
    names.ANNOTATION_DESIRED,
    names.ANNOTATION_TEMPLATE,
    names.ANNOTATION_ASKED,
    names.ANNOTATION_ROLLED_BY,
)
"""What we note in a child about itself: no news by itself, and the first of them knows of the others."""
_CONFIDENTIAL: Final = frozenset({"data", "env"})
"""Fields at and below which values don't belong in a log."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes to do. `why` has a sentence for each object of `apply` and `delete`, for the log."""

    apply: tuple[Manifest, ...] = ()
    """Desired manifests, to be written by server-side apply with our field manager, in this order."""
    delete: tuple[Manifest, ...] = ()
    """Owned objects as read, to be deleted with their uid as precondition."""
    why: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    """Sentences for desired objects whose name is taken by an object that isn't ours: nothing is written over it, and
    nothing will be until its owner acts.
    """
    waits: tuple[str, ...] = ()
    """Sentences for those whose name is taken by an object that is on its way out: being deleted, or of a resource that
    had the same name before, whose children Kubernetes removes.
    """

    edits: tuple[str, ...] = ()
    """Sentences for what others have set in objects of ours, and what isn't set back."""
    drifts: tuple[str, ...] = ()
    """Those of `why` for what others have changed: what we want is the same as when it was written."""

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.apply or self.delete)


def plan(desired: Sequence[Manifest], owned: Sequence[Manifest]) -> Plan:
    """Compare by kind and name; all objects are of one namespace and bear their `kind`.

    `owned` is everything there with our label, and may hold other objects that have a desired name: they are
    recognised and left alone. Per desired object, in this order:

    1. It isn't there: apply.
    2. It is being deleted, or belongs to a resource that had that name before: waits. It has another owner: blocked.
    3. Something that we want is missing or different: apply. What others have added is reported.

    Of the rest, what belongs to the same owner is deleted.
    """
    there = {_ref(actual): actual for actual in owned}
    apply, why, blocked, waits, edited = [], [], [], [], []
    drifts: list[str] = []
    for wanted in desired:
        actual = there.pop(_ref(wanted), None)
        if actual is None:
            apply.append(wanted)
            why.append(f"{_title(wanted)} is missing")
        elif leaving := _leaving(wanted, actual):
            waits.append(f"{_title(wanted)} {leaving}")
        elif obstacle := _obstacle(wanted, actual):
            blocked.append(f"{_title(wanted)} {obstacle}")
        elif found := list(islice(_differences(wanted, actual), MAX_REASONS)):
            apply.append(wanted)
            why.append(f"{_title(wanted)}: {'; '.join(found)}")
            drifts += why[-1:] if seal(wanted) == seal(actual) else []
        elif added := edits.reported(wanted, actual):
            edited.append(added)
    owners = {_controller(wanted) for wanted in desired} - {None}
    delete = [actual for actual in there.values() if _controller(actual) in owners and not _is_going(actual)]
    why += [f"{_title(actual)} is no longer wanted" for actual in delete]
    return Plan(
        apply=tuple(apply),
        delete=tuple(delete),
        why=tuple(why),
        blocked=tuple(blocked),
        waits=tuple(waits),
        edits=tuple(edited),
        drifts=tuple(drifts),
    )


def is_settled(actual: Manifest, uid: str) -> bool:
    """Return whether an object belongs to the resource with that uid, and stays."""
    return _controller(actual) == uid and not _is_going(actual)


def _ref(manifest: Manifest) -> tuple[str, str]:
    return str(manifest.get("kind")), str(_metadata(manifest).get("name"))


def _title(manifest: Manifest) -> str:
    return " ".join(_ref(manifest))


def _metadata(manifest: Manifest) -> Mapping[str, Any]:
    metadata = manifest.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _owner(manifest: Manifest) -> Mapping[str, Any]:
    """The owner reference of the object that this one belongs to; empty: it belongs to none."""
    owners = _metadata(manifest).get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def _who(owner: Mapping[str, Any]) -> tuple[str, object, object]:
    """Group, kind and name of an owner: what stays the same when it is deleted and created again."""
    return str(owner.get("apiVersion")).partition("/")[0], owner.get("kind"), owner.get("name")


def _controller(manifest: Manifest) -> str | None:
    """The uid of the object that this one belongs to."""
    owner = _owner(manifest)
    return str(owner.get("uid")) if owner else None


def _is_going(actual: Manifest) -> bool:
    return bool(_metadata(actual).get("deletionTimestamp"))


def _leaving(wanted: Manifest, actual: Manifest) -> str | None:
    """Why `wanted` has to wait until `actual` is gone; None when it hasn't."""
    if _is_going(actual):
        return "is being deleted; it is written again once it is gone"
    theirs, ours = _owner(actual), _owner(wanted)
    if theirs and _who(theirs) == _who(ours) and theirs.get("uid") != ours.get("uid"):
        return (
            "belongs to the resource that had this name before; it is written once Kubernetes has removed it"
        )
    return None


def _obstacle(wanted: Manifest, actual: Manifest) -> str | None:
    """Why `wanted` can't be written over `actual`; None when it can.

    An object without any controller that bears our label for this very resource is ours: backup tools
    restore objects without their owner references.
    """
    controller = _controller(actual)
    if controller == _controller(wanted):
        return None
    if controller is not None:
        return "belongs to another object; delete it or rename the resource"
    theirs, ours = (_metadata(each).get("labels") or {} for each in (actual, wanted))
    if theirs.get(names.LABEL_DEPLOYMENT) == ours.get(names.LABEL_DEPLOYMENT) is not None:
        return None
    return "exists and isn't the operator's; delete it or rename the resource"


@dataclass(frozen=True, slots=True)
class _Place:
    """Place of a comparison: its path for people, and what the names on the way mean."""

    path: str = ""
    field: str = ""
    quantity: bool = False
    confidential: bool = False

    def at(self, field: str) -> "_Place":
        plain = field.replace("-", "").replace("_", "").isalnum()
        step = f".{field}" if plain else f"[{field!r}]"
        return _Place(
            path=f"{self.path}{step}".lstrip("."),
            field=field,
            quantity=self.quantity or field in _QUANTITIES,
            confidential=self.confidential or field in _CONFIDENTIAL,
        )

    def item(self, key: object) -> "_Place":
        return _Place(f"{self.path}[{key}]", "", self.quantity, self.confidential)

    def differs(self, wanted: object, actual: object) -> str:
        if self.confidential:
            return f"{self.path} differs"
        return f"{self.path} is {_short(actual)}, wanted {_short(wanted) if wanted is not None else 'none'}"


def _short(value: object) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _differences(wanted: Manifest, actual: Manifest) -> Iterator[str]:
    """Name what of `wanted` isn't in `actual`, the reason of our own first and the seal's only if nothing else."""
    found = False
    for difference in _compare(wanted, actual, _Place()):
        if not any(each in difference for each in _MADE_FROM):
            found = True
            yield difference
    if not found and seal(wanted) != seal(actual):
        yield "a field is no longer wanted"


def seal(manifest: Manifest) -> object:
    """Return the hash of what the object was made from: equal ones are of equal manifests."""
    return (_metadata(manifest).get("annotations") or {}).get(names.ANNOTATION_DESIRED)


def _compare(wanted: Any, actual: Any, place: _Place) -> Iterator[str]:
    if actual is None and not wanted and not isinstance(wanted, bool) and place.field not in _PRESENT:
        return  # the API server drops empty values
    match wanted, actual:
        case Mapping(), Mapping():
            for field, value in wanted.items():
                theirs = actual.get(field)
                if (
                    type(theirs) is not type(value) or theirs != value
                ):  # as most are, and that takes no Python
                    yield from _compare(value, theirs, place.at(field))
            for field in [each for each in actual if place.field in _WHOLE and each not in wanted]:
                yield place.at(field).differs(None, actual[field])
        case list(), list() if place.field in merge.KEYS:
            yield from _compare_keyed(wanted, actual, place)
        case list(), list() if len(wanted) == len(actual):
            for index, (ours, theirs) in enumerate(zip(wanted, actual, strict=True)):
                yield from _compare(ours, theirs, place.item(index))
        case _:
            if not _same(wanted, actual, place):
                yield place.differs(wanted, actual)


def _compare_keyed(wanted: Sequence[Any], actual: Sequence[Any], place: _Place) -> Iterator[str]:
    """Items are found by what identifies them; further items belong to others and may stay."""
    there = {merge.identity(place.field, item): item for item in actual}
    for index, item in enumerate(wanted):
        key = merge.identity(place.field, item)
        if key is not None:
            yield from _compare(item, there.get(key), place.item(key[0][1]))
        elif all(any(_compare(item, other, place)) for other in actual):
            yield place.item(index).differs(item, None)


def _same(wanted: object, actual: object, place: _Place) -> bool:
    if isinstance(wanted, bool) or isinstance(actual, bool):
        return wanted is actual or (wanted is False and actual is None)
    return wanted == actual or (place.quantity and quantity.same(wanted, actual))
