"""Pods that their kubelets end, or whose server ends: what the operator's process says of them on a real API server."""

from typing import Any

import pytest

from ocr_wire import names
from tests.support.nodeless import Scene, now
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def test_evicted_pod_is_told_and_its_gpu_is_free_for_the_next_one(scene: Scene, nodes: list[str]) -> None:
    """Both GPUs are taken, so there is no other one for its replacement."""
    scene.apply("evicted", gpu={"sharing": "exclusive"}, replicas=len(nodes))

    def ready() -> bool:
        scene.run("evicted")
        return scene.condition("evicted", "Ready").get("status") == "True"

    until(ready, what="both are ready")
    [victim, other] = scene.bound("evicted")
    scene.evict(victim)

    def replaced() -> list[dict[str, Any]]:
        return [
            each for each in scene.bound("evicted") if each["metadata"]["name"] != other["metadata"]["name"]
        ]

    [third] = until(replaced, what="the next one has its GPU")
    assert third["spec"]["nodeName"] == victim["spec"]["nodeName"]
    until(lambda: scene.condition("evicted", "Degraded").get("reason") == "PodFailed", what="it is told")
    told = scene.condition("evicted", "Degraded")["message"]
    node = victim["spec"]["nodeName"]
    assert f"failed on {node}: Evicted: The node was low on resource: memory" in told

    def counted() -> bool:
        status = scene.get("ocr", "evicted")["status"]
        listed = [each["name"] for each in status["pods"]]
        counts = (status["replicas"], status["readyReplicas"])
        return counts == (2, 1) and victim["metadata"]["name"] not in listed

    until(counted, what="the next one is counted in its place, and not ready yet")

    until(ready, what="the next one is ready")
    until(lambda: scene.condition("evicted", "Degraded")["status"] == "False", what="it is over")
    assert [each["count"] for each in scene.events("evicted", "PodFailed")] == [1]


def test_server_that_was_killed_for_its_memory_says_so_and_is_ready_again(
    scene: Scene, nodes: list[str]
) -> None:
    scene.apply("hungry")
    [pod] = until(lambda: scene.bound("hungry"), what="a pod is bound")
    scene.restarted(pod, 1, {"running": {"startedAt": now()}}, reason="OOMKilled", exitCode=137)

    killed = {"reason": "OOMKilled", "message": f"{names.CONTAINER} ended", "exitCode": 137}
    until(lambda: scene.last_failure("hungry") == killed, what="the status says how it ended")
    until(lambda: scene.condition("hungry", "Ready")["status"] == "True", what="it is ready")
    assert scene.condition("hungry", "Degraded")["status"] == "False", "it ended once"


def test_crash_loop_is_told_once_and_until_it_is_over(scene: Scene, nodes: list[str]) -> None:
    scene.apply("looping")
    [pod] = until(lambda: scene.bound("looping"), what="a pod is bound")
    backs_off = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
    }
    said = f"{pod['metadata']['name']}: {names.CONTAINER} ends again and again, last with exit code 1 (Error)"
    failed = {"reason": "Error", "message": f"{names.CONTAINER} ended", "exitCode": 1}
    for restarts in range(1, 4):
        scene.restarted(pod, restarts, backs_off, reason="Error", exitCode=1)
        until(
            lambda: scene.condition("looping", "Degraded").get("reason") == "CrashLooping", what="it is told"
        )
        assert scene.condition("looping", "Degraded")["message"] == said
        until(lambda: scene.last_failure("looping") == failed, what="the status says how it ended")
        assert scene.condition("looping", "Ready")["reason"] == "CrashLooping"
        assert scene.get("ocr", "looping")["status"]["phase"] == "Degraded"

    scene.restarted(pod, 4, {"running": {"startedAt": now()}}, reason="Error", exitCode=1)
    until(lambda: scene.condition("looping", "Ready")["status"] == "True", what="it is over")
    assert scene.condition("looping", "Degraded")["status"] == "False"
    assert [each["count"] for each in scene.events("looping", "CrashLooping")] == [1]
