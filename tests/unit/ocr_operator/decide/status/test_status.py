"""The status tells the truth, moves only when something changed, and agrees with its Events and its page."""

import ast
import itertools
import json
import random
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.controllers import preemption as preemption_controller
from ocr_operator.controllers import reconcile, reports
from ocr_operator.decide import status
from ocr_operator.decide.placement import Basis, NoFit, NoFitReason, Placement
from ocr_operator.decide.status import Edited, Event, Fault, PodSeen, Refusal, Removal, Seen, Unwritten
from ocr_operator.decide.status import conditions as verdicts
from ocr_operator.decide.status import pods as podviews
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources import observed
from ocr_operator.resources.effective import Source
from ocr_operator.resources.observed import Rollout
from ocr_operator.resources.spec import InvalidSpec, OcrDeployment
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.live_settings import Envelope
from ocr_wire.state import PodState
from tests.support.observations import raw_pod, raw_state
from tests.support.paths import DOCS
from tests.support.resources import crd_schema, make_deployment

PAGE = DOCS / "status.md"
SCHEMA = crd_schema()["properties"]["status"]
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
LIVE = Envelope(generation=1, revision=1, hash="0123456789abcdef", values={})
NOFIT = NoFit(
    reason=NoFitReason.INSUFFICIENT_MEMORY,
    message="no GPU fits 12Gi: 0 of 6 have room (gpu-a/GPU-1: 3.1Gi free)",
)


def make_state(pod: str, **change: Any) -> PodState:
    state = podstate.parse(raw_state(pod, **change))
    assert isinstance(state, PodState), state
    return state


def make_seen(
    name: str = "a",
    *,
    state: Any = "own",
    push_error: str = "",
    reported: Mapping[str, Any] | None = None,
    node_ready: bool = True,
    **pod: Any,
) -> PodSeen:
    """A ready pod that answers, unless said otherwise; `told` changes its answer."""
    answer = make_state(name, **(reported or {})) if state == "own" else state
    seen = observed.pod(raw_pod(name, **pod))
    return PodSeen(pod=seen, state=answer, push_error=push_error, node_ready=node_ready)


def make_rollout(wanted: int = 1, /, **change: Any) -> Rollout:
    reported: dict[str, Any] = dict.fromkeys(("wanted", "replicas", "updated"), wanted)
    return Rollout(**(reported | {"observed": True} | change))


def make_all(*pods: PodSeen, replicas: int | None = None, **change: Any) -> tuple[OcrDeployment, Seen]:
    """A resource that wants as many replicas as there are pods, and what was seen of it."""
    wanted = len(pods) if replicas is None else replicas
    reported: dict[str, Any] = {
        "pods": pods,
        "rollout": make_rollout(wanted),
        "live": LIVE,
        "sources": (Source("logLevel", "info", "default"),),
    }
    return make_deployment(replicas=wanted), Seen(**(reported | change))


def tell(*pods: PodSeen, **change: Any) -> dict[str, Any]:
    return status.aggregate(*make_all(*pods, **change), NOW)


def condition(reported: Mapping[str, Any], kind: str) -> tuple[str, str, str]:
    found = next(each for each in reported["conditions"] if each["type"] == kind)
    return found["status"], found["reason"], found["message"]


def summary(reported: Mapping[str, Any]) -> dict[str, str]:
    return {each["type"]: f"{each['status']}/{each['reason']}" for each in reported["conditions"]}


GATED: dict[str, Any] = {"gated": True, "ready": False, "state": None}
LOOPING: dict[str, Any] = {
    "ready": False,
    "state": Unreachable(reason="Unreachable", message="connection refused"),
    "container": {
        "ready": False,
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {
            "terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-11-23T07:59:00Z"}
        },
    },
}
SILENT: dict[str, Any] = {"state": Unreachable(reason="Unreachable", message="no answer from 127.0.1.5:8001")}


def test_the_status_says_who_gets_requests() -> None:
    """A pod that isn't ready gets none, whatever its label says."""
    pods = [make_seen("a"), make_seen("b"), make_seen("c", ready=False)]
    asleep = observed.pod(raw_pod("b") | {"metadata": raw_pod("b")["metadata"] | {"labels": {}}})
    reported = tell(pods[0], replace(pods[1], pod=asleep), pods[2])
    assert [each["awake"] for each in reported["pods"]] == [True, False, False]
    assert reported["awakeReplicas"] == 1


def test_changes_of_the_awake_set_are_one_event() -> None:
    reported = tell(make_seen("a"))
    [event] = status.events(reported, reported, (), ["b joins", "b leaves", "c joins"])
    assert (event.reason, event.message) == ("AwakeSetChanged", "c joins; 2 more before")


def test_the_whole_status_of_a_healthy_resource() -> None:
    reported = tell(
        make_seen("b", reported={"models": {"m": ("offloaded", "cpu")}}),
        make_seen("a", reported={"models": {"m": ("ready", "gpu"), "n": ("unloaded", "unloaded")}}),
    )
    assert {key: value for key, value in reported.items() if key not in {"pods", "conditions"}} == {
        "observedGeneration": 1,
        "phase": "Ready",
        "replicas": 2,
        "readyReplicas": 2,
        "awakeReplicas": 2,
        "selector": "ocr-operator.io/deployment=invoices",
        "locations": {"gpu": 1, "cpu": 1, "unloaded": 1, "unknown": 0},
        "liveSettings": {
            "revision": 1,
            "hash": "0123456789abcdef",
            "sources": [{"field": "logLevel", "value": "info", "from": "default"}],
        },
    }
    assert reported["pods"][0] == {
        "name": "a",
        "node": "gpu-a",
        "gpus": [{"uuid": "GPU-1", "product": "NVIDIA-L40S"}],
        "device": "simulated",
        "ready": True,
        "awake": True,
        "appliedGeneration": 1,
        "models": [
            {"name": "m", "state": "ready", "location": "gpu", "since": "2026-11-23T08:00:00.000Z"},
            {"name": "n", "state": "unloaded", "location": "unloaded", "since": "2026-11-23T08:00:00.000Z"},
        ],
    }
    assert summary(reported) == {
        "Ready": "True/Serving",
        "Progressing": "False/Complete",
        "Degraded": "False/AsExpected",
        "Placed": "True/Placed",
        "ConfigApplied": "True/Applied",
        "Stalled": "False/AsExpected",
    }
    assert all(each["observedGeneration"] == 1 for each in reported["conditions"])
    assert all(each["lastTransitionTime"] == "2026-11-23T08:00:00Z" for each in reported["conditions"])


