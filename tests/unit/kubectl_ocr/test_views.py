"""What people see of a cluster, compared with stored texts, and what programs get."""

import json
import os
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_ocr import text
from kubectl_ocr.objects import part, reading, resource
from kubectl_ocr.objects.cluster import Event, Node
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.views import status, top
from kubectl_ocr.views import why as why_view
from ocr_wire import names
from tests.support import paths

GOLDEN = paths.GOLDEN / "kubectl"
NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)


def stored(name: str, type_: type[reading.T]) -> list[reading.T]:
    found, unreadable = reading.many((GOLDEN / f"{name}.json").read_bytes(), type_)
    assert not unreadable
    return found


RESOURCES, PODS, NODES, EVENTS = (
    stored("ocrdeployments", Resource),
    stored("pods", Pod),
    stored("nodes", Node),
    stored("events", Event),
)


def views(resources: list[Resource], pods: list[Pod]) -> list[status.View]:
    spaces = status.pods_by_namespace(pods)
    return [status.view(each, spaces.get(each.metadata.namespace, []), NOW) for each in resources]


def why(name: str) -> str:
    pod = next(each for each in PODS if each.metadata.name == name)
    resource = next(each for each in RESOURCES if each.metadata.name == pod.deployment)
    return why_view.render(why_view.why(pod, resource, EVENTS, NOW), NOW)


def shown(name: str) -> str:
    match name:
        case "status":
            return status.render(views(RESOURCES, PODS), namespaces=True)
        case "top":
            return top.render(top.view(RESOURCES, PODS, NODES))
        case "top-without-nodes":
            return top.render(top.view(RESOURCES, PODS, None))
        case _:
            return "\n\n".join(why(each.metadata.name) for each in PODS)


@pytest.mark.parametrize("name", ["status", "top", "top-without-nodes", "why"])
def test_table_is_the_stored_one(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown(name) + "\n")
    assert shown(name) + "\n" == path.read_text()


def test_the_page_shows_the_stored_tables() -> None:
    page = (paths.DOCS / "kubectl-plugin.md").read_text()
    for each in (shown("status"), shown("top"), why("invoices-59d8b84b99-5ztl9")):
        assert f"\n{each}\n```" in page


@given(st.randoms(use_true_random=False))
def test_the_order_in_which_kubectl_lists_is_irrelevant(chance: random.Random) -> None:
    resources, pods, nodes = list(RESOURCES), list(PODS), list(NODES)
    for each in (resources, pods, nodes):
        chance.shuffle(each)
    assert top.view(resources, pods, nodes) == top.view(RESOURCES, PODS, NODES)
    assert sorted(views(resources, pods), key=lambda each: each.name) == sorted(
        views(RESOURCES, PODS), key=lambda each: each.name
    )


def test_programs_get_the_same_in_camel_case() -> None:
    [invoices, *_] = msgspec.to_builtins(views(RESOURCES, PODS))
    assert invoices["readyReplicas"] == 2
    assert invoices["pods"][0]["models"][0] == {
        "name": "deepseek-ocr",
        "state": "ready",
        "location": "gpu",
        "idleSeconds": 11,
        "oldestLeaseSeconds": None,
        "stuckSeconds": None,
        "next": "offload",
        "afterSeconds": 60,  # what the pod was told, a policy's for example, and not what the resource says
        "nextSeconds": 49,
    }
    [first, *_] = msgspec.to_builtins(top.view(RESOURCES, PODS, NODES))
    assert first["gpus"][0]["freeBytes"] == (46068 - 13 * 1024) * 2**20


def test_what_hangs_is_beside_the_state_and_in_the_reasons() -> None:
    body = json.loads((GOLDEN / "ocrdeployments.json").read_text())["items"][0]
    models = body["status"]["pods"][0]["models"]
    models[0] |= {"oldestLeaseSince": "2026-11-25T07:48:00Z"}
    models[1] |= {"oldestLeaseSince": "2026-11-25T07:00:00Z", "stuckSince": "2026-11-25T07:57:00Z"}
    resource = msgspec.convert(body, Resource)
    table = status.render(views([resource], PODS))
    assert f"{models[0]['state']}, reads for 12m " in table
    assert f"{models[1]['state']}, stuck for 3m " in table
    pod = next(each for each in PODS if each.metadata.name == body["status"]["pods"][0]["name"])
    told = why_view.render(why_view.why(pod, resource, (), NOW), NOW)
    assert f"\n  ! the worker of {models[1]['name']} was killed 3m ago and hasn't ended" in told
    assert models[0]["name"] not in told.partition("!")[2].partition("\n")[0]


