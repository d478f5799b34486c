"""Whose turn it is after an upgrade, and what a change of a child comes from."""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import manifests, plan, waves
from ocr_operator.decide.manifests import Defaults
from ocr_operator.decide.waves import Cause, Waiting
from ocr_operator.resources import spec
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names
from tests.support import resources

OLD, NEW = Defaults("image:1"), Defaults("image:2")
KEYS = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))
DONE = {
    "observedGeneration": 1,
    "availableReplicas": 1,
    "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
}


resource = resources.make_deployment


def deployment(wanted: OcrDeployment, defaults: Defaults = OLD) -> Any:
    *_, found = manifests.desired(wanted, defaults, "token")
    assert found["kind"] == "Deployment"
    return found


def child(wanted: OcrDeployment, defaults: Defaults = OLD, rolled_by: str = names.RESOURCE_CHANGED) -> Any:
    """The Deployment as the API server shows it after its roll-out."""
    made = copy.deepcopy(waves.marked(deployment(wanted, defaults), rolled_by))
    made["metadata"] |= {"generation": 1, "resourceVersion": "7", "uid": "d"}
    made["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    return made | {"status": copy.deepcopy(DONE)}


def image(manifest: Any) -> str:
    found: str = manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def cause(after: OcrDeployment, defaults: Defaults, before: Any, *, compared: bool = True) -> Cause:
    return waves.cause(deployment(after, defaults), before, compared=compared)


TEMPLATE_CHANGES: list[dict[str, Any]] = [
    {"server": {"image": "mine:1"}},
    {"server": {"port": 9000}},
    {"server": {"limits": {"maxPdfPages": 7}}},
    {"resources": {"requests": {"cpu": 1}}},
    {"gpu": {"sharing": "none"}},
    {"gpu": {"products": ["NVIDIA-L40S"]}},
    {"cache": {"hostPath": {"path": "/models"}}},
    {"template": {"spec": {"priorityClassName": "high"}}},
    {"template": {"metadata": {"labels": {"team": "a"}}}},
    {"models": [{"name": "other", "engine": "rapidocr", "gpuMemory": "1Gi"}]},
]
OTHER_CHANGES: list[dict[str, Any]] = [
    {"replicas": 7},
    {"idle": {"offloadAfterSeconds": 7}},
    {"batching": {"maxPages": 7}},
    {"queue": {"limit": 7}},
    {"logLevel": "debug"},
    {"routing": {"minAwake": 1}},
]


@pytest.mark.parametrize("change", TEMPLATE_CHANGES, ids=str)
def test_persons_change_rolls_out_at_once_also_during_a_wave(change: dict[str, Any]) -> None:
    before = child(resource())
    assert cause(resource(**change), OLD, before) is Cause.RESOURCE
    assert cause(resource(**change), NEW, before) is Cause.RESOURCE


@pytest.mark.parametrize("change", OTHER_CHANGES, ids=str)
def test_no_other_change_costs_a_pod_its_turn(change: dict[str, Any]) -> None:
    before = child(resource())
    assert cause(resource(**change), OLD, before) is Cause.SAME
    assert cause(resource(**change), NEW, before) is Cause.DEFAULTS


def test_each_field_is_known_as_one_that_templates_have_or_have_not() -> None:
    known = {spec_field for change in [*TEMPLATE_CHANGES, *OTHER_CHANGES] for spec_field in change}
    fields = {each.encode_name for each in msgspec.structs.fields(spec.Spec)}
    assert fields == known


def test_resource_that_names_an_image_has_nothing_to_roll_out() -> None:
    mine = resource(server={"image": "mine:1"})
    assert cause(mine, NEW, child(mine)) is Cause.SAME


def test_quantity_in_another_spelling_is_no_change() -> None:
    one, other = (
        resource(models=[{"name": "a", "engine": "rapidocr", "gpuMemory": text}])
        for text in ("1Gi", "1024Mi")
    )
    assert cause(other, NEW, child(one)) is Cause.DEFAULTS


@pytest.mark.parametrize(("compared", "expected"), [(True, Cause.DEFAULTS), (False, Cause.RESOURCE)])
def test_child_of_a_version_that_wrote_no_hash(compared: bool, expected: Cause) -> None:
    before = child(resource())
    for key in (names.ANNOTATION_TEMPLATE, names.ANNOTATION_ASKED, names.ANNOTATION_ROLLED_BY):
        del before["metadata"]["annotations"][key]
    assert cause(resource(), NEW, before, compared=compared) is expected


@pytest.mark.parametrize(("field", "expected"), [("image", Cause.RESOURCE), ("workingDir", Cause.DEFAULTS)])
def test_child_that_somebody_has_edited_is_set_back_at_once(field: str, expected: Cause) -> None:
    before = child(resource())
    before["spec"]["template"]["spec"]["containers"][0][field] = "edited"
    item: dict[str, Any] = {f'k:{{"name":"{names.CONTAINER}"}}': {f"f:{field}": {}}}
    fields = {"f:spec": {"f:template": {"f:spec": {"f:containers": item}}}}
    before["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": fields}]
    assert cause(resource(), NEW, before) is expected


