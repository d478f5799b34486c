"""Objects from a cluster: other versions and hands have written them, and nothing of it ends the plugin."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_ocr import text
from kubectl_ocr.objects import cluster, reading, sent
from kubectl_ocr.objects.part import Metadata
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import ModelSpec, Resource, Spec
from kubectl_ocr.views import top
from ocr_wire import live_settings, names, placement
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import IdleValues, LiveValues
from ocr_wire.placement import Record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def pod(**annotations: str) -> Pod:
    keys = {"live": names.ANNOTATION_LIVE_SETTINGS, "placement": names.ANNOTATION_PLACEMENT}
    told = {keys[key]: value for key, value in annotations.items()}
    return Pod(metadata=Metadata(name="invoices-1", annotations=told))


@given(JSON)
def test_any_json_is_an_object_or_says_why_not(value: Any) -> None:
    body = json.dumps(value).encode()
    for type_ in (Resource, Pod, cluster.Node):
        found = reading.one(body, type_)
        assert isinstance(found, (type_, Invalid))
        listed, unreadable = reading.many(json.dumps({"items": [value]}).encode(), type_)
        assert len(listed) + len(unreadable) == 1


@given(JSON | st.text().map(lambda each: {"why": each, "score": 1e300}))
def test_any_annotation_is_a_decision_or_says_why_not(value: Any) -> None:
    for each in (json.dumps(value), str(value)):
        assert isinstance(sent.decision(pod(placement=each)), Record | Invalid)
        assert isinstance(sent.sent_values(pod(live=each), ["m"]), LiveValues)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"items": 3}'], ids=repr)
def test_what_is_no_list_is_reported(body: bytes) -> None:
    listed, [unreadable] = reading.many(body, Pod)
    assert listed == []
    assert "can't be read" in unreadable.message


def test_one_broken_object_is_named_and_the_others_are_read() -> None:
    good = {"metadata": {"name": "good"}}
    bad = {"metadata": {"name": "bad"}, "status": {"pods": [{"name": 3}]}}
    found, [unreadable] = reading.many(json.dumps({"items": [bad, good]}).encode(), Resource)
    assert [each.metadata.name for each in found] == ["good"]
    assert unreadable.message.startswith("bad can't be read")
    assert "status.pods[0].name" in unreadable.message


def test_an_annotation_without_end_is_not_parsed() -> None:
    found = sent.decision(pod(placement='{"why": "' + "x" * placement.MAX_BYTES + '"}'))
    assert isinstance(found, Invalid)
    assert "invoices-1" in found.message


def told(**models: Any) -> str:
    return live_settings.envelope(3, 2, {"idle": {"exitAfterSeconds": 90}, "models": models}).to_json()


def test_what_the_pod_was_told_counts_before_the_resource() -> None:
    spec = Spec(
        models=[ModelSpec(name="m", idle=IdleValues(offload_after_seconds=5), preload=True)],
        idle=IdleValues(offload_after_seconds=60, release_after_seconds=600),
    )
    resource = Resource(metadata=Metadata(name="x"), spec=spec)

    def runs(live: Pod | None, model: str = "m") -> tuple[IdleValues, bool]:
        return sent.idle(resource, sent.sent_values(live, ["m"]), model)

    live = told(m={"idle": {"offloadAfterSeconds": 7}, "preload": False}, other={"fromTomorrow": 1})
    assert runs(pod(live=live)) == (IdleValues(offload_after_seconds=7, exit_after_seconds=90), False)
    merged = IdleValues(offload_after_seconds=5, release_after_seconds=600)
    for other in (None, pod(), pod(live="no JSON"), pod(live=told(m=3)), pod(live=told(other={}))):
        assert runs(other) == (merged, True)
    assert runs(None, "other") == (spec.idle, False)


@pytest.mark.parametrize("digits", [19, 40, 5000])
def test_numbers_of_any_length_are_refused_by_name(digits: int) -> None:
    body = '{"metadata": {"name": "x", "generation": %s}}'
    found = reading.one((body % ("9" * digits)).encode(), Resource)
    assert isinstance(found, Invalid)
    assert found.message.startswith("x can't be read")


@pytest.mark.parametrize(
    ("quantity", "said"),
    [
        *(('"12Gi"', "12Gi"), ('"1.5G"', "1.4Gi"), ('"512Mi"', "512Mi"), ("1073741824", "1Gi")),
        *(
            (each, "0")
            for each in ('""', "null", '"Gi"', '"-1Gi"', '"1e999"', "-3", "9" * 400, f'"{"9" * 400}"')
        ),
    ],
)
def test_what_models_need_is_added_up_where_it_is_a_size(quantity: str, said: str) -> None:
    spec = f'{{"models": [{{"name": "m", "gpuMemory": {quantity}}}]}}'
    pods = '[{"name": "p", "node": "n", "gpus": [{"uuid": "GPU-1"}], "models": [{"name": "m", "location": "gpu"}]}]'
    body = f'{{"metadata": {{"name": "x"}}, "spec": {spec}, "status": {{"pods": {pods}}}}}'
    resource = reading.one(body.encode(), Resource)
    assert isinstance(resource, Resource)
    assert top.render(top.view([resource], [], None)).splitlines()[-1].split()[3] == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (250, "4m10s"),
        (3600, "1h"),
        (11_100, "3h5m"),
        (1e6, "11d"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert text.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0"), (2**20, "1Mi"), (2**29, "512Mi"), (12 * 2**30, "12Gi"), (int(36.9 * 2**30), "36.9Gi")],
)
def test_sizes(count: int, said: str) -> None:
    assert text.size(count) == said


@given(st.text(max_size=3000), st.integers(1, 2000))
def test_clean_text_is_one_printable_line_of_bounded_length(raw: str, limit: int) -> None:
    cleaned = text.clean(raw, limit)
    assert len(cleaned) <= limit
    assert all(char.isprintable() for char in cleaned)
    assert text.clean(cleaned, limit) == cleaned


def test_near_names() -> None:
    assert text.nearest("invoice", ["letters", "invoices"], "models") == " Did you mean 'invoices'?"
    assert text.nearest("x", [], "models") == " There are no models."
    assert text.nearest("x", [f"model-{each}" for each in range(99)], "models").endswith(", ….")
