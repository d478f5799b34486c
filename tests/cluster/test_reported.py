"""The operator's process on a real API server: what kubelets, templates and other people do is in the status, in words.

There are no kubelets here: the test has two Nodes, and says of the pods on them what a kubelet would say.
"""

import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ocr_wire import names
from tests.support.apiserver import Refused
from tests.support.nodeless import Scene, now
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def test_pods_that_kubelets_refuse_are_few_and_reported(scene: Scene, nodes: list[str]) -> None:
    scene.apply("refused")
    until(lambda: any(each["spec"].get("nodeName") for each in scene.pods("refused")), what="a pod is bound")

    def failed() -> int:
        scene.refuse("refused")
        return sum(each["status"]["phase"] == "Failed" for each in scene.pods("refused"))

    until(lambda: failed() >= 2, what="the second one comes at once")
    began = time.monotonic()
    while time.monotonic() - began < 12:
        assert failed() <= 3, "the third one comes after 10 s, the fourth one after 20 s more"
    degraded, placed = scene.condition("refused", "Degraded"), scene.condition("refused", "Placed")
    assert (degraded["status"], degraded["reason"]) == ("True", "PodFailed")
    assert "UnexpectedAdmissionError: Pod was rejected: Allocate failed" in degraded["message"]
    assert placed["reason"] in {"BackOff", "NotNeeded"}
    assert [each["count"] for each in scene.events("refused", "PodFailed")] == [1]

    until(lambda: scene.run("refused"), 60, what="another pod is bound")
    until(lambda: scene.condition("refused", "Degraded")["status"] == "False", what="it is over")


def test_a_gate_that_was_opened_by_hand_is_no_placement(scene: Scene) -> None:
    """Without its ResourceClaim the scheduler doesn't even look at the pod, and says nothing."""
    scene.apply("claims", gpu={"sharing": "claim"})
    [pod] = until(lambda: scene.pods("claims"), what="a pod")
    until(lambda: scene.condition("claims", "Placed").get("status") == "False", what="it isn't placed")
    gate = json.dumps([{"op": "remove", "path": "/spec/schedulingGates"}])
    scene.kubectl("patch", "pod", pod["metadata"]["name"], "--type=json", "-p", gate)

    until(lambda: scene.condition("claims", "Placed").get("reason") == "Unbound", what="it is unbound")
    assert scene.condition("claims", "Placed")["status"] == "False"