def test_held_child_keeps_its_template_and_gets_all_else_and_is_then_left_alone() -> None:
    before = child(resource())
    wanted = waves.held(deployment(resource(replicas=5), NEW), before)
    assert wanted["spec"]["template"] == before["spec"]["template"]
    assert (wanted["spec"]["replicas"], wanted["metadata"]["resourceVersion"]) == (5, "7")
    assert plan.plan([wanted], [before]).apply == (wanted,)
    after = {**before, "metadata": {**wanted["metadata"], "resourceVersion": "8"}, "spec": wanted["spec"]}
    again = waves.held(deployment(resource(replicas=5), NEW), after)
    assert not plan.plan([again], [after])
    assert waves.cause(deployment(resource(), NEW), after, compared=True) is Cause.DEFAULTS, "its turn comes"
    now = deployment(resource(replicas=5), NEW)
    assert image(now) == "image:2"
    assert plan.plan([now], [after]).apply == (now,)


def test_held_child_of_a_version_before_is_marked_so_that_a_change_of_the_resource_shows() -> None:
    before = child(resource())
    del before["metadata"]["annotations"][names.ANNOTATION_ASKED]
    del before["metadata"]["annotations"][names.ANNOTATION_TEMPLATE]
    after = waves.held(deployment(resource(), NEW), before)
    assert names.ANNOTATION_TEMPLATE not in after["metadata"]["annotations"]
    assert cause(resource(), NEW, after, compared=False) is Cause.DEFAULTS
    assert cause(resource(gpu={"sharing": "none"}), NEW, after) is Cause.RESOURCE


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, False),
        ({"observedGeneration": 0}, True),
        ({"conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]}, True),
        (
            {
                "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
                ]
            },
            True,
        ),
        ({"availableReplicas": 0}, False),
    ],
    ids=["done", "not seen yet", "runs", "failed", "a pod broke later"],
)
def test_place_is_held_until_all_pods_were_ready_once(status: dict[str, Any], expected: bool) -> None:
    rolling = child(resource(), NEW, names.DEFAULTS_CHANGED)
    rolling["status"] |= status
    assert waves.holds(rolling) is expected
    rolling["metadata"]["annotations"][names.ANNOTATION_ROLLED_BY] = names.RESOURCE_CHANGED
    assert not waves.holds(rolling), "a person's change needs no place"


@pytest.mark.parametrize(
    ("available", "reason", "status", "expected"),
    [
        (0, "ReplicaSetUpdated", "True", True),
        (0, "ProgressDeadlineExceeded", "False", False),
        (1, "NewReplicaSetAvailable", "True", False),
    ],
    ids=["rolls out", "failed", "mended by it"],
)
def test_resource_that_was_broken_before_holds_its_place_until_its_roll_out_has_failed(
    available: int, reason: str, status: str, expected: bool
) -> None:
    before = child(resource())
    assert waves.turn_of(before) == names.DEFAULTS_CHANGED
    before["status"]["availableReplicas"] = 0
    rolling = child(resource(), NEW, waves.turn_of(before))
    condition = {"type": "Progressing", "status": status, "reason": reason}
    rolling["status"] |= {"availableReplicas": available, "conditions": [condition]}
    assert waves.holds(rolling) is expected
    rolling["status"]["observedGeneration"] = 0
    assert waves.holds(rolling), (
        "its controller hasn't seen the new template: the failure is of the one before"
    )


@given(
    st.lists(st.tuples(KEYS, st.booleans()), unique_by=lambda each: each[0]), st.sets(KEYS), st.integers(0, 5)
)
def test_turns_are_within_the_budget_and_in_an_order_of_their_own(
    listed: list[tuple[Any, bool]], holding: set[Any], budget: int
) -> None:
    waiting = [Waiting(*each) for each in listed]
    found = waves.turns(waiting, holding, budget)
    assert found == waves.turns(waiting[::-1], sorted(holding), budget)
    assert len(set(found) - holding) == max(0, min(budget - len(holding), len(set(dict(listed)) - holding)))
    assert set(dict(listed)) & holding <= set(found), "who has a place may use it again"
    fresh = [dict(listed)[key] for key in found if key not in holding]
    left = [sound for key, sound in listed if key not in found]
    assert not (False in fresh and True in left), "those first that are ready"


@given(st.sets(KEYS, min_size=1), st.integers(1, 4), st.sets(KEYS), st.randoms(use_true_random=False))
def test_everybody_gets_a_turn_as_long_as_one_place_is_left(
    keys: set[Any], budget: int, bad: set[Any], rng: Any
) -> None:
    """`bad` never get ready again; they leave a place free if they are fewer than there are."""
    waiting, holding, done = set(keys), set[Any](), set[Any]()
    bad = set(sorted(bad & keys)[: budget - 1])
    for _ in range(2 * len(keys)):
        for key in waves.turns([Waiting(each, True) for each in waiting], holding, budget):
            waiting.discard(key)
            holding.add(key)
        assert len(holding) <= budget
        if ready := sorted(holding - bad):
            finished = rng.choice(ready)
            holding.discard(finished)
            done.add(finished)
    assert done | bad == keys