def test_standby_is_ready_with_a_reason_of_its_own() -> None:
    reported = tell(make_seen(), make_seen("b", reported={"models": {"m": ("offloaded", "cpu")}}))
    assert condition(reported, "Ready") == ("True", "Standby", "all 2 replicas are ready; models load on use")
    assert reported["phase"] == "Standby"


@pytest.mark.parametrize(
    ("state", "idle", "reported", "again"),
    [
        ("ready", -60.0, True, None),
        ("offloaded", -5.0, True, None),
        ("ready", -4.0, False, 1.0),
        ("ready", 0.0, False, 5.0),
        ("ready", 3.0, False, 8.0),  # the pod's clock is a little ahead
        ("ready", 3600.0, False, None),  # or wrong
        ("ready", None, False, None),
        ("unloaded", -60.0, False, None),
        ("restoring", -60.0, False, None),
    ],
)
def test_since_when_a_model_is_idle_is_told_once_it_stays_so(
    state: str, idle: float | None, reported: bool, again: float | None
) -> None:
    where = {"ready": "gpu", "offloaded": "cpu", "restoring": "cpu"}.get(state, "unloaded")
    raw = raw_state("a", models={"invoice-ocr": (state, where)})
    since = None if idle is None else NOW + timedelta(seconds=idle)
    raw["models"][0]["idle_since"] = None if since is None else since.isoformat()
    parsed = podstate.parse(raw)
    assert isinstance(parsed, PodState), parsed
    each = make_seen(state=parsed)
    [model] = tell(each)["pods"][0]["models"]
    assert ("idleSince" in model) is reported
    if reported:
        assert since is not None
        assert model["idleSince"] == since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert status.settles([each], NOW) == again
    assert status.settles([each, make_seen("b", state=None)], NOW) == again


@pytest.mark.parametrize(
    ("lease", "reported", "again"),
    [
        (-299.0, False, 1.0),
        (-300.0, True, None),
        (4.0, False, 304.0),
        (6.0, False, None),
        (None, False, None),
    ],
)
def test_a_lease_is_told_when_it_is_held_for_minutes(
    lease: float | None, reported: bool, again: float | None
) -> None:
    raw = raw_state("a", models={"invoice-ocr": ("ready", "gpu")})
    raw["models"][0]["idle_since"] = None
    since = None if lease is None else NOW + timedelta(seconds=lease)
    raw["models"][0]["oldest_lease_since"] = None if since is None else since.isoformat()
    parsed = podstate.parse(raw)
    assert isinstance(parsed, PodState), parsed
    each = make_seen(state=parsed)
    [model] = tell(each)["pods"][0]["models"]
    assert ("oldestLeaseSince" in model) is reported
    assert status.settles([each], NOW) == again


def test_a_cpu_device_serves_from_host_memory() -> None:
    reported = tell(make_seen(reported={"kind": "cpu", "uuid": None, "models": {"m": ("ready", "cpu")}}))
    assert condition(reported, "Ready")[1] == "Serving"
    assert reported["pods"][0]["gpus"] == []
    assert reported["locations"]["cpu"] == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"ready": False}, "WaitingForPods"),
        (GATED, "WaitingForPlacement"),
        (LOOPING, "CrashLooping"),
        (LOOPING | {"node_ready": False}, "NodeNotReady"),
        (LOOPING | {"container": {"ready": False, "restartCount": 2}}, "CrashLooping"),
        (
            {"ready": False, "container": {"state": {"waiting": {"reason": "ErrImagePull"}}}},
            "ContainerCannotStart",
        ),
    ],
)
@pytest.mark.parametrize("healthy", [0, 1])
def test_never_ready_with_a_replica_that_is_not(bad: dict[str, Any], reason: str, healthy: int) -> None:
    pods = [make_seen("z", **bad), *(make_seen(f"a{n}") for n in range(healthy))]
    state, why, message = condition(tell(*pods), "Ready")
    assert (state, why) == ("False", reason)
    assert message.startswith(f"{healthy} of {healthy + 1} replicas are ready")


def test_an_unschedulable_pod_is_named_in_the_schedulers_words() -> None:
    raw = raw_pod("a", ready=False, node="")
    raw["status"]["conditions"].append(
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available",
        }
    )
    reported = tell(PodSeen(pod=observed.pod(raw)))
    assert condition(reported, "Degraded") == ("True", "Unschedulable", "a: 0/3 nodes are available")
    assert condition(reported, "Ready")[0] == "False"


REFUSED = observed.pod(
    raw_pod("z", ready=False)
    | {
        "status": {
            "phase": "Failed",
            "reason": "UnexpectedAdmissionError",
            "message": "Pod was rejected: no devices",
            "startTime": "2026-11-23T08:00:00Z",
        }
    }
)


def test_a_pod_that_its_kubelet_refused_is_told_until_another_is_ready() -> None:
    replacement = make_seen("a", ready=False, state=None)
    reported = tell(PodSeen(pod=REFUSED), replacement, replicas=1, ended=(REFUSED,))
    words = "z: failed on gpu-a: UnexpectedAdmissionError: Pod was rejected: no devices"
    assert condition(reported, "Degraded") == ("True", "PodFailed", words)
    assert condition(reported, "Ready") == ("False", "PodFailed", f"0 of 1 replicas are ready; {words}")
    assert [each["name"] for each in reported["pods"]] == ["a"]
    healed = tell(PodSeen(pod=REFUSED), make_seen("a"), replicas=1, ended=(REFUSED,))
    assert condition(healed, "Degraded")[0] == "False"


def test_one_refused_pod_after_the_other_is_one_event() -> None:
    first = tell(make_seen("a", ready=False, state=None), ended=(REFUSED,))
    more = (replace(REFUSED, name="y"), REFUSED)
    second = tell(make_seen("b", ready=False, state=None), ended=more)
    assert [each.reason for each in status.events({}, first)] == ["PodFailed"]
    assert status.events(first, second) == []


def test_pods_of_a_template_that_is_no_more_are_not_told() -> None:
    old = replace(REFUSED, owner=observed.Owner(kind="ReplicaSet", name="old", uid="old"))
    assert condition(tell(make_seen("a", ready=False), ended=(old,)), "Degraded")[0] == "False"


