from typing import Any

from ocr_operator.resources.conditions import STATUSES, counts
from ocr_wire.conditions import CONDITIONS


def resource(**statuses: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": key, "status": value} for key, value in statuses.items()]}}


def test_every_pair_is_counted_from_the_start() -> None:
    assert counts([]) == {(each.type, status): 0 for each in CONDITIONS for status in STATUSES}


def test_resources_are_counted_by_condition_and_status() -> None:
    found = counts([resource(Ready="True", Placed="False"), resource(Ready="True"), {}, {"status": None}])
    assert {pair: count for pair, count in found.items() if count} == {
        ("Ready", "True"): 2,
        ("Placed", "False"): 1,
    }


def test_what_others_write_makes_no_series() -> None:
    odd = [resource(Ready="Perhaps", Mine="True"), {"status": {"conditions": [{}]}}]
    assert counts(odd) == counts([])
