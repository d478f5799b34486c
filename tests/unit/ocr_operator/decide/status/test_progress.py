"""Which changes of a status can wait for the next one: steps of a resource that comes up, and nothing else."""

from typing import Any

import pytest

from ocr_operator.decide import status

COMING = {
    "Ready": "False",
    "Progressing": "True",
    "Degraded": "False",
    "Placed": "Unknown",
    "ConfigApplied": "Unknown",
}


def reported(turns: dict[str, str] | None = None, reason: str = "Creating", **parts: Any) -> dict[str, Any]:
    return {
        "observedGeneration": 1,
        "phase": "Pending",
        "liveSettings": {"revision": 1, "hash": "a"},
        "conditions": [
            {"type": kind, "status": turn, "reason": reason, "message": ""}
            for kind, turn in {**COMING, **(turns or {})}.items()
        ],
        **parts,
    }


@pytest.mark.parametrize("change", [{"reason": "RollingOut"}, {"replicas": 2}, {"pods": [{"name": "a"}]}])
def test_what_turns_no_condition_is_a_word(change: dict[str, Any]) -> None:
    assert status.step(reported(), reported(**change)) == "word"


@pytest.mark.parametrize(
    "change",
    [
        {"turns": {"Placed": "True"}},
        {"turns": {"Placed": "True", "ConfigApplied": "True"}, "phase": "Progressing"},
        {"phase": "Progressing"},
    ],
)
def test_what_turns_on_the_way_is_a_turn(change: dict[str, Any]) -> None:
    assert status.step(reported(), reported(**change)) == "turn"
    assert status.step(reported(**change), reported()) == "none", "and the way back is none"


@pytest.mark.parametrize(
    "change",
    [
        {"turns": {"Ready": "True"}, "phase": "Ready"},
        {"turns": {"Ready": "True"}},
        {"turns": {"Degraded": "True"}, "phase": "Degraded"},
        {"turns": {"Placed": "False"}},
        {"turns": {"ConfigApplied": "False"}},
        {"turns": {"Stalled": "True"}, "phase": "Stalled"},
        {"turns": {"Stalled": "False"}},
        {"observedGeneration": 2},
        {"liveSettings": {"revision": 2, "hash": "b"}},
    ],
)
def test_what_somebody_waits_for_is_no_step(change: dict[str, Any]) -> None:
    assert status.step(reported(), reported(**change)) == "none"
    assert status.step(reported(**change), reported()) == "none"


@pytest.mark.parametrize("phase", ["Ready", "Standby", "Progressing", "Degraded", "Stalled"])
def test_only_a_resource_that_comes_up_has_steps(phase: str) -> None:
    assert status.step(reported(phase=phase), reported(phase=phase, replicas=2)) == "none"