def test_settings_are_applied_once_for_each_generation_and_revision() -> None:
    """A pod that can't be asked for a while runs with what it had."""
    applied, away = tell(make_seen("a")), tell(make_seen("a", state=None))
    assert [each.reason for each in status.events(away, applied)] == ["ConfigApplied"]
    told = status.applied(applied)
    assert told is not None
    assert status.applied(away) is None
    assert status.events(away, applied, announced=told) == []
    for other in ((told[0] - 1, told[1]), (told[0], told[1] - 1), None):
        assert [each.reason for each in status.events(away, applied, announced=other)] == ["ConfigApplied"]


@pytest.mark.parametrize(
    "damage", [{}, {"conditions": 1}, {"liveSettings": []}, {"conditions": [{"type": "ConfigApplied"}]}]
)
def test_what_was_applied_is_read_from_any_status(damage: dict[str, Any]) -> None:
    assert status.applied(damage) is None


def test_a_crash_loop_is_one_event() -> None:
    """As a kubelet reports it: the first restart comes at once, a back-off before each further one."""
    running: dict[str, Any] = {"running": {}}
    waiting: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff"}}
    steps = [(0, running), (1, running), (1, waiting), (2, running), (2, waiting), (3, running), (3, waiting)]
    before: dict[str, Any] = {}
    found = []
    for restarts, state in steps:
        container = {"ready": False, "restartCount": restarts, "state": state}
        after = tell(make_seen("a", ready=False, state=None, container=container))
        found += [each.reason for each in status.events(before, after)]
        before = after
    assert found == ["CrashLooping"]


def test_an_init_container_that_cannot_start_is_told() -> None:
    raw = raw_pod(
        "a", ready=False, container={"ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
    )
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    raw["status"]["initContainerStatuses"] = [{"name": "fetch", "state": {"waiting": waiting}}]
    reported = tell(PodSeen(pod=observed.pod(raw)))
    words = "a: fetch: ImagePullBackOff: no such image"
    assert condition(reported, "Degraded") == ("True", "ContainerCannotStart", words)


def test_no_fit_is_told_word_for_word() -> None:
    reported = tell(make_seen("a"), make_seen("b", **GATED), nofits={"b": NOFIT})
    assert condition(reported, "Placed") == ("False", "InsufficientGpuMemory", NOFIT.message)
    assert condition(reported, "Degraded") == ("True", "InsufficientGpuMemory", NOFIT.message)
    assert NOFIT.message in condition(reported, "Ready")[2]
    assert condition(reported, "Progressing")[:2] == ("True", "WaitingForPlacement")
    assert reported["pods"][1]["models"] == [{"name": "pp-ocr", "state": "unloaded", "location": "unloaded"}]


def test_a_gated_pod_that_nobody_looked_at_yet_is_pending() -> None:
    assert condition(tell(make_seen("b", **GATED)), "Placed") == ("False", "Pending", "not placed yet: b")


class TestUnbound:
    """A pod whose gate is open and that has no node, and of which the scheduler says nothing."""

    def seen(self, *, placed: bool = False, gates: tuple[str, ...] = ()) -> PodSeen:
        note = {names.ANNOTATION_PLACEMENT: json.dumps({"node": "a", "placedAt": observed.stamp(NOW)})}
        raw = raw_pod("a", ready=False, node="", annotations=note if placed else {})
        raw["spec"]["schedulingGates"] = [{"name": each} for each in gates]
        return PodSeen(pod=observed.pod(raw))

    def test_a_gate_that_was_opened_by_hand_is_no_placement(self) -> None:
        """With `gpu.sharing: claim` the pod has no ResourceClaim then, and the scheduler doesn't even look at it."""
        opened = self.seen()
        resource, seen = make_all(opened)
        for sharing in ("claim", "exclusive"):
            wanted = make_deployment(replicas=1, gpu={"sharing": sharing})
            assert condition(status.aggregate(wanted, seen, NOW), "Placed")[:2] == ("False", "Unbound")
        late = status.aggregate(resource, seen, NOW + podviews.UNBOUND)
        assert condition(late, "Degraded")[:2] == ("True", "Unbound")
        assert "no scheduler takes it up" in condition(late, "Ready")[2]

    def test_a_placed_pod_gets_a_minute(self) -> None:
        placed = self.seen(placed=True)
        resource, seen = make_all(placed)
        soon = NOW + podviews.UNBOUND - timedelta(seconds=1)
        early = status.aggregate(resource, seen, soon)
        assert condition(early, "Placed")[0] == "True"
        assert condition(early, "Degraded")[0] == "False"
        assert status.settles([placed], soon) == 1.0
        assert condition(status.aggregate(resource, seen, NOW + podviews.UNBOUND), "Degraded")[1] == "Unbound"

    def test_other_peoples_gates_are_their_business(self) -> None:
        resource, seen = make_all(self.seen(placed=True, gates=("kueue.x-k8s.io/admission",)))
        assert condition(status.aggregate(resource, seen, LATER), "Degraded")[0] == "False"


def test_a_rollout_is_not_ready_until_nothing_old_is_left() -> None:
    reported = tell(make_seen(), rollout=make_rollout(1, updated=0))
    assert condition(reported, "Ready") == ("False", "RollingOut", "1 of 1 replicas are ready")
    assert condition(reported, "Progressing")[:2] == ("True", "RollingOut")
    assert reported["phase"] == "Progressing"
    for unfinished in ({"replicas": 2}, {"observed": False}, {"wanted": 3}):
        assert condition(tell(make_seen(), rollout=make_rollout(1, **unfinished)), "Ready")[0] == "False"


def test_a_fresh_resource_says_so_from_its_first_status() -> None:
    reported = tell(replicas=2, rollout=None)
    assert summary(reported) == {
        "Ready": "False/Creating",
        "Progressing": "True/Creating",
        "Degraded": "False/AsExpected",
        "Placed": "Unknown/NoPods",
        "ConfigApplied": "Unknown/NoReadyPods",
        "Stalled": "False/AsExpected",
    }
    assert (reported["phase"], reported["observedGeneration"], reported["replicas"], reported["pods"]) == (
        "Pending",
        1,
        0,
        [],
    )


def test_no_replicas_are_ready_at_once() -> None:
    reported = tell(replicas=0)
    assert condition(reported, "Ready")[:2] == ("True", "ScaledToZero")
    assert condition(reported, "Placed")[:2] == ("True", "NotNeeded")
    assert reported["phase"] == "ScaledToZero"
    assert condition(tell(make_seen(), replicas=0), "Progressing") == ("True", "ScalingDown", "1 pod left")


def test_without_gpus_nothing_needs_a_place() -> None:
    resource, seen = make_all(make_seen())
    resource = make_deployment(replicas=1, gpu={"sharing": "none"})
    assert condition(status.aggregate(resource, seen, NOW), "Placed")[:2] == ("True", "NotNeeded")


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [("FailedCreate", "FailedCreate"), ("ProgressDeadlineExceeded", "ProgressDeadlineExceeded")],
)
def test_what_the_deployment_complains_of_is_passed_on(reason: str, wanted: str) -> None:
    reported = tell(
        replicas=1, rollout=make_rollout(1, updated=0, failed="exceeded quota", failed_reason=reason)
    )
    assert condition(reported, "Degraded") == ("True", wanted, "exceeded quota")
    assert condition(reported, "Progressing") == ("False", wanted, "exceeded quota")


