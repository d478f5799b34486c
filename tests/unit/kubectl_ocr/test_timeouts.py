"""The patch of `kubectl ocr timeout`, applied as an API server would, and what is said of models that differ."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from kubectl_ocr import timeouts
from kubectl_ocr.objects.part import Condition, Metadata
from kubectl_ocr.objects.pod import Pod, PodState
from kubectl_ocr.objects.resource import LiveSettings, ModelSpec, Resource, Source, Spec, Status
from ocr_wire import live_settings, names
from ocr_wire.live_settings import IdleValues

VALUES = st.dictionaries(st.sampled_from(["offload", "exit", "release"]), st.integers(-1, 10**6), min_size=1)


def resource(*models: ModelSpec) -> Resource:
    return Resource(metadata=Metadata(name="invoices"), spec=Spec(models=list(models), idle=IdleValues()))


def patched(body: Any, kind: str, resource: Resource) -> Resource:
    """A merge of objects, or the two operations that the plugin uses."""
    whole = msgspec.to_builtins(resource)
    if kind == "merge":
        whole["spec"]["idle"] |= body["spec"]["idle"]
    else:
        for each in body:
            *path, last = each["path"].strip("/").split("/")
            target = whole
            for part in path:
                target = target[int(part) if part.isdecimal() else part]
            if each["op"] == "test":
                assert target[last] == each["value"]
            else:
                target[last] = each["value"]
    return msgspec.convert(whole, Resource)


@given(VALUES, st.sampled_from(["", "a", "b"]))
def test_patch_changes_what_is_asked_and_nothing_else(wanted: dict[str, float], model: str) -> None:
    own = IdleValues(exit_after_seconds=77)
    before = resource(ModelSpec(name="a"), ModelSpec(name="b", idle=own))
    kind, body = timeouts.patch(before, model, wanted)
    after = patched(json.loads(json.dumps(body)), kind, before)

    told = msgspec.to_builtins(after.spec.idle if not model else after.spec.models["ab".index(model)].idle)
    was = msgspec.to_builtins(before.spec.idle if not model else before.spec.models["ab".index(model)].idle)
    assert told == was | {timeouts.FIELDS[key]: value for key, value in wanted.items()}
    for at, name in enumerate("ab"):
        if name != model:
            assert after.spec.models[at] == before.spec.models[at]
    if model:
        assert after.spec.idle == before.spec.idle


def running(**offload: float) -> Pod:
    values = {name: {"idle": {"offloadAfterSeconds": seconds}} for name, seconds in offload.items()}
    live = live_settings.envelope(1, 1, {"models": values}).to_json()
    return Pod(
        metadata=Metadata(name="p", annotations={names.ANNOTATION_LIVE_SETTINGS: live}),
        status=PodState(conditions=[Condition(type="Ready", status="True")]),
    )


@pytest.mark.parametrize(
    ("own", "model", "said"),
    [
        (None, "", ["something overrides the resource"]),
        (30, "", ["spec.models has its own: --model a changes it"]),
        (30, "a", ["something overrides the resource"]),
        (30, "b", []),
    ],
)
def test_a_model_that_runs_by_another_timeout_is_named(
    own: float | None, model: str, said: list[str]
) -> None:
    idle = IdleValues(offload_after_seconds=UNSET if own is None else own)
    told = resource(ModelSpec(name="a", idle=idle), ModelSpec(name="b"))
    found = timeouts.differing(told, [running(a=30, b=5)], model, {"offload": 5})
    assert len(found) == len(said)
    for each, words in zip(found, said, strict=True):
        assert each.startswith("a still has offload after 30 s: ")
        assert words in each


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        ({"idle.offloadAfterSeconds": "override"}, "kubectl ocr timeout invoices --clear removes it"),
        ({"idle.offloadAfterSeconds": "OcrIdlePolicy/cap"}, "OcrIdlePolicy/cap overrides the resource"),
        (
            {"idle.offloadAfterSeconds": "spec", "models[a].idle.offloadAfterSeconds": "override"},
            "--clear removes it",
        ),
    ],
)
def test_who_is_stronger_is_said(origins: dict[str, str], said: str) -> None:
    sources = [Source(field, "30", origin) for field, origin in origins.items()]
    status = Status(live_settings=LiveSettings(sources=sources))
    told = msgspec.structs.replace(resource(ModelSpec(name="a")), status=status)
    [found] = timeouts.differing(told, [running(a=30)], "", {"offload": 5})
    assert said in found


def test_what_cannot_be_known_is_no_difference() -> None:
    told = resource(ModelSpec(name="a"))
    assert timeouts.differing(told, [], "", {"exit": 5}) == []
    assert timeouts.differing(told, [running(a=5)], "", {"offload": 5}) == []
