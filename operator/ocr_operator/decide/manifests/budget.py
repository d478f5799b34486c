"""The PodDisruptionBudget: of two and more pods, a drain takes one at a time.

Kubernetes evicts no pod that two budgets select: each eviction fails, and a drain never ends. So there is one only
while no other budget of the namespace selects the resource's pods.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ocr_operator.decide.manifests import common
from ocr_operator.resources.reading import mapping
from ocr_operator.resources.selectors import Selector
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names

FEWEST: Final = 2
"""Replicas of a resource that has a budget: that of a single one would have to refuse every drain, or none."""


def budget(resource: OcrDeployment) -> common.Manifest:
    """One pod may be missing. Pods that aren't ready serve no request, and may go at any time."""
    return common.child(
        resource,
        "policy/v1",
        "PodDisruptionBudget",
        budget_name(resource.name),
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": common.selector(resource.name)},
        },
    )


def budget_name(name: str) -> str:
    """Name it so that a person's own of the resource's name is no obstacle."""
    return f"{name}-ocr"


def wants_budget(resource: OcrDeployment, others: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the operator makes one. `others`: the budgets of the namespace that aren't the resource's own."""
    if resource.spec.replicas < FEWEST:
        return False
    labels = {**resource.spec.template.metadata.labels, **common.labels(resource.name)}
    awake = labels | {names.LABEL_AWAKE: names.AWAKE}
    return not any(_selects(each, labels) or _selects(each, awake) for each in others)


def _selects(budget: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a budget selects pods with these labels. A selector that can't be read may select them."""
    spec = mapping(budget, "spec")
    if spec.get("selector") is None:
        return False
    try:
        return msgspec.convert(spec["selector"], Selector).selects(labels)
    except msgspec.ValidationError:
        return True
