"""Decide which resources roll out a change of the operator's own, and when: after an upgrade not all pods at once.

The wave has no memory but the children: each says by its annotations what it was made from, and by its status how far
its roll-out is. So another process, or another replica, goes on where the last one was.

A child is made from what the resource says and from what the operator adds, by its version and settings. A change of
the first rolls out at once, with all that the second has become. A change of the second alone waits for its turn, and
the template stays what it was until then.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from heapq import nsmallest
from typing import Any

from ocr_operator.decide import edits
from ocr_operator.decide.manifests import asked, common
from ocr_operator.resources.observed import Key, rollout
from ocr_operator.resources.reading import mapping
from ocr_wire import names

Manifest = Mapping[str, Any]


class Cause(Enum):
    """Why the template that is wanted is another one than the one that is there."""

    SAME = "same"
    RESOURCE = "resource"
    """The resource says something else, or the child was edited."""
    DEFAULTS = "defaults"
    """Only the operator's version or settings are others."""


def cause(wanted: Manifest, child: Manifest, *, compared: bool) -> Cause:
    """Compare the manifest of a Deployment with the one that is there.

    `compared`: whether the operator has compared the children with what the resource says now, maybe in an earlier
    version: what counts for a child of a version that wrote no hash of it.
    """
    ours, theirs = _annotations(wanted), _annotations(child)
    if ours.get(names.ANNOTATION_TEMPLATE) == theirs.get(names.ANNOTATION_TEMPLATE):
        return Cause.SAME
    before = theirs.get(names.ANNOTATION_ASKED)
    unchanged = before == ours.get(names.ANNOTATION_ASKED) if before else compared
    if not unchanged or edits.overwrites_template(wanted, child):
        return Cause.RESOURCE
    return Cause.DEFAULTS


def marked(wanted: Manifest, rolled_by: str) -> dict[str, Any]:
    """Return the manifest with the word why its template is written."""
    return common.noted(wanted, {names.ANNOTATION_ROLLED_BY: rolled_by})


def rolled_by(child: Manifest) -> str:
    """Return the word that a child has: its template stays the same."""
    return _annotations(child).get(names.ANNOTATION_ROLLED_BY) or names.RESOURCE_CHANGED


def held(wanted: Manifest, child: Manifest) -> dict[str, Any]:
    """Return the manifest with the template that is there, as it was read: writing it replaces no pod.

    It holds only for the version of the child that was read: anything newer must not be undone.
    """
    spec = dict(mapping(wanted, "spec"))
    del spec["template"]
    meta = dict(wanted["metadata"])
    notes = {
        names.ANNOTATION_DESIRED: asked.digest(["held", meta["labels"], spec]),
        names.ANNOTATION_TEMPLATE: _annotations(child).get(names.ANNOTATION_TEMPLATE),
    }
    known = {key: value for key, value in {**meta["annotations"], **notes}.items() if value is not None}
    meta |= {"annotations": known, "resourceVersion": mapping(child, "metadata").get("resourceVersion")}
    return {**wanted, "metadata": meta, "spec": spec | {"template": mapping(child, "spec").get("template")}}


def turn_of(child: Manifest) -> str:
    """Return the word with which a child is written whose turn it is."""
    return names.DEFAULTS_CHANGED if is_sound(child) else names.DEFAULTS_CHANGED_BROKEN


def holds(child: Manifest | None) -> bool:
    """Return whether a resource has a place in the wave: what the operator has changed is rolled out, and isn't yet so
    far that all pods are of the new template and were ready.

    A roll-out that fails keeps its place if all pods were ready before it: then it may be the operator's new version
    that breaks them, and others are kept from it. Where they weren't, a failure says nothing of the version.
    """
    if child is None or mapping(child, "metadata").get("deletionTimestamp"):
        return False
    word = _annotations(child).get(names.ANNOTATION_ROLLED_BY)
    if word not in (names.DEFAULTS_CHANGED, names.DEFAULTS_CHANGED_BROKEN):
        return False
    seen = rollout(child)
    if word == names.DEFAULTS_CHANGED_BROKEN and seen.observed and seen.failed:
        return False
    return not (seen.observed and (seen.available_once or seen.wanted == 0))


def is_sound(child: Manifest) -> bool:
    """Return whether all pods of a child are ready, so that its roll-out is likely to come to an end."""
    seen = rollout(
        child
    )  # a change of annotations, too, is one that its controller has to observe: not asked for
    return not seen.failed and seen.available >= seen.wanted


@dataclass(frozen=True, slots=True)
class Waiting:
    """A resource that waits for its turn."""

    key: Key
    sound: bool
    """Whether all of its pods are ready."""


def turns(waiting: Collection[Waiting], holding: Collection[Key], budget: int) -> tuple[Key, ...]:
    """List whose turn it is, of at most `budget` resources that roll out at the same time; `holding` do already.

    1. Those that hold a place: they need no other, and what comes may be the cure.
    2. As many of the rest as there are places, those first whose pods are all ready: one that wasn't before its
       roll-out may never be, and it has its place until that has failed, which takes minutes.
    Each by namespace and name.
    """
    again = sorted(each.key for each in waiting if each.key in holding)
    rest = ((not each.sound, each.key) for each in waiting if each.key not in holding)
    return (*again, *(key for _, key in nsmallest(max(0, budget - len(holding)), rest)))


def _annotations(manifest: Manifest) -> Mapping[str, Any]:
    return mapping(mapping(manifest, "metadata"), "annotations")