def test_a_refused_manifest_stalls() -> None:
    reported = tell(
        make_seen(), refusal=Refusal(reason="ManifestRefused", message="Deployment: spec.x is unknown")
    )
    assert summary(reported)["Stalled"] == "True/ManifestRefused"
    assert summary(reported)["Ready"] == "False/ManifestRefused"
    assert summary(reported)["Progressing"] == "False/ManifestRefused"
    assert reported["phase"] == "Stalled"


def test_children_that_wait_for_others_to_go_stall_nothing() -> None:
    reported = tell(make_seen(), removal=Removal(message="Service a is being deleted"))
    assert summary(reported)["Stalled"] == "False/AsExpected"
    assert summary(reported)["Degraded"] == "False/AsExpected"
    assert condition(reported, "Ready") == ("False", "WaitingForRemoval", "Service a is being deleted")
    assert condition(reported, "Progressing") == ("True", "WaitingForRemoval", "Service a is being deleted")


def test_what_others_set_in_children_is_told_and_harms_no_condition() -> None:
    reported = tell(make_seen(), edited=Edited(message="Deployment a has also spec.x (by kubectl-edit)"))
    assert condition(reported, "Progressing") == (
        "False",
        "Complete",
        "the replica is up to date; Deployment a has also spec.x (by kubectl-edit)",
    )
    assert [each for each in reported["conditions"] if each["type"] != "Progressing"] == [
        each for each in tell(make_seen())["conditions"] if each["type"] != "Progressing"
    ]


def test_a_fault_of_the_operator_is_told_and_what_was_known_stays() -> None:
    before, fault = tell(make_seen("a")), Fault(message="the operator fails")
    body = {"metadata": {"name": "invoices", "generation": 2}, "status": before}
    reported = status.faulty(body, fault, LATER)
    assert summary(reported) == summary(before) | {
        "Ready": "False/OperatorFault",
        "Progressing": "True/OperatorFault",
        "Degraded": "True/OperatorFault",
    }
    assert (reported["observedGeneration"], reported["phase"]) == (before["observedGeneration"], "Degraded")
    for kept in ("pods", "locations", "liveSettings", "selector", "replicas"):
        assert reported[kept] == before[kept]
    again = status.faulty(body | {"status": reported}, fault, LATER + timedelta(hours=1))
    assert again == reported
    assert [each.reason for each in status.events(before, reported)] == ["NotReady", "OperatorFault"]
    summed = summary(tell(make_seen(), fault=fault))
    assert {kind for kind, each in summed.items() if each.endswith("/OperatorFault")} == {
        "Ready",
        "Progressing",
        "Degraded",
    }


@pytest.mark.parametrize("body", [{}, {"metadata": 1, "status": []}, {"metadata": {"generation": "x"}}])
def test_a_fault_of_the_operator_is_told_of_any_body(body: dict[str, Any]) -> None:
    reported = status.faulty(body, Fault(message="the operator fails"), NOW)
    assert summary(reported)["Degraded"] == "True/OperatorFault"


def test_children_that_are_not_written_yet_are_told_and_stall_nothing() -> None:
    words = "Deployment a was not answered: failed calling webhook (500)"
    reported = tell(make_seen(), unwritten=Unwritten(message=words))
    assert condition(reported, "Ready") == ("False", "NotWritten", words)
    assert condition(reported, "Progressing") == ("True", "NotWritten", words)
    assert condition(reported, "Degraded") == ("True", "NotWritten", words)
    assert summary(reported)["Stalled"] == "False/AsExpected"


class TestUnreachable:
    def test_its_weights_are_unknown_and_it_is_named(self) -> None:
        reported = tell(make_seen("a"), make_seen("b", **SILENT))
        assert reported["locations"] == {"gpu": 0, "cpu": 0, "unloaded": 1, "unknown": 1}
        assert reported["pods"][1]["models"] == [
            {"name": "pp-ocr", "state": "unknown", "location": "unknown"}
        ]
        assert "device" not in reported["pods"][1]
        assert condition(reported, "Degraded") == ("True", "Unreachable", "b: no answer from 127.0.1.5:8001")
        assert condition(reported, "ConfigApplied")[0] == "False"
        assert "b (can't be asked (no answer" in condition(reported, "ConfigApplied")[2]

    def test_a_pod_that_answers_for_another_is_not_believed(self) -> None:
        state = make_state("other", models={"m": ("ready", "gpu")})
        reported = tell(make_seen("a", state=state))
        assert reported["locations"]["unknown"] == 1
        assert condition(reported, "Degraded")[2] == "a: pod other answers at its address"

    def test_all_silent_is_ready_but_not_standby(self) -> None:
        assert condition(tell(make_seen("a", **SILENT)), "Ready")[:2] == ("True", "StateUnknown")

    @pytest.mark.parametrize("ready", [True, False])
    def test_a_process_that_does_not_run_holds_nothing(self, ready: bool) -> None:
        reported = tell(make_seen("a", **(LOOPING | {"ready": ready})))
        assert reported["locations"]["unloaded"] == 1

    def test_a_lost_node_leaves_its_pods_unknown(self) -> None:
        reported = tell(make_seen("a", ready=False, node_ready=False, **SILENT))
        assert reported["locations"]["unknown"] == 1
        words = "a: its node gpu-a isn't ready"
        assert condition(reported, "Degraded") == ("True", "NodeNotReady", words)
        assert condition(reported, "Ready") == (
            "False",
            "NodeNotReady",
            f"0 of 1 replicas are ready; {words}",
        )

    @pytest.mark.parametrize(
        ("other", "reason"),
        [
            (LOOPING, "CrashLooping"),
            ({"annotations": {names.ANNOTATION_GPU_UUIDS: "GPU-7"}}, "WrongGpu"),
            ({"reported": {"models": {"m": ("failed", "unloaded")}}}, "ModelFailed"),
            (SILENT, "NodeNotReady"),
        ],
    )
    def test_a_lost_node_hides_nothing_that_other_pods_cannot_do_without_a_person(
        self, other: dict[str, Any], reason: str
    ) -> None:
        lost = make_seen("a", ready=False, node_ready=False, **SILENT)
        assert condition(tell(lost, make_seen("b", **other)), "Degraded")[:2] == ("True", reason)


