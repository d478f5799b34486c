"""The places of the wave, with children as the API server shows them."""

from typing import Any

from prometheus_client import CollectorRegistry

from ocr_operator.controllers.wave import HOLDS, PAUSED, WAITS, Wave
from ocr_operator.metrics import Metrics
from ocr_operator.resources.observed import Key
from ocr_wire import names

A, B, C = (("default", name) for name in "abc")


def child(
    reason: str = "NewReplicaSetAvailable", *, status: str = "True", rolled_by: str = "", available: int = 1
) -> Any:
    return {
        "metadata": {"generation": 1, "annotations": {names.ANNOTATION_ROLLED_BY: rolled_by}},
        "spec": {"replicas": 1},
        "status": {
            "observedGeneration": 1,
            "availableReplicas": available,
            "conditions": [{"type": "Progressing", "status": status, "reason": reason}],
        },
    }


ROLLS = child("ReplicaSetUpdated", rolled_by=names.DEFAULTS_CHANGED)
FAILS = child("ProgressDeadlineExceeded", status="False", rolled_by=names.DEFAULTS_CHANGED)
DONE = child(rolled_by=names.DEFAULTS_CHANGED)


class Told:
    def __init__(self, budget: int) -> None:
        self.asked: list[Key] = []
        self.registry = CollectorRegistry()
        self.wave = Wave(budget, enqueue=self.asked.append, metrics=Metrics(self.registry))

    def news(self) -> list[Key]:
        found, self.asked[:] = [*self.asked], []
        return found

    def count(self, state: str) -> float | None:
        return self.registry.get_sample_value("ocr_operator_wave_resources", {"state": state})


def test_no_turn_before_each_resource_had_a_pass() -> None:
    told = Told(1)
    told.wave.begin([A, B, C], {})
    assert not told.wave.take(C, child())
    told.wave.settle(C, child(), waits=True)
    told.wave.passed(C)
    assert not told.wave.take(A, child())
    told.wave.settle(A, child(), waits=True)
    told.wave.passed(A)
    assert told.news() == []
    told.wave.passed(B)
    assert told.news() == [A], "the first one, whoever came first"
    assert not told.wave.take(C, child())
    assert told.wave.take(A, child())


def test_place_is_known_from_the_child_after_a_restart_and_given_back_when_it_is_ready() -> None:
    told = Told(1)
    told.wave.begin([A, B], {A: ROLLS, B: child()})
    told.wave.passed(A)
    told.wave.passed(B)
    assert not told.wave.take(B, child())
    told.wave.settle(A, DONE)
    assert told.news() == [B]
    assert told.wave.take(B, child())


def test_place_is_given_back_where_nothing_was_written_and_by_a_resource_that_is_gone() -> None:
    told = Told(1)
    assert told.wave.take(A, child())
    assert not told.wave.take(B, child())
    told.wave.settle(A, child())
    assert told.news() == [B]
    assert told.wave.take(B, child())
    told.wave.settle(B, ROLLS)
    assert not told.wave.take(A, child())
    told.wave.settle(B, None)
    assert told.news() == [A]


def test_wave_of_which_nothing_gets_ready_says_so_and_a_new_version_may_mend_it() -> None:
    told = Told(1)
    told.wave.begin([], {A: ROLLS})
    assert not told.wave.take(B, child())
    assert told.wave.words(B) == WAITS
    assert told.wave.holds(A)
    assert (told.count("waiting"), told.count("rolling"), told.count("failing")) == (1, 1, 0)
    told.wave.settle(A, FAILS)
    assert told.news() == [B], "its status has to say so"
    assert told.wave.words(B) == WAITS + PAUSED
    assert (told.count("rolling"), told.count("failing")) == (0, 1)
    assert told.wave.take(A, FAILS), "it has a place already"
    assert "others wait" in HOLDS


def test_one_that_fails_takes_no_more_than_its_place() -> None:
    told = Told(2)
    told.wave.begin([], {A: FAILS})
    assert told.wave.take(B, child())
    told.wave.settle(B, ROLLS)
    assert not told.wave.take(C, child())
    assert told.wave.words(C) == WAITS
    told.wave.settle(B, DONE)
    assert told.news() == [C]


def test_those_that_are_ready_come_first() -> None:
    told = Told(1)
    told.wave.begin([A, B], {})
    for key, available in ((A, 0), (B, 1)):
        told.wave.take(key, child(available=available))
        told.wave.passed(key)
    assert told.news() == [B]
