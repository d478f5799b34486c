from typing import Any

import pytest

from ocr_operator.decide import rollouts


def child(
    strategy: dict[str, int] | None = None,
    *,
    replicas: int = 1,
    updated: int = 1,
    there: int = 1,
    behind: bool = False,
    failure: str = "",
) -> dict[str, Any]:
    return {
        "metadata": {"generation": 3},
        "spec": {"replicas": replicas, "strategy": {"rollingUpdate": strategy or rollouts.NEW_FIRST}},
        "status": {
            "observedGeneration": 2 if behind else 3,
            "replicas": there,
            "updatedReplicas": updated,
            "conditions": [
                {"type": "ReplicaFailure", "status": "True" if failure else "False", "message": failure}
            ],
        },
    }


OVER = 'pods "a" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2'


def asks(found: dict[str, Any] | None, *, changes: bool = False, waits: bool = False) -> bool:
    return rollouts.asks_for_room(found, changes=changes, waits=waits)


def test_first_deployment_has_no_pods_to_ask_for() -> None:
    assert not asks(None, changes=True, waits=True)
    assert not rollouts.new_first(None)


def test_room_is_asked_for_when_the_deployment_is_about_to_be_written() -> None:
    assert asks(child(), changes=True)
    assert asks(child(rollouts.OLD_FIRST), changes=True)


@pytest.mark.parametrize("more", [{"updated": 0}, {"there": 2}, {"behind": True}])
def test_new_pod_that_waits_in_a_roll_out_asks_again(more: dict[str, Any]) -> None:
    assert asks(child(**more), waits=True)
    assert not asks(child(**more), waits=False), "it was placed"
    assert asks(child(**more, failure=OVER)), "a quota has no room for it"


@pytest.mark.parametrize(
    ("failure", "over"),
    [
        (OVER, True),
        ('pods "a" is forbidden: exceeded hierarchical quota in namespace "team"', True),
        (
            'Pod "a" is invalid: Invalid value: "512Mi": must be less than or equal to memory limit of 256Mi',
            False,
        ),
        ('pods "a" is forbidden: minimum memory usage per Container is 1Gi, but request is 512Mi', False),
        ('pods "a" is forbidden: failed quota: few: must specify limits.memory for: ocr-inference', False),
        ('pods "a" is forbidden: violates PodSecurity "restricted:latest"', False),
        ("failed calling webhook: connection refused", False),
        ("", False),
    ],
)
def test_only_where_a_quota_is_full_would_an_old_pod_make_room(failure: str, over: bool) -> None:
    """Else it would go for nothing: no pod of that template can be made, and none would serve."""
    found = child(updated=0, failure=failure)
    assert rollouts.over_quota(found) is over
    assert asks(found) is over


def test_roll_out_with_the_old_pods_first_stays_so() -> None:
    assert not asks(child(rollouts.OLD_FIRST, updated=0), waits=True)


def test_pod_that_waits_without_a_roll_out_changes_nothing() -> None:
    """There are too few GPUs for all replicas: that is no roll-out."""
    assert not asks(child(replicas=2, updated=2, there=2), waits=True)


@pytest.mark.parametrize(
    "odd", [{}, {"spec": []}, {"spec": {"strategy": "x"}}, {"status": {"conditions": "x"}}]
)
def test_malformed_deployment_is_no_new_first(odd: dict[str, Any]) -> None:
    assert not rollouts.new_first(odd)
    assert not rollouts.over_quota(odd)
    assert not asks(odd, waits=True)


def test_a_strategy_of_a_person_counts_as_old_first() -> None:
    assert not rollouts.new_first(child({"maxSurge": 5, "maxUnavailable": 0}))
