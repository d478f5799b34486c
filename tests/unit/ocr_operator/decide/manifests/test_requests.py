"""What pods ask of their node where nobody says so, and who wins where somebody does."""

from typing import Any

import pytest

from ocr_operator.decide import manifests
from ocr_operator.decide.manifests import asked
from ocr_operator.resources import demand
from ocr_wire import names
from tests.support import resources

DEFAULTS = manifests.Defaults(image="image")
USUAL = {"cpu": "250m", "memory": "512Mi"}


def pod(**spec: Any) -> dict[str, Any]:
    made = manifests.desired(resources.make_deployment(**spec), DEFAULTS, "token")[-1]
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


def made(**spec: Any) -> dict[str, Any]:
    """The resources of our container, on the CPU."""
    [ours] = [
        each for each in pod(gpu={"sharing": "none"}, **spec)["containers"] if each["name"] == names.CONTAINER
    ]
    found: dict[str, Any] = ours["resources"]
    return found


def template(**asks: Any) -> dict[str, Any]:
    """A template that lays something over our container's resources."""
    return {"spec": {"containers": [{"name": names.CONTAINER, "resources": asks}]}}


def test_pods_that_nobody_says_anything_of_are_not_best_effort() -> None:
    assert made() == {"requests": USUAL}
    two = [dict(resources.RAPIDOCR), {**resources.RAPIDOCR, "name": "more"}]
    assert made(models=two) == {"requests": {"cpu": "250m", "memory": "960Mi"}}
    assert made(models=[resources.DEEPSEEK])["requests"]["memory"] == "1088Mi"


@pytest.mark.parametrize("sharing", ["exclusive", "shared", "claim"])
def test_beside_a_device_too(sharing: str) -> None:
    models = [{**resources.RAPIDOCR, "gpuMemory": "1Gi"}]
    found = pod(models=models, gpu={"sharing": sharing})["containers"][0]["resources"]
    assert found["requests"].items() >= USUAL.items()
    assert ("claims" in found) is (sharing == "claim")


def test_what_the_resource_says_counts_in_one_spelling() -> None:
    said = {
        "requests": {"cpu": 0.5, "memory": "1024Mi"},
        "limits": {"memory": 2**31, "ephemeral-storage": "50G"},
    }
    assert made(resources=said) == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"memory": "2Gi", "ephemeral-storage": "50G"},
    }
    assert made(resources={"requests": {"cpu": 0, "memory": "0"}}) == {
        "requests": {"cpu": "0", "memory": "0"}
    }


def test_a_limit_without_a_request_is_the_request() -> None:
    """As Kubernetes has it; a default of ours could be above the limit."""
    assert made(resources={"limits": {"memory": "256Mi"}}) == {
        "requests": {"cpu": "250m"},
        "limits": {"memory": "256Mi"},
    }
    limits = {"cpu": "100m", "memory": "256Mi"}
    assert made(template=template(limits=limits)) == {"limits": limits}


def test_the_template_is_laid_over_it() -> None:
    said = {"requests": {"cpu": "2", "memory": "4Gi"}}
    over = template(requests={"memory": "8Gi"}, limits={"hugepages-2Mi": "64Mi"})
    assert made(resources=said, template=over) == {
        "requests": {"cpu": "2", "memory": "8Gi"},
        "limits": {"hugepages-2Mi": "64Mi"},
    }
    assert made(template=template(requests={"cpu": None})) == {"requests": {"memory": "512Mi"}}
    assert made(template=template(limits={"cpu": None})) == {"requests": USUAL, "limits": {}}


def test_requests_of_the_pod_as_a_whole_are_not_exceeded_by_ours() -> None:
    whole = {"spec": {"resources": {"requests": {"memory": "300Mi"}, "limits": {"cpu": "200m"}}}}
    assert made(template=whole) == {}


@pytest.mark.parametrize(
    "odd", [None, "x", [], {"containers": "x"}, {"containers": [{"name": names.CONTAINER, "resources": 3}]}]
)
def test_odd_templates_never_break_the_operator(odd: Any) -> None:
    pod(template={"spec": {"resources": odd, "containers": [odd]}})


def test_placement_counts_them() -> None:
    two_cores = demand.of_pod(pod(gpu={"sharing": "none"}, resources={"requests": {"cpu": "2"}}))
    assert dict(two_cores.amounts) == {"cpu": 2000, "memory": 512 * 2**20}


def test_what_the_resource_asks_is_the_same_for_who_says_nothing_of_it() -> None:
    """Else an upgrade to the version that knows the field would replace all pods at once, as a person's change does."""
    plain = resources.make_deployment()
    assert asked.asked(plain) == asked.asked(resources.make_deployment(resources={"requests": {}}))
    assert asked.asked(plain) == "39bb610254411d87"
    assert asked.asked(plain) != asked.asked(resources.make_deployment(resources={"requests": {"cpu": 1}}))