class TestConfigApplied:
    def test_every_ready_pod_counts_and_laggards_are_named(self) -> None:
        old = {"revision": 0, "digest": "ffffffffffffffff"}
        reported = tell(
            make_seen("a"),
            make_seen("b", reported=old, push_error="401 Unauthorized"),
            make_seen("c", ready=False),
        )
        assert condition(reported, "ConfigApplied") == (
            "False",
            "PodsLag",
            "1 of 2 pods lag behind revision 1: b (runs revision 0; 401 Unauthorized)",
        )
        assert [pod["appliedGeneration"] for pod in reported["pods"]] == [1, 1, 1]

    def test_the_hash_decides_too(self) -> None:
        reported = tell(make_seen("b", reported={"digest": "ffffffffffffffff"}))
        assert "b (has other values under revision 1)" in condition(reported, "ConfigApplied")[2]

    def test_the_same_values_under_a_newer_generation_are_applied(self) -> None:
        resource, seen = make_all(make_seen())
        reported = status.aggregate(msgspec.structs.replace(resource, generation=9), seen, NOW)
        assert condition(reported, "ConfigApplied")[0] == "True"
        assert reported["pods"][0]["appliedGeneration"] == 9

    def test_what_older_pods_ignore_is_applied_and_named(self) -> None:
        ignored = ("idle.nap", "models.pp-ocr.mood")
        reported = tell(make_seen("a", reported={"ignored": ignored}), make_seen("b"))
        assert condition(reported, "ConfigApplied") == (
            "True",
            "Applied",
            "2 pods on revision 1; ignored by servers that don't know it: a (idle.nap, models.pp-ocr.mood)",
        )
        assert reported["pods"][0]["appliedGeneration"] == 1

    def test_ignored_settings_are_named_of_three_pods(self) -> None:
        reported = tell(*(make_seen(f"p{n}", reported={"ignored": ["queue.mood"]}) for n in range(9)))
        assert condition(reported, "ConfigApplied")[2].endswith("p2 (queue.mood), and 6 more")

    def test_a_long_list_of_laggards_is_cut(self) -> None:
        reported = tell(*(make_seen(f"p{n}", **SILENT) for n in range(9)))
        assert condition(reported, "ConfigApplied")[2].endswith(", and 6 more")


class TestWordsOfNewerServers:
    def test_a_state_that_is_not_known_is_unknown_and_the_rest_counts(self) -> None:
        models = {"m": ("hibernating", "tape"), "n": ("ready", "gpu")}
        reported = tell(make_seen("a", reported={"models": models}))
        states = [(each["name"], each["state"], each["location"]) for each in reported["pods"][0]["models"]]
        assert states == [("m", "unknown", "unknown"), ("n", "ready", "gpu")]
        assert reported["locations"] == {"gpu": 1, "cpu": 0, "unloaded": 0, "unknown": 1}
        assert condition(reported, "Ready")[:2] == ("True", "Serving")

    def test_a_device_that_is_not_known_is_left_out(self) -> None:
        [entry] = tell(make_seen("a", reported={"kind": "quantum"}))["pods"]
        assert "device" not in entry


class TestPods:
    def test_the_list_is_capped_and_the_counts_are_not(self) -> None:
        reported = tell(*(make_seen(f"p{n:03}") for n in range(150)))
        assert [pod["name"] for pod in reported["pods"]] == [f"p{n:03}" for n in range(100)]
        assert (reported["replicas"], reported["locations"]["unloaded"]) == (150, 150)

    def test_a_terminating_pod_is_listed_while_it_answers_and_never_ready(self) -> None:
        leaving = make_seen("a", reported={"models": {"m": ("ready", "gpu")}})
        leaving = replace(leaving, pod=replace(leaving.pod, terminating=True))
        reported = tell(leaving, make_seen("b"), replicas=1)
        assert (reported["replicas"], reported["readyReplicas"], reported["locations"]["gpu"]) == (1, 1, 1)
        assert [(pod["name"], pod["ready"]) for pod in reported["pods"]] == [("a", False), ("b", True)]
        silent = replace(leaving, state=None)
        assert [pod["name"] for pod in tell(silent, make_seen("b"), replicas=1)["pods"]] == ["b"]

    def test_the_last_failure_is_the_newest_of_model_and_container(self) -> None:
        failure = {
            "reason": "LoadFailed",
            "message": "no such file",
            "time": "2026-11-23T08:30:00Z",
            "exit_code": None,
        }
        died = {
            "lastState": {
                "terminated": {"reason": "Error", "exitCode": 1, "finishedAt": "2026-11-23T08:00:00Z"}
            }
        }
        both = tell(make_seen("a", reported={"failure": failure}, container=died))
        assert both["pods"][0]["lastFailure"] == {
            "reason": "LoadFailed",
            "message": "invoice-ocr: no such file",
            "time": "2026-11-23T08:30:00.000Z",
        }
        assert tell(make_seen("a", container=died))["pods"][0]["lastFailure"] == {
            "reason": "Error",
            "message": "ocr-inference ended",
            "time": "2026-11-23T08:00:00Z",
            "exitCode": 1,
        }
        assert "lastFailure" not in tell(make_seen())["pods"][0]

    def test_an_image_without_a_models_engine_is_told_before_the_pod_is_ready(self) -> None:
        failure = {
            "reason": "EngineMissing",
            "message": "engine transformers lacks torch",
            "time": "2026-11-23T08:30:00Z",
            "exit_code": None,
        }
        reported = tell(make_seen("a", ready=False, reported={"failure": failure}))
        assert condition(reported, "Degraded") == (
            "True",
            "EngineMissing",
            "a: invoice-ocr: engine transformers lacks torch",
        )
        assert condition(reported, "Ready")[:2] == ("False", "EngineMissing")

    def test_a_container_that_ran_out_of_memory_and_ended_well_is_a_failure(self) -> None:
        ended = {"reason": "OOMKilled", "exitCode": 0, "finishedAt": "2026-11-23T08:00:00Z"}
        [entry] = tell(make_seen("a", container={"lastState": {"terminated": ended}}))["pods"]
        assert (entry["lastFailure"]["reason"], entry["lastFailure"]["exitCode"]) == ("OOMKilled", 137)
        assert "with exit code 0 after a process of it was killed" in entry["lastFailure"]["message"]

    def test_another_gpu_than_promised_is_told(self) -> None:
        promised = {names.ANNOTATION_GPU_UUIDS: "GPU-7"}
        reported = tell(make_seen("a", annotations=promised))
        assert condition(reported, "Degraded") == ("True", "WrongGpu", "a: got GPU-1 instead of GPU-7")
        assert reported["pods"][0]["gpus"] == [{"uuid": "GPU-1", "product": "NVIDIA-L40S"}]

    def test_a_placed_pod_shows_what_it_was_promised(self) -> None:
        record = {"node": "gpu-b", "gpus": [{"uuid": "GPU-7", "product": "NVIDIA-L40S"}]}
        note = {names.ANNOTATION_PLACEMENT: json.dumps(record)}
        reported = tell(make_seen("a", state=None, ready=False, node="", annotations=note))
        assert reported["pods"][0]["node"] == "gpu-b"
        assert reported["pods"][0]["gpus"] == record["gpus"]

    def test_a_model_that_gave_up_degrades(self) -> None:
        reported = tell(make_seen("a", reported={"models": {"m": ("failed", "unloaded")}}))
        assert condition(reported, "Degraded") == ("True", "ModelFailed", "a: m")

    def test_a_worker_that_does_not_end_degrades_before_its_model_has_failed(self) -> None:
        raw = raw_state("a", models={"m": ("failed", "unloaded"), "n": ("ready", "gpu")})
        raw["models"][1]["stuck_since"] = "2026-11-23T07:59:00.5Z"
        parsed = podstate.parse(raw)
        assert isinstance(parsed, PodState), parsed
        reported = tell(make_seen("a", state=parsed))
        words = "a: n: its worker was killed at 2026-11-23T07:59:00.500Z and hasn't ended"
        assert condition(reported, "Degraded") == ("True", "WorkerStuck", words)
        healthy, stuck = reported["pods"][0]["models"]
        assert stuck["stuckSince"] == "2026-11-23T07:59:00.500Z"
        assert "stuckSince" not in healthy