@pytest.mark.parametrize(
    ("manager", "said"),
    [
        ("ocr-operator", "the operator wrote it: it may be newer than this plugin"),
        ("kubectl-edit", "kubectl-edit wrote it last, and not the operator"),
        ("", "who wrote it isn't known"),
    ],
)
def test_a_decision_that_cannot_be_read_is_nobodys_fault_but_its_authors(manager: str, said: str) -> None:
    fields: dict[str, Any] = {"f:metadata": {"f:annotations": {f"f:{names.ANNOTATION_PLACEMENT}": {}}}}
    others = {"manager": "kubelet", "fieldsV1": {"f:metadata": {"f:annotations": {"f:other": {}}}}}
    body = {
        "metadata": {
            "name": "a",
            "annotations": {names.ANNOTATION_PLACEMENT: '{"node": 1}'},
            "managedFields": [others, *([{"manager": manager, "fieldsV1": fields}] if manager else [])],
        }
    }
    told = why_view.render(why_view.why(msgspec.convert(body, Pod), None, (), NOW), NOW)
    assert said in told
    assert "hand" not in told


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"hash": "x"}, "an override sets logLevel debug, models[a].preload true"),
        (
            {"until": "2026-11-25T16:05:00+02:00"},
            "an override until 2026-11-25T14:05:00Z sets logLevel debug, models[a].preload true",
        ),
        ({"rejected": "values: no\x1b[2J"}, "the override isn't used: values: no [2J"),
        (None, ""),
    ],
)
def test_an_override_is_told(override: Any, said: str) -> None:
    sources = [
        {"field": "queue.limit", "value": "9", "from": "spec"},
        {"field": "logLevel", "value": "debug", "from": "override"},
        {"field": "models[a].preload", "value": "true", "from": "override"},
    ]
    status_ = {"observedGeneration": 1, "liveSettings": {"sources": sources, "override": override}}
    body = {"metadata": {"name": "invoices", "generation": 1}, "status": status_}
    resource = reading.one(json.dumps(body).encode(), Resource)
    assert isinstance(resource, Resource)
    assert status.view(resource, [], NOW).notes == ((said,) if said else ())


def test_colours_change_no_column() -> None:
    painted = status.render(views(RESOURCES, PODS), text.coloured, namespaces=True)
    assert "\x1b[32m" in painted
    bare = painted
    for code in (text.GOOD, text.BAD, text.DIM, text.BOLD, text.WARM, "0"):
        bare = bare.replace(f"\x1b[{code}m", "")
    assert bare == shown("status")


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n" + "x" * 5000


def test_nothing_from_the_cluster_reaches_the_terminal_raw() -> None:
    body = json.loads((GOLDEN / "ocrdeployments.json").read_text())["items"]
    pods = json.loads((GOLDEN / "pods.json").read_text())["items"]
    hostile = [replaced(each, HOSTILE) for each in (*body, *pods)]
    resources = [msgspec.convert(each, Resource) for each in hostile if each["kind"] == "OcrDeployment"]
    read = [msgspec.convert(each, Pod) for each in hostile if each["kind"] == "Pod"]
    hostile_event = Event(
        reason="GpuMemoryYielded", message=HOSTILE + " of default/a " + HOSTILE, last_timestamp=NOW
    )
    told = [
        status.render(views(resources, read), namespaces=True),
        top.render(top.view(resources, read, NODES)),
        *(why_view.render(why_view.why(each, resources[0], [hostile_event], NOW), NOW) for each in read),
    ]
    for each in told:
        assert not [char for char in each if char != "\n" and not char.isprintable()]
        assert all(len(line) < 5000 for line in each.splitlines())


def replaced(value: Any, text_: str, key: str = "") -> Any:
    """The object with hostile text in each field that is one."""
    if isinstance(value, dict):
        return {name: replaced(each, text_, name) for name, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, text_, key) for each in value]
    kept = {"kind", "type", "creationTimestamp", "idleSince", "memory"}
    return text_ if isinstance(value, str) and key not in kept and "/" not in key else value


