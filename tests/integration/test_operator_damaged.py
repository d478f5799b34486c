"""Resources that are damaged anywhere, beside a sound one: that one is served, and none makes the operator fail."""

import copy
import logging
import random
from functools import partial
from typing import Any

import pytest
from prometheus_client import generate_latest

from ocr_operator.kube import api
from tests.support import damage, resources
from tests.support.observations import T0
from tests.support.stage import PORT, Stage, stage, until

COUNT = 30
GPUS = {node: {f"GPU-{node}{index}": 0 for index in range(2 * COUNT)} for node in ("gpu-a", "gpu-b")}
"""More than all of them can take."""


def whole(rng: random.Random) -> dict[str, Any]:
    """A valid resource with most of what one can say, and a status that somebody wrote."""
    body = rng.choice(list(resources.examples().values()))
    condition = {
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": T0,
        "reason": "Is",
        "message": "",
    }
    kinds = ("Ready", "Progressing", "Degraded", "Placed", "ConfigApplied", "Stalled")
    live = {"revision": 3, "hash": "0123456789abcdef", "reserved": 20, "sources": [{"field": "logLevel"}]}
    pod = {"name": "a", "lastFailure": {"reason": "Is", "message": "m"}, "models": [{"name": "m"}]}
    return {
        **body,
        "metadata": {**body["metadata"], "annotations": {"team.example/owner": "mail room"}},
        "spec": {**body["spec"], "server": {"port": PORT}},
        "status": {
            "observedGeneration": 1,
            "phase": "Pending",
            "pods": [pod],
            "conditions": [{"type": each, **condition} for each in kinds],
            "liveSettings": live,
        },
    }


def harmed(rng: random.Random, number: int) -> dict[str, Any]:
    """Damaged anywhere; each second one has no pods, for Kubernetes itself makes none from an odd template."""
    sound = whole(rng)
    body = damage.damage(rng, sound)
    meta = body["metadata"] if isinstance(body.get("metadata"), dict) else {}
    body["metadata"] = {**meta, "name": f"harmed-{number:02}", "namespace": "default"}
    if isinstance(spec := body.get("spec"), dict):
        if number % 2:
            spec["replicas"] = 0
        else:
            spec["template"] = copy.deepcopy(sound["spec"].get("template", {}))
            if isinstance(spec.get("replicas"), int):
                spec["replicas"] = min(spec["replicas"], 2)
    return {**body, "apiVersion": sound["apiVersion"], "kind": sound["kind"]}


def looked_at(cluster: Stage, name: str) -> bool:
    body = cluster.resource(name)
    status = body.get("status")
    return isinstance(status, dict) and status.get("observedGeneration") == body["metadata"]["generation"]


@pytest.mark.parametrize("seed", range(2))
async def test_damaged_resources_cost_a_sound_one_nothing(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(seed)
    bodies = [harmed(rng, number) for number in range(2 * COUNT)]
    async with stage(gpus=GPUS, operator=False) as cluster:
        for body in bodies[:COUNT]:
            await cluster.kube.create(body)
        await cluster.apply()
        with caplog.at_level(logging.ERROR):
            await cluster.start()
            await until(lambda: cluster.holds("Ready") and cluster.applied())
            for body in bodies[COUNT:]:
                await cluster.kube.create(body)
            await cluster.apply(idle={"offloadAfterSeconds": 7})
            await until(lambda: cluster.holds("Ready") and cluster.applied())
            for body in bodies:
                name = body["metadata"]["name"]
                await until(partial(looked_at, cluster, name), what=f"{name} has a status: {body}")
            assert generate_latest(cluster.registry)
        assert [each.getMessage() for each in caplog.records] == []
        reasons = {each["reason"] for each in cluster.objects(api.EVENT).values()}
        assert "OperatorFault" not in reasons
        assert "InvalidSpec" in reasons, "some are damaged beyond use"
