"""What is kept of children that need nothing written."""

from typing import Any

import pytest

from ocr_operator.controllers.comparisons import Comparison, MadeFrom
from ocr_operator.decide.plan import Plan
from tests.support.resources import make_deployment


def made_from(**spec: Any) -> MadeFrom:
    return MadeFrom(1, make_deployment(**spec).spec, "token", new_first=False, with_budget=True)


def child(version: str = "7", **parts: Any) -> dict[str, Any]:
    meta = {"name": "invoices", "resourceVersion": version, "generation": int(version)}
    return {"kind": "Deployment", "metadata": meta, "spec": {"replicas": 1}, "status": {}} | parts


def compared(*owned: dict[str, Any]) -> Comparison:
    return Comparison(made_from(), owned, Plan(), held=False)


def test_the_newest_of_alike_objects_are_kept_and_the_older_ones_let_go() -> None:
    known, newer, wanted = compared(child()), child("8", status={"replicas": 1}), made_from()

    assert known.fits(wanted, [newer])

    assert known.owned[0] is newer
    assert known.made_from is wanted


@pytest.mark.parametrize(
    "owned",
    [
        [],
        [child(), child()],
        [child(spec={"replicas": 2})],
        [child(metadata={"name": "invoices", "labels": {}})],
    ],
)
def test_other_children_have_to_be_compared(owned: list[dict[str, Any]]) -> None:
    first = child()
    known = compared(first)
    assert not known.fits(made_from(), owned)
    assert known.owned[0] is first


def test_another_spec_has_to_be_compared() -> None:
    assert not compared(child()).fits(made_from(replicas=2), [child()])
