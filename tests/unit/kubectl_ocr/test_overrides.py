"""Who declares a timeout, what an override becomes, and how far the operator is with it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from kubectl_ocr import overrides
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects.resource import Resource
from ocr_wire import live_override, names
from ocr_wire.live_override import Override

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
IDLE: dict[str, Any] = {"f:spec": {"f:idle": {".": {}, "f:offloadAfterSeconds": {}}}}
OF_MODEL: dict[str, Any] = {
    "f:spec": {
        "f:models": {'k:{"name":"a"}': {".": {}, "f:idle": {"f:offloadAfterSeconds": {}}, "f:name": {}}}
    }
}


def resource(annotation: str | None = None, managers: Any = (), **status: Any) -> Resource:
    annotations = {} if annotation is None else {names.ANNOTATION_LIVE_OVERRIDE: annotation}
    metadata = {"name": "invoices", "annotations": annotations, "managedFields": list(managers)}
    raw = {"metadata": metadata, "spec": {"models": [{"name": "a"}, {"name": "b"}]}, "status": status}
    return msgspec.json.decode(json.dumps(raw).encode(), type=Resource)


def writes(manager: str, operation: str, fields: Any, **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


@pytest.mark.parametrize(
    ("manager", "operation", "declares"),
    [
        ("helm", "Apply", True),
        ("helm", "Update", True),
        ("argocd-controller", "Update", True),
        ("argocd-controller", "Apply", True),
        ("kustomize-controller", "Apply", True),
        ("kubectl", "Apply", True),
        ("kubectl-client-side-apply", "Update", False),
        ("kubectl-patch", "Update", False),
        ("kubectl-edit", "Update", False),
        (overrides.FIELD_MANAGER, "Update", False),
    ],
)
def test_a_field_is_declared_by_controllers_and_by_server_side_apply(
    manager: str, operation: str, declares: bool
) -> None:
    found = resource(managers=[writes("kubectl-edit", "Update", IDLE), writes(manager, operation, IDLE)])
    assert overrides.declared_by(found, "", {"offload": 5}) == (manager if declares else "")
    assert overrides.declared_by(found, "", {"exit": 5}) == ""
    assert overrides.declared_by(found, "a", {"offload": 5}) == ""
    of_model = resource(managers=[writes(manager, operation, OF_MODEL)])
    assert overrides.declared_by(of_model, "a", {"exit": 5, "offload": 5}) == (manager if declares else "")
    assert overrides.declared_by(of_model, "b", {"offload": 5}) == ""
    assert overrides.declared_by(of_model, "", {"offload": 5}) == ""


def test_writers_of_a_status_and_odd_entries_declare_nothing() -> None:
    odd = [writes("x", "Apply", fields) for fields in ({}, {"f:spec": None}, {"f:spec": {"f:idle": 5}})]
    status = writes("ocr-operator", "Apply", IDLE, subresource="status")
    assert overrides.declared_by(resource(managers=[*odd, status, {}]), "", {"offload": 5}) == ""


def test_name_of_the_manager_is_none_that_flux_undoes() -> None:
    """Flux takes over what was written under a name that begins so, and removes it."""
    assert not overrides.FIELD_MANAGER.startswith(("kubectl", "before-first-apply"))


def test_new_timeouts_stand_beside_those_of_the_override_that_counts() -> None:
    first = overrides.changed(resource(), "", {"offload": 30, "release": -1}, NOW + HOUR, NOW)
    second = overrides.changed(resource(first.to_json()), "a", {"offload": 5}, NOW + 2 * HOUR, NOW + HOUR / 2)
    assert second == Override(
        values={
            ("", "idle.offloadAfterSeconds"): 30,
            ("", "idle.releaseAfterSeconds"): -1,
            ("a", "idle.offloadAfterSeconds"): 5,
        },
        until=NOW + 2 * HOUR,
    )
    later = overrides.changed(resource(first.to_json()), "", {"exit": 7}, None, NOW + HOUR)
    assert later.values == {("", "idle.exitAfterSeconds"): 7}, "one that has ended is left behind"
    assert overrides.changed(resource("nonsense"), "", {"exit": 7}, None, NOW) == later


def test_settings_of_other_kinds_are_kept_and_those_of_models_that_are_gone_are_not() -> None:
    before = Override(values={("", "logLevel"): "debug", ("gone", "preload"): True})
    after = overrides.changed(resource(before.to_json()), "", {"exit": 7}, None, NOW)
    assert after.values == {("", "logLevel"): "debug", ("", "idle.exitAfterSeconds"): 7}


def test_a_value_that_no_resource_can_have_is_refused_here() -> None:
    with pytest.raises(Failure, match="expected `int`, got `float`") as failed:
        overrides.changed(resource(), "", {"offload": 0.5}, None, NOW)
    assert failed.value.status is Exit.USAGE


TEXT = Override(values={("", "idle.offloadAfterSeconds"): 5}).to_json()
APPLIED = [{"type": "ConfigApplied", "status": "True"}]
LAGS = [{"type": "ConfigApplied", "status": "False", "reason": "PodsLag", "message": "a lags"}]
SEEN = {"revision": 2, "override": {"hash": live_override.digest(TEXT)}}


@pytest.mark.parametrize(
    ("text", "status", "done", "why"),
    [
        (TEXT, {"conditions": APPLIED}, False, "the operator hasn't taken it"),
        (
            TEXT,
            {"conditions": APPLIED, "liveSettings": {"override": {"hash": "other"}}},
            False,
            "hasn't taken",
        ),
        (TEXT, {"conditions": LAGS, "liveSettings": SEEN}, False, "PodsLag: a lags"),
        (TEXT, {"liveSettings": SEEN}, False, "no condition"),
        (TEXT, {"conditions": APPLIED, "liveSettings": SEEN}, True, ""),
        (None, {"conditions": APPLIED, "liveSettings": SEEN}, False, "hasn't taken"),
        (None, {"conditions": APPLIED, "liveSettings": {"revision": 3}}, True, ""),
    ],
)
def test_it_is_done_when_the_status_is_about_it_and_applied(
    text: str | None, status: dict[str, Any], done: bool, why: str
) -> None:
    found = overrides.progress(resource(text, **status), text)
    assert found.done is done
    assert why in found.why


def test_another_one_and_a_refusal_end_the_wait() -> None:
    with pytest.raises(Failure, match="another override"):
        overrides.progress(resource(TEXT), None)
    refused = {"hash": live_override.digest(TEXT), "rejected": "values: no"}
    with pytest.raises(Failure, match="doesn't use it: values: no"):
        overrides.progress(resource(TEXT, liveSettings={"override": refused}), TEXT)


def test_patch_touches_the_annotation_alone() -> None:
    assert overrides.patch(TEXT) == {"metadata": {"annotations": {names.ANNOTATION_LIVE_OVERRIDE: TEXT}}}
