"""One budget for the pods of a resource: the operator's, unless there is another one."""

from typing import Any

import pytest

from ocr_operator.decide import manifests
from ocr_operator.decide.manifests import wants_budget
from ocr_wire import names
from tests.support import resources

TWO = resources.make_deployment(replicas=2, template={"metadata": {"labels": {"team": "billing"}}})


def other(selector: Any) -> dict[str, Any]:
    return {"kind": "PodDisruptionBudget", "metadata": {"name": "theirs"}, "spec": {"selector": selector}}


def test_two_replicas_have_one_that_lets_one_go() -> None:
    assert wants_budget(TWO, [])
    [*_, made] = manifests.desired(TWO, manifests.Defaults(image="i"), "token", with_budget=True)
    assert made["metadata"]["name"] == "invoices-ocr"
    assert made["spec"]["maxUnavailable"] == 1
    assert made["spec"]["selector"] == {"matchLabels": {names.LABEL_DEPLOYMENT: "invoices"}}
    assert made["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "a broken pod holds up no drain"


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_single_replica_has_none(replicas: int) -> None:
    assert not wants_budget(resources.make_deployment(replicas=replicas), [])


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"matchLabels": {names.LABEL_DEPLOYMENT: "invoices"}},
        {"matchLabels": {"team": "billing"}},
        {"matchLabels": {names.LABEL_DEPLOYMENT: "invoices", names.LABEL_AWAKE: names.AWAKE}},
        {"matchExpressions": [{"key": names.LABEL_AWAKE, "operator": "DoesNotExist"}]},
        {"matchExpressions": [{"key": "team", "operator": "Newer"}]},
        "odd",
    ],
)
def test_pods_that_another_one_selects_have_none_of_ours(selector: Any) -> None:
    """Kubernetes evicts no pod of two budgets, and a drain would never end."""
    assert not wants_budget(TWO, [other(selector)])


@pytest.mark.parametrize(
    "selector", [None, {"matchLabels": {names.LABEL_DEPLOYMENT: "scans"}}, {"matchLabels": {"team": "sales"}}]
)
def test_budgets_of_other_pods_dont_count(selector: Any) -> None:
    assert wants_budget(TWO, [other(selector)])