class TestTimes:
    def test_feeding_the_status_back_changes_nothing(self) -> None:
        resource, seen = make_all(make_seen("a"), make_seen("b", **SILENT))
        first = status.aggregate(resource, seen, NOW)
        assert status.aggregate(msgspec.structs.replace(resource, status=first), seen, LATER) == first

    def test_only_what_changed_gets_a_new_time(self) -> None:
        resource, seen = make_all(make_seen("a"))
        first = status.aggregate(resource, seen, NOW)
        seen = replace(seen, pods=(make_seen("a", **SILENT),))
        second = status.aggregate(msgspec.structs.replace(resource, status=first), seen, LATER)
        times = {each["type"]: each["lastTransitionTime"] for each in second["conditions"]}
        assert {kind for kind, at in times.items() if at == observed.stamp(LATER)} == {
            "Degraded",
            "ConfigApplied",
        }

    @pytest.mark.parametrize(
        "damage",
        [
            {"conditions": "gone"},
            {"conditions": [1, {}, {"type": "Ready", "status": "True", "lastTransitionTime": "noon"}]},
            {"liveSettings": 3},
            {"pods": 1},
        ],
    )
    def test_a_status_edited_by_hand_is_mended(self, damage: dict[str, Any]) -> None:
        resource, seen = make_all(make_seen("a"))
        reported = status.aggregate(msgspec.structs.replace(resource, status=damage), seen, NOW)
        assert reported == status.aggregate(resource, seen, NOW)
        assert status.events(damage, reported)

    def test_the_revision_is_never_lost(self) -> None:
        resource, seen = make_all(make_seen("a"))
        before = {"liveSettings": {"revision": 41, "hash": "h"}}
        reported = status.aggregate(
            msgspec.structs.replace(resource, status=before), replace(seen, live=None), NOW
        )
        assert reported["liveSettings"] == before["liveSettings"]


class TestStalled:
    problem = InvalidSpec(field="spec.models[0].engine", message="'ocrad' is not an engine")

    def test_a_body_that_does_not_parse_keeps_what_is_known(self) -> None:
        before = tell(make_seen("a"))
        body = {"metadata": {"name": "invoices", "generation": 2}, "status": before}
        reported = status.stalled(body, self.problem, LATER)
        assert summary(reported) == summary(before) | {
            "Ready": "False/InvalidSpec",
            "Progressing": "False/InvalidSpec",
            "Stalled": "True/InvalidSpec",
        }
        assert condition(reported, "Stalled")[2] == "spec.models[0].engine: 'ocrad' is not an engine"
        assert (reported["observedGeneration"], reported["phase"]) == (2, "Stalled")
        for kept in ("pods", "locations", "liveSettings", "selector", "replicas"):
            assert reported[kept] == before[kept]
        assert (
            status.stalled(body | {"status": reported}, self.problem, LATER + timedelta(hours=1)) == reported
        )

    @pytest.mark.parametrize("body", [{}, {"metadata": 1, "status": []}, {"metadata": {"generation": "x"}}])
    def test_any_body_will_do(self, body: dict[str, Any]) -> None:
        reported = status.stalled(body, self.problem, NOW)
        assert summary(reported)["Stalled"] == "True/InvalidSpec"


