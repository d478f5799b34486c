"""Live settings: what pods are told, and how they tell new from old."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.resources import live_settings
from ocr_operator.resources.live_settings import MAX_REPORTED, Revision
from ocr_wire.live_settings import MAX_REVISION, MAX_STEP, digest
from tests.support import resources

SHARED_WITH_PODS = {"idle", "batching", "queue", "logLevel", "models"}


def make_values(**spec: Any) -> dict[str, Any]:
    return live_settings.values(resources.make_deployment(**spec).spec)


def test_values_of_a_resource_with_defaults() -> None:
    models = [{**resources.RAPIDOCR, "idle": {"offloadAfterSeconds": 5}, "preload": True}]
    assert make_values(models=models) == {
        "idle": {
            "offloadAfterSeconds": 60,
            "exitAfterSeconds": 300,
            "dropStandbyAfterSeconds": 900,
            "releaseAfterSeconds": 1800,
        },
        "batching": {"maxPages": 8, "maxWaitMilliseconds": 10},
        "queue": {"limit": 64, "patienceSeconds": 10, "deadlineSeconds": 300},
        "logLevel": "info",
        "models": {
            "pp-ocr": {
                "idle": {
                    "offloadAfterSeconds": 5,
                    "exitAfterSeconds": 300,
                    "dropStandbyAfterSeconds": 900,
                    "releaseAfterSeconds": 1800,
                },
                "priority": 0,
                "preload": True,
            }
        },
    }


def test_routing_is_not_for_pods() -> None:
    assert make_values(routing={"policy": "all"}).keys() == SHARED_WITH_PODS
    assert make_values(routing={"policy": "all"}) == make_values()


def test_digest_of_the_default_resource_is_known() -> None:
    """A change here means that every pod of every cluster is told its settings anew after an upgrade."""
    assert digest(make_values()) == "945b0eb0517ec2a6"


def test_first_revision_is_one() -> None:
    live = make_values()
    assert live_settings.advance(None, live) == Revision(1, digest(live))


def test_same_values_keep_their_revision() -> None:
    live = make_values()
    before = Revision(41, digest(live))
    assert live_settings.advance(before, live) is before


def test_other_values_raise_the_revision_also_when_they_were_there_before() -> None:
    first = live_settings.advance(None, make_values())
    second = live_settings.advance(first, make_values(logLevel="debug"))
    third = live_settings.advance(second, make_values())
    assert [first.revision, second.revision, third.revision] == [1, 2, 3]
    assert third.hash == first.hash


def test_a_lost_revision_goes_on_above_what_pods_run_with() -> None:
    live = make_values()
    assert live_settings.advance(None, live, reported=9).revision == 10
    restored = Revision(3, digest(live))
    assert live_settings.advance(restored, live, reported=9).revision == 10
    assert live_settings.advance(restored, live, reported=3) is restored


def test_a_pod_cannot_use_up_the_counter() -> None:
    for reported in (2**63 - 1, MAX_REVISION, MAX_REPORTED + 1):
        assert live_settings.advance(None, make_values(), reported=reported).revision == 1
    overtaken = live_settings.advance(None, make_values(), reported=MAX_REPORTED)
    assert MAX_REPORTED < overtaken.revision < MAX_STEP


@given(st.lists(st.tuples(st.sampled_from(["debug", "info", "error"]), st.integers(0, 20)), max_size=20))
def test_revision_never_falls_and_stands_for_one_hash(steps: list[tuple[str, int]]) -> None:
    current: Revision | None = None
    meaning: dict[int, str] = {}
    for level, reported in steps:
        after = live_settings.advance(current, make_values(logLevel=level), reported)
        assert current is None or after.revision >= current.revision
        assert after.revision >= reported
        assert meaning.setdefault(after.revision, after.hash) == after.hash
        current = after


@pytest.mark.parametrize(
    "status",
    [{}, {"liveSettings": None}, {"liveSettings": {"revision": -1, "hash": "0" * 16}}, {"liveSettings":
    {"revision": 1}},
     {"liveSettings": {"revision": "1", "hash": "0" * 16}}, {"liveSettings": {"revision": 1, "hash": "XYZ"}}],
)  # fmt: skip
def test_damaged_revision_is_none(status: dict[str, Any]) -> None:
    assert live_settings.revision(status) is None


def test_revision_is_read_from_the_status() -> None:
    status = {"liveSettings": {"revision": 3, "hash": "0123456789abcdef"}}
    assert live_settings.revision(status) == Revision(3, "0123456789abcdef")