def test_nothing_at_all_is_a_table_too() -> None:
    empty = Resource(metadata=part.Metadata(name="new"))
    assert "hasn't looked at it yet" in status.render([status.view(empty, [], NOW)])
    unseen = Resource(metadata=empty.metadata, status=resource.Status(observed_generation=-1))
    assert "hasn't looked at it yet" in status.render([status.view(unseen, [], NOW)])
    assert "no node has GPUs" in top.render(top.view([empty], [], []))


def model_reasons(pod: dict[str, Any], reported: dict[str, Any], *events: Event, after: float = 60) -> str:
    body = {
        "metadata": {"name": "r", "namespace": "default"},
        "spec": {"models": [{"name": "m"}], "idle": {"offloadAfterSeconds": after}},
        "status": {"pods": [{"name": "p", "models": [{"name": "m", **reported}]}]},
    }
    about = msgspec.convert({"metadata": {"name": "p", "namespace": "default", **pod}}, Pod)
    resource = msgspec.convert(body, Resource)
    [found] = why_view.why(about, resource, events, NOW).models
    return found.why


IDLE = {"state": "offloaded", "location": "cpu", "idleSince": "2026-11-25T07:50:00Z"}
MADE_WAY = "m of default/p makes way on GPU-1 (12Gi, priority 0) for x of b/q, which lacks 1Gi: the idlest"


@pytest.mark.parametrize(
    ("reported", "at", "after", "said"),
    [
        ({"state": "ready", "location": "gpu"}, None, 60, "in use, or until a moment ago"),
        ({**IDLE, "state": "ready"}, None, 60, "idle for 10m"),
        (IDLE, None, 60, "idle for 10m; leaves the GPU after 1m without a request"),
        (
            IDLE,
            None,
            3600,
            "not on the GPU though idle for 10m only, of 1h: by a control, or for another model",
        ),
        (IDLE, None, -1, ""),
        (IDLE, "2026-11-25T07:52:00Z", 60, "made way 8m ago for x of b/q, which lacks 1Gi: the idlest"),
        (IDLE, "2026-11-25T07:20:00Z", 60, "idle for 10m; leaves"),  # it has been used since
        ({"state": "failed", "location": "unloaded"}, None, 60, ""),
    ],
)
def test_why_a_model_is_where_it_is(
    reported: dict[str, Any], at: str | None, after: float, said: str
) -> None:
    when = None if at is None else datetime.fromisoformat(at)
    event = Event(reason="GpuMemoryYielded", message=MADE_WAY, last_timestamp=when)
    assert model_reasons({}, reported, event, after=after).startswith(said)


def test_only_what_happened_to_this_very_pod_is_told() -> None:
    pod = msgspec.convert({"metadata": {"name": "p", "namespace": "default"}}, Pod)
    others = [
        MADE_WAY.replace("default/p ", name) for name in ("default/p-2 ", "b/default/p ", "default/pp ")
    ]
    events = [
        Event(reason="GpuMemoryYielded", message=each, last_timestamp=NOW) for each in (*others, MADE_WAY)
    ]
    [told] = why_view.why(pod, None, events, NOW).memory
    assert told.why == MADE_WAY


@pytest.mark.parametrize(
    ("label", "annotation", "said"),
    [
        ("true", '{"awake": true, "why": "4 requests wait"}', "awake     4 requests wait"),
        (
            "true",
            '{"awake": true, "why": "calm\\u001b[2J", "since": "2026-11-25T07:00:00Z"}',
            "awake     since 1h: calm [2J",
        ),
        ("false", '{"awake": true, "why": "x"}', "asleep    somebody else changed its label"),
        ("false", "{", "asleep    annotation ocr-operator.io/routing of pod p can't be read: "),
        ("false", None, "asleep    the operator recorded no reason"),
    ],
)
def test_why_a_pod_gets_requests(label: str, annotation: str | None, said: str) -> None:
    annotations = {} if annotation is None else {names.ANNOTATION_ROUTING: annotation}
    meta = {"name": "p", "labels": {names.LABEL_AWAKE: label}, "annotations": annotations}
    pod = msgspec.convert({"metadata": meta}, Pod)
    assert f"\n  {said}" in why_view.render(why_view.why(pod, None, (), NOW), NOW)