def test_a_pod_that_its_kubelet_cannot_prepare_is_reported_in_the_kubelets_words(
    scene: Scene, nodes: list[str]
) -> None:
    """Its status says `ContainerCreating`, as that of each pod does for a while; only an Event says why."""
    scene.apply("keyless")
    [pod] = until(lambda: scene.bound("keyless"), what="a pod is bound")
    meta = pod["metadata"]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "why"},
        "type": "Warning",
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found',
        "lastTimestamp": now(),
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": scene.namespace}
        | {"name": meta["name"], "uid": meta["uid"]},
    }
    scene.kubectl("create", "-f", "-", stdin=json.dumps(event))
    waiting = {"name": names.CONTAINER, "state": {"waiting": {"reason": "ContainerCreating"}}}
    numbers = {"ready": False, "restartCount": 0, "image": "a", "imageID": ""}
    started = (datetime.now(UTC) - timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {"phase": "Pending", "startTime": started, "containerStatuses": [waiting | numbers]}
    scene.set_status("pod", meta["name"], status)

    until(lambda: scene.condition("keyless", "Degraded").get("reason") == "ContainerCannotStart")
    told = scene.condition("keyless", "Degraded")["message"]
    assert told == f"{meta['name']}: FailedMount: {event['message']}"


def test_a_pod_that_never_ends_is_replaced_and_holds_its_gpu_until_it_is_gone(
    scene: Scene, nodes: list[str]
) -> None:
    """No kubelet ends it, so it stays in `Terminating`: its node may be lost with it, or its processes hang."""
    scene.apply("stuck", gpu={"sharing": "exclusive"})
    seen: list[dict[str, Any]] = []
    for _ in nodes:
        [pod] = until(lambda: scene.bound("stuck"), what="a pod is bound")
        until(lambda: scene.run("stuck"), what="it is ready")
        until(lambda: scene.condition("stuck", "Ready").get("status") == "True", what="the resource is, too")
        status = scene.get("ocr", "stuck")["status"]
        assert [each["name"] for each in status["pods"]] == [pod["metadata"]["name"]], "no other one counts"
        assert (status["replicas"], status["readyReplicas"]) == (1, 1)
        scene.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
        seen.append(pod)
    assert len({each["spec"]["nodeName"] for each in seen}) == 2, "its GPU isn't given away"

    until(lambda: scene.condition("stuck", "Placed").get("reason") == "InsufficientGpus", what="none is left")
    assert scene.condition("stuck", "Ready")["status"] == "False"
    assert len(scene.pods("stuck")) == 3, "one waits, for two that end"
    first = seen[0]["metadata"]["name"]
    scene.kubectl("delete", "pod", first, "--force", "--grace-period=0")
    [third] = until(lambda: scene.bound("stuck"), what="the one that waits is placed")
    assert third["spec"]["nodeName"] == seen[0]["spec"]["nodeName"]


def test_a_template_that_cannot_be_meant_is_reported_in_the_api_servers_words(scene: Scene) -> None:
    scene.apply("odd")
    until(lambda: _there(scene, "odd"), what="its Deployment")
    scene.apply("odd", {"nodeSelektor": {"gpu": "true"}})

    until(lambda: scene.condition("odd", "Stalled").get("status") == "True", what="it is stalled")
    assert (
        ".spec.template.spec.nodeSelektor: field not declared" in scene.condition("odd", "Stalled")["message"]
    )
    assert scene.condition("odd", "Ready")["reason"] == "ManifestRefused"
    assert scene.get("ocr", "odd")["status"]["observedGeneration"] == 2

    scene.apply("odd", {"nodeSelector": {"gpu": "true"}})
    until(lambda: scene.condition("odd", "Stalled").get("status") == "False", what="it goes on")
    assert scene.get("ocr", "odd")["status"]["observedGeneration"] == 3


def test_what_others_change_in_children_is_set_back_or_reported(scene: Scene) -> None:
    scene.apply("edited")
    until(lambda: _there(scene, "edited"), what="its Deployment")
    selector = scene.get("service", "edited")["spec"]["selector"]

    narrower = json.dumps({"spec": {"selector": {"version": "2"}}})
    scene.kubectl("patch", "service", "edited", "--type=merge", "-p", narrower)
    scene.kubectl("rollout", "pause", "deployment/edited")
    scene.kubectl("set", "env", "deployment/edited", "EXTRA=1", "-c", names.CONTAINER)

    until(lambda: scene.get("service", "edited")["spec"]["selector"] == selector, what="the selector is back")
    until(lambda: not scene.get("deployment", "edited")["spec"].get("paused"), what="it isn't paused")
    until(lambda: scene.events("edited", "ChildSetBack"), what="an Event of what was set back")
    [event] = until(lambda: scene.events("edited", "ChildEdited"), what="an Event")
    assert f"containers[{names.CONTAINER}].env[EXTRA] (by kubectl-set)" in event["message"]


def test_limit_of_others_that_our_request_exceeds_is_named_with_the_way_out(scene: Scene) -> None:
    scene.apply("limited", resources={"requests": {"memory": "64Mi"}})
    until(lambda: _there(scene, "limited"), what="its Deployment")
    limit = ("--limits=memory=100Mi", "-c", names.CONTAINER)
    scene.kubectl("set", "resources", "deployment/limited", *limit)
    scene.apply("limited", resources={"requests": {"memory": "200Mi"}})

    until(lambda: scene.condition("limited", "Stalled").get("status") == "True", what="it is stalled")
    told = scene.condition("limited", "Stalled")["message"]
    assert "must be less than or equal to memory limit of 100Mi" in told
    path = f"spec.template.spec.containers[{names.CONTAINER}].resources.limits.memory (by kubectl-set)"
    assert f"Deployment limited has also {path}: remove that there, or have the resource say" in told

    scene.apply("limited", resources={"requests": {"memory": "200Mi"}, "limits": {"memory": "300Mi"}})
    until(lambda: scene.condition("limited", "Stalled").get("status") == "False", what="one way out")


def _there(scene: Scene, name: str) -> bool:
    with contextlib.suppress(Refused):
        scene.place.ask(f"/apis/apps/v1/namespaces/{scene.namespace}/deployments/{name}")
        return True
    return False
