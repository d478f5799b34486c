"""Which changes of a status can wait for the next one."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from ocr_operator.decide.status.aggregate import previous
from ocr_operator.resources.reading import mapping

PENDING: Final = "Pending"
"""The phase of a resource that has no ready pod, and with which nothing is wrong."""
PROGRESSING: Final = "Progressing"
"""The phase once there is a ready pod, and more are wanted."""
_STEPS: Final = {"Placed": "True", "ConfigApplied": "True"}
"""Conditions that turn on the way to `Ready`, and to what."""

Step = Literal["none", "turn", "word"]


def step(before: Mapping[str, Any], after: Mapping[str, Any]) -> Step:
    """Return whether a resource that comes up has only got a step further: one on which the next one follows, unless
    something is wrong, and that is no step.

    `turn`: a condition turned, such as `Placed`, or the first of several pods is ready. `word`: no condition did; a
    reason or a number is another one. `none`: anything else, such as another generation, or settings.
    """
    same = before.get("observedGeneration") == after.get("observedGeneration")
    same = same and _settings(before) == _settings(after)
    phases = before.get("phase"), after.get("phase")
    if not same or phases not in ((PENDING, PENDING), (PENDING, PROGRESSING)):
        return "none"
    old, new = _turns(before), _turns(after)
    turned = {kind: turn for kind, turn in new.items() if old.get(kind) != turn}
    if old.keys() != new.keys() or not turned.items() <= _STEPS.items():
        return "none"
    return "turn" if turned or phases[1] != PENDING else "word"


def _settings(status: Mapping[str, Any]) -> dict[str, object]:
    live = mapping(status, "liveSettings")
    return {field: value for field, value in live.items() if field != "reserved"}


def _turns(status: Mapping[str, Any]) -> dict[str, object]:
    return {kind: condition.get("status") for kind, condition in previous(status).items()}