class TestEvents:
    def reported(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(event.type, event.reason) for event in status.events(before, after)]

    def test_nothing_changed_nothing_told(self) -> None:
        for pods in ([make_seen()], [make_seen("a", **SILENT)], [make_seen("a", **LOOPING)]):
            assert status.events(tell(*pods), tell(*pods)) == []

    def test_starting_up_is_no_news_and_ready_is(self) -> None:
        starting = tell(make_seen("a", **GATED))
        assert self.reported({}, starting) == []
        [event] = status.events(starting, tell(make_seen()))
        assert event == Event(
            type="Normal",
            reason="Ready",
            message="the replica is ready; models load on use",
        )

    def test_trouble_is_told_once_and_so_is_its_end(self) -> None:
        good, bad = tell(make_seen("a")), tell(make_seen("a", **SILENT))
        assert self.reported(good, bad) == [("Warning", "Unreachable")]
        assert self.reported(bad, good) == [("Normal", "Recovered"), ("Normal", "ConfigApplied")]

    def test_no_fit_is_one_event_and_its_end_another(self) -> None:
        waits = tell(make_seen("a", **GATED), nofits={"a": NOFIT})
        assert status.events({}, waits) == [
            Event(type="Warning", reason="InsufficientGpuMemory", message=NOFIT.message)
        ]
        assert ("Normal", "Placed") in self.reported(waits, tell(make_seen("a")))

    def test_new_settings_that_are_applied_at_once_are_told(self) -> None:
        newer = Envelope(generation=2, revision=2, hash="0123456789abcdef", values={})
        after = tell(make_seen("a", reported={"revision": 2}), live=newer)
        assert self.reported(tell(make_seen("a")), after) == [("Normal", "ConfigApplied")]

    def test_what_policies_change_is_told_in_one_event(self) -> None:
        fields = ("a", "b", "c", "d", "e", "own")
        before = tuple(Source(field, "60", "default") for field in fields)
        after = (
            *(Source(field, "5", "OcrIdlePolicy/saver") for field in fields[:5]),
            Source("own", "7", "spec"),
        )
        reported = status.events(tell(make_seen(), sources=before), tell(make_seen(), sources=after))
        assert reported == [
            Event(
                type="Normal",
                reason="PolicyChangedSettings",
                message=", ".join(f"{field} 60 → 5 (OcrIdlePolicy/saver)" for field in "abcd")
                + " and 1 more",
            )
        ]

    def test_a_policy_that_no_longer_counts_is_told_too(self) -> None:
        before = (Source("a", "5", "OcrIdlePolicy/saver"),)
        after = (Source("a", "60", "default"),)
        [reported] = status.events(tell(make_seen(), sources=before), tell(make_seen(), sources=after))
        assert reported.message == "a 5 → 60 (default, no longer OcrIdlePolicy/saver)"

    def test_what_the_resource_changes_itself_is_no_event(self) -> None:
        before = (Source("a", "5", "spec"), Source("b", "1", "OcrIdlePolicy/saver"))
        after = (Source("a", "60", "default"), Source("b", "1", "spec"))
        assert status.events(tell(make_seen(), sources=before), tell(make_seen(), sources=after)) == []

    def test_a_move_of_a_model_is_no_event_but_a_failure_is(self) -> None:
        up = tell(make_seen("a", reported={"models": {"m": ("ready", "gpu")}}))
        assert self.reported(tell(make_seen("a")), up) == []
        failure = {"reason": "LoadFailed", "message": "x", "time": "2026-11-23T08:30:00Z", "exit_code": None}
        failed = tell(make_seen("a", reported={"failure": failure}))
        assert status.events(up, failed) == [
            Event(type="Warning", reason="PodFailure", message="a: LoadFailed: invoice-ocr: x")
        ]

    def test_a_placement_is_told_with_its_why(self) -> None:
        spot = Placement(
            pod="default/a",
            uid="u",
            deployment="d",
            sharing="shared",
            node="n",
            basis=Basis.METRICS,
            why="it is empty",
        )
        (event,) = status.events({}, {}, [spot])
        assert event == Event(type="Normal", reason="PodPlaced", message="a: it is empty")

    @given(lengths=st.lists(st.integers(min_value=1, max_value=1200), max_size=30))
    def test_placements_are_told_in_few_events_and_none_is_left_out(self, lengths: list[int]) -> None:
        spots = [
            Placement(
                pod=f"default/pod-{number:02}",
                uid="u",
                deployment="d",
                sharing="shared",
                node="n",
                basis=Basis.METRICS,
                why=f"it is {'e' * length}",
            )
            for number, length in enumerate(lengths)
        ]
        sentences = [f"{each.pod.removeprefix('default/')}: {each.why}" for each in spots]
        messages = [each.message for each in status.events({}, {}, spots)]

        assert "; ".join(messages) == "; ".join(sentences)
        assert all(len(each) <= 1000 or "; " not in each for each in messages)
        assert all(len(one) + len(next_) > 998 for one, next_ in itertools.pairwise(messages)), "no more"

    def test_a_stalled_resource_is_told_once(self) -> None:
        refused = tell(make_seen(), refusal=Refusal(reason="ManifestRefused", message="no"))
        assert self.reported(tell(make_seen()), refused) == [
            ("Normal", "NotReady"),
            ("Warning", "ManifestRefused"),
        ]


MODELS = st.dictionaries(
    st.sampled_from(["m", "n"]),
    st.sampled_from(
        [("unloaded", "unloaded"), ("ready", "gpu"), ("offloaded", "cpu"), ("failed", "unloaded")]
    ),
    min_size=1,
)
KINDS = st.one_of(
    st.just({}),
    st.just(GATED),
    st.just(LOOPING),
    st.just(SILENT),
    st.just({"ready": False, "state": None}),
    st.builds(
        lambda models, revision: {"reported": {"models": models, "revision": revision}},
        MODELS,
        st.integers(0, 2),
    ),
)


@st.composite
def sights(draw: st.DrawFn) -> tuple[OcrDeployment, Seen]:
    pods = [make_seen(f"p{n}", **draw(KINDS)) for n in range(draw(st.integers(0, 5)))]
    rollout = st.builds(make_rollout, st.integers(0, 5), observed=st.booleans(), updated=st.integers(0, 5))
    nofits = {each.pod.name: NOFIT for each in pods if draw(st.booleans())}
    refusal = draw(st.none() | st.just(Refusal(reason="ManifestRefused", message="no")))
    removal = draw(st.none() | st.just(Removal(message="Service a is being deleted")))
    unwritten = draw(st.none() | st.just(Unwritten(message="no answer")))
    return make_all(
        *pods,
        replicas=draw(st.integers(0, 5)),
        rollout=draw(st.none() | rollout),
        nofits=nofits,
        refusal=refusal,
        removal=removal,
        unwritten=unwritten,
        ended=(REFUSED,) if draw(st.booleans()) else (),
    )


@given(sights(), st.randoms(use_true_random=False))
def test_the_order_of_pods_is_irrelevant(sight: tuple[OcrDeployment, Seen], shuffler: random.Random) -> None:
    resource, seen = sight
    pods = list(seen.pods)
    shuffler.shuffle(pods)
    assert status.aggregate(resource, replace(seen, pods=tuple(pods)), NOW) == status.aggregate(*sight, NOW)


@given(sights())
def test_equal_sights_write_nothing(sight: tuple[OcrDeployment, Seen]) -> None:
    resource, seen = sight
    first = status.aggregate(resource, seen, NOW)
    again = status.aggregate(msgspec.structs.replace(resource, status=first), seen, LATER)
    assert again == first
    assert status.events(first, again) == []


