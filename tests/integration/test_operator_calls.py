"""How many calls to the API server one resource costs: at a thousand of them, each one more is a thousand more."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ocr_operator.kube import api
from tests.support.counted import Counted
from tests.support.stage import Stage, stage, until

Paid = tuple[Stage, Counted]


@pytest.fixture
async def paid() -> AsyncIterator[Paid]:
    async with stage(operator=False) as cluster:
        kube = Counted(cluster.authorized)
        await cluster.start(kube, resync_seconds=3600.0)
        yield cluster, kube


def events(cluster: Stage) -> set[str]:
    return {each["reason"] for each in cluster.objects(api.EVENT).values()}


async def up(cluster: Stage, **spec: Any) -> None:
    await cluster.apply(**spec)
    await until(lambda: cluster.holds("Ready") and cluster.applied() and "Ready" in events(cluster))


def assert_at_most(calls: dict[str, int], bounds: dict[str, int]) -> None:
    """No call of another kind, and of each kind no more."""
    assert {name: count for name, count in calls.items() if count > bounds.get(name, 0)} == {}, calls


CHILDREN = {"apply Secret": 1, "apply Service": 2, "apply Deployment": 1, "apply PodDisruptionBudget": 1}


async def test_a_new_resource_is_brought_up_by_few_calls_and_asks_for_nothing(paid: Paid) -> None:
    """What isn't there needn't be asked for, and what was written needn't be read."""
    cluster, kube = paid
    await up(cluster)

    bounds = {**CHILDREN, "patch Pod": 2, "apply_status OcrDeployment": 4, "create Event": 3}
    assert_at_most(kube.take(), bounds)
    assert events(cluster) == {"PodPlaced", "Ready"}


class Strict:
    """An API server that takes no version of what isn't there: none has been seen, from Kubernetes 1.30 on."""

    def __init__(self, kube: Any, refusal: type[api.KubeError]) -> None:
        self._kube = kube
        self._refusal = refusal

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._kube, verb)

    async def apply(self, manifest: api.Json) -> api.Json:
        if manifest["metadata"].get("resourceVersion") == api.NO_VERSION:
            raise self._refusal(api.ref_of(manifest), 409, "it has no version")
        applied: api.Json = await self._kube.apply(manifest)
        return applied


@pytest.mark.parametrize("refusal", [api.Conflict, api.NotFound])
async def test_a_new_resource_is_brought_up_where_only_what_is_there_may_have_a_version(
    refusal: type[api.KubeError],
) -> None:
    async with stage(operator=False) as cluster:
        await cluster.start(Strict(cluster.authorized, refusal), resync_seconds=3600.0)
        await up(cluster)
        assert set(cluster.objects(api.DEPLOYMENT)) == {"invoices"}


async def test_a_whole_device_costs_one_call_more_for_each_pod(paid: Paid) -> None:
    cluster, kube = paid
    await up(cluster, gpu={"sharing": "exclusive"})

    bounds = {"patch Pod": 2, "patch Pod/status": 2, "apply_status OcrDeployment": 4, "create Event": 3}
    assert_at_most(kube.take(), {**CHILDREN, **bounds})


async def test_a_live_change_costs_two_statuses_an_event_and_a_stamp_for_each_pod(paid: Paid) -> None:
    cluster, kube = paid
    await up(cluster)
    kube.take()

    await cluster.apply(idle={"offloadAfterSeconds": 5})
    await until(lambda: cluster.applied() and "ConfigApplied" in events(cluster))

    bounds = {"patch Pod": 2, "apply_status OcrDeployment": 3, "create Event": 1, "get OcrDeployment": 1}
    # The Deployment bears the generation.
    assert_at_most(kube.take(), {**bounds, "apply Deployment": 1})


async def test_an_operator_that_starts_reads_one_secret_for_each_resource_and_writes_nothing() -> None:
    async with stage() as cluster:
        await up(cluster)
        await cluster.kill()
        kube = Counted(cluster.authorized)

        await cluster.start(kube, resync_seconds=3600.0)
        streams = ("ocr_operator_pod_streams", {"state": "connected"})
        done = ("ocr_operator_reconciles_total", {"result": "done"})
        await until(lambda: cluster.registry.get_sample_value(*streams) == 2)
        await until(lambda: (cluster.registry.get_sample_value(*done) or 0) >= 2)

        assert_at_most(kube.take(), {"get Secret": 1})


async def test_a_resource_that_is_deleted_costs_nothing(paid: Paid) -> None:
    cluster, kube = paid
    await up(cluster)
    kube.take()

    await cluster.delete()
    await until(lambda: not cluster.objects(api.DEPLOYMENT) and not cluster.pods)

    assert kube.take() == {}
