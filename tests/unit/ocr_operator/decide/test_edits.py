"""What others have set in a child is named with its author, and nothing else is."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import edits
from ocr_wire import names

WANTED: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {"name": "invoices"},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {"containers": [{"name": "ocr-inference", "env": [{"name": "PORT", "value": "1"}]}]}
        },
    },
}


def key(**keys: Any) -> str:
    return "k:" + json.dumps(keys)


def entry(fields: dict[str, Any], manager: str = "kubectl-set", **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}


def env(**items: dict[str, Any]) -> dict[str, Any]:
    """The fields of variables of our container."""
    listed = {key(name=name): fields for name, fields in items.items()}
    container = {"f:env": listed}
    return {"f:spec": {"f:template": {"f:spec": {"f:containers": {key(name="ocr-inference"): container}}}}}


def told(*managed: Any) -> str:
    """Every field that might be owned is there."""
    item = copy.deepcopy(WANTED)
    item["metadata"]["managedFields"] = list(managed)
    item["spec"]["strategy"] = item["spec"]["ipFamilies"] = item["spec"]["ipFamilyPolicy"] = "x"
    item["spec"]["template"]["metadata"] = {"annotations": {"kubectl.kubernetes.io/restartedAt": "x"}}
    [container] = item["spec"]["template"]["spec"]["containers"]
    container["env"] += [{"name": name} for name in ("EXTRA", "V0", "V1", "V2", "V3", "V4")]
    return edits.reported(WANTED, edits.view(item))


def test_a_variable_that_somebody_added_is_named_with_its_author() -> None:
    added = entry(env(EXTRA={".": {}, "f:name": {}, "f:value": {}}))
    field = "spec.template.spec.containers[ocr-inference].env[EXTRA]"
    assert told(added) == f"Deployment invoices has also {field} (by kubectl-set)"


def test_long_lists_are_cut() -> None:
    many = env(**{f"V{n}": {".": {}, "f:name": {}} for n in range(5)})
    assert told(entry(many)).endswith("env[V2] (by kubectl-set) and 2 more")


@pytest.mark.parametrize(
    "nothing",
    [
        entry(env(EXTRA={".": {}}), manager="ocr-operator"),
        entry(env(PORT={"f:value": {}})),
        entry({"f:spec": {"f:replicas": {}}}, subresource="scale"),
        entry({"f:spec": {"f:replicas": {}}}),
        entry({"f:status": {"f:replicas": {}}}, manager="kube-controller-manager", subresource="status"),
        entry({"f:metadata": {"f:annotations": {"f:a": {}}}}),
        entry(
            {
                "f:spec": {
                    "f:template": {
                        "f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}
                    }
                }
            }
        ),
        entry(env(GONE={".": {}, "f:name": {}})),
        entry({"f:spec": {"f:ipFamilyPolicy": {}, "f:ipFamilies": {}}}),
        entry(
            {
                "f:metadata": {"f:annotations": {f"f:{names.ANNOTATION_DESIRED}": {}}},
                "f:spec": {"f:strategy": {}},
            },
            manager="velero-server",
        ),
    ],
    ids=[
        "ours",
        "named",
        "scale",
        "named scalar",
        "status",
        "metadata",
        "restart",
        "gone",
        "families",
        "restored",
    ],
)
def test_what_is_ours_or_free_is_not_told(nothing: dict[str, Any]) -> None:
    assert told(nothing) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8)
            | st.sampled_from(["f:spec", "f:a", ".", "k:{}", "k:1", 'k:{"name":"a"}', "k:" + "[" * 5000]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(st.lists(JSON | st.builds(lambda fields: {"manager": "x", "fieldsV1": fields}, JSON)))
def test_no_record_fails(managed: list[Any]) -> None:
    assert isinstance(told(*managed), str)


def test_key_of_an_item_that_is_nested_beyond_reason_is_no_item_of_ours() -> None:
    added = entry({"f:spec": {"f:template": {"k:" + "[" * 5000 + "]" * 5000: {"f:image": {}}}}})
    assert told(added) == ""
    item = {**WANTED, "metadata": {"name": "invoices", "managedFields": [added]}}
    assert not edits.overwrites_template(WANTED, item)