@given(sights())
def test_counts_and_conditions_agree(sight: tuple[OcrDeployment, Seen]) -> None:
    resource, seen = sight
    reported = status.aggregate(resource, seen, NOW)
    models = [model for pod in reported["pods"] for model in pod["models"]]
    assert sum(reported["locations"].values()) == len(models)
    assert reported["readyReplicas"] == sum(pod["ready"] for pod in reported["pods"]) <= reported["replicas"]
    now = summary(reported)
    if now["Ready"].startswith("True") and resource.spec.replicas:
        assert reported["readyReplicas"] >= resource.spec.replicas
        assert now["Progressing"] == "False/Complete"
    if now["ConfigApplied"].startswith("True"):
        assert reported["readyReplicas"] > 0
        ready = [each for each in seen.pods if each.pod.ready]
        assert all(podviews.applied(each, LIVE.revision, LIVE.hash) for each in ready)
    if now["Stalled"].startswith("True"):
        assert now["Ready"].startswith("False")
    if any(each.pod.gated for each in seen.pods):
        assert now["Placed"].startswith("False")
        assert resource.spec.replicas == 0 or reported["readyReplicas"] < reported["replicas"]
    assert_valid(reported)


def assert_valid(value: Any, schema: Mapping[str, Any] | None = None, path: str = "status") -> None:
    """The part of OpenAPI that bounds the status: whatever is written, the API server takes it."""
    schema = SCHEMA if schema is None else schema
    match schema["type"]:
        case "object":
            unknown = value.keys() - schema["properties"].keys()
            assert not unknown, f"{path}: {unknown}"
            assert set(schema.get("required", [])) <= value.keys(), path
            for key, inner in value.items():
                assert_valid(inner, schema["properties"][key], f"{path}.{key}")
        case "array":
            assert len(value) <= schema["maxItems"], path
            if schema["x-kubernetes-list-type"] == "map":
                keys = [tuple(each[key] for key in schema["x-kubernetes-list-map-keys"]) for each in value]
                assert len(keys) == len(set(keys)), path
            for index, inner in enumerate(value):
                assert_valid(inner, schema["items"], f"{path}[{index}]")
        case "string":
            assert isinstance(value, str), path
            assert schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99999), path
            assert re.search(schema.get("pattern", ""), value), path
            assert value in schema.get("enum", [value]), path
        case "integer":
            assert isinstance(value, int), path
            assert value >= schema.get("minimum", value), path
        case "boolean":
            assert isinstance(value, bool), path


def reasons(condition: str) -> set[str]:
    """The reasons in the page's table of one condition."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {condition}\n", 1)[1].split("\n## ", 1)[0]
    return {
        word
        for line in section.splitlines()
        if line.startswith("| `")
        for word in re.findall(r"`(\w+)`", line.split("|")[1])
    }


events_module = sys.modules["ocr_operator.decide.status.events"]
"""The package's name `events` is the function."""


def code_of(judge: Callable[..., Any]) -> list[ast.AST]:
    """A verdict's function and the functions of its module that it calls, as syntax trees."""
    module = ast.parse(Path(verdicts.__file__).read_text(encoding="utf-8"))
    functions = {each.name: each for each in module.body if isinstance(each, ast.FunctionDef)}
    found, todo = dict[str, ast.AST](), [judge.__name__]
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = functions[name]
            todo += [
                each.id
                for each in ast.walk(functions[name])
                if isinstance(each, ast.Name) and each.id in functions
            ]
    return list(found.values())


PASSED_ON = {
    "refusal": {"ManifestRefused", "NameTaken"},
    "removal": {Removal.reason},
    "unwritten": {Unwritten.reason},
    "fault": {Fault.reason},
    "problems": set(podviews.REASONS),
    "nofit": {reason.value for reason in NoFitReason},
    "failed_reason": {"FailedCreate", "ProgressDeadlineExceeded"},
}
"""Attributes whose reason a verdict passes on, and what they may be."""


def possible(condition: str) -> set[str]:
    """All reasons that a condition can have, by its code."""
    found: set[str] = set()
    for node in (each for tree in code_of(verdicts.CONDITIONS[condition]) for each in ast.walk(tree)):
        match node:
            case ast.Call(func=ast.Name(id="Verdict"), args=[_, ast.Constant(value=str(reason)), *_]):
                found.add(reason)
            case ast.Return(value=ast.Constant(value=str(reason))) if reason.isidentifier():
                found.add(reason)
            case ast.Attribute(attr=passed_on):
                found |= PASSED_ON.get(passed_on, set())
    if each := next((each for each in SCHEMA["default"]["conditions"] if each["type"] == condition), None):
        found.add(each["reason"])
    spec = InvalidSpec(field="spec", message="x")
    stalled = status.stalled({"metadata": {"name": "a"}}, spec, NOW)["conditions"]
    return found | {each["reason"] for each in stalled if each["type"] == condition}


@pytest.mark.parametrize("condition", verdicts.CONDITIONS)
def test_the_page_lists_every_reason_of_the_condition_and_no_other(condition: str) -> None:
    assert reasons(condition) == possible(condition)


def test_the_page_has_a_section_for_each_condition_and_no_other() -> None:
    sections = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [*verdicts.CONDITIONS, "Phase", "Events"]


def test_the_page_names_every_reason_of_an_event() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Events\n", 1)[1]
    found: set[str] = set()
    for module in (events_module, preemption_controller, reconcile, reports):
        for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="Event"), keywords=keywords):
                    found |= {
                        str(each.value.value)
                        for each in keywords
                        if each.arg == "reason" and isinstance(each.value, ast.Constant)
                    }
                case ast.Call(func=ast.Name(id="_event"), args=[_, ast.Constant(value=str(reason)), *_]):
                    found.add(reason)
    found |= set(events_module._RECOVERED.values()) | set(events_module._SETTERS.values())
    assert {"PodPlaced", "NotReady", "Recovered", "GpuMemoryShort"} <= found, (
        "the reasons are read from the code"
    )
    assert [reason for reason in sorted(found) if f"`{reason}`" not in section] == []


def test_the_page_lists_every_phase() -> None:
    [tree] = code_of(verdicts.phase)
    returned = [each for each in ast.walk(tree) if isinstance(each, ast.Return)]
    found = {
        each.value
        for node in returned
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }
    assert reasons("Phase") == found
