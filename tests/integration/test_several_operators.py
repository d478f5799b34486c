"""Several operators on one API server in memory: one works in a namespace."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from prometheus_client import CollectorRegistry

from ocr_operator.controllers.controller import Controller
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.settings import Settings
from tests.support.fakekube import FakeKube
from tests.support.stage import EXPORTER_PORT, Stage, stage, until

FIRST, SECOND = "ocr-system/first", "team/second"


class Written:
    """The API server as one operator sees it; it notes what that one writes."""

    def __init__(self, cluster: Stage) -> None:
        self._kube: FakeKube = cluster.kube
        self.writes: list[tuple[str, api.Ref]] = []

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._kube, verb)
        if verb not in {"apply", "apply_status", "patch", "create", "delete"}:
            return found

        def noted(what: Any, *arguments: Any, **options: Any) -> Any:
            self.writes.append((verb, what if isinstance(what, api.Ref) else api.ref_of(what)))
            return found(what, *arguments, **options)

        return noted


class Together(Written):
    """Its patches of pods are sent once as many operators as `party` has are about to send one."""

    def __init__(self, cluster: Stage, party: asyncio.Barrier) -> None:
        super().__init__(cluster)
        self._party = party

    async def patch(self, ref: api.Ref, operations: Any, **options: Any) -> api.Json:
        if ref.kind == api.POD and not self._party.broken:
            with suppress(asyncio.BrokenBarrierError):
                await self._party.wait()
                await self._party.abort()  # the next ones go at once
        return await self._kube.patch(ref, operations, **options)


@asynccontextmanager
async def another(
    cluster: Stage, kube: Written | None = None, **settings: Any
) -> AsyncIterator[tuple[Controller, Written]]:
    kube = kube or Written(cluster)
    async with wire.session() as session:
        controller = Controller(
            kube,
            session,
            Settings(scrape_seconds=0.1, exporter_port=EXPORTER_PORT, resync_seconds=1, **settings),
            metrics=Metrics(CollectorRegistry()),
            now=cluster.clock,
            time=time.monotonic,
            rng=random.Random(2),
        )
        task = asyncio.create_task(controller.run())
        try:
            yield controller, kube
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_operator_that_does_not_own_a_namespace_writes_nothing_there() -> None:
    async with stage(identity=FIRST) as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        async with another(cluster, identity=SECOND, inference_image="other:1") as (second, kube):
            await until(lambda: bool(second.ownership.note()))
            await cluster.apply(idle={"offloadAfterSeconds": 7})
            await until(cluster.applied)
            await until(lambda: second.ready() and not second.queue)
        child = cluster.objects(api.DEPLOYMENT)["invoices"]
        assert child["metadata"]["generation"] == 1
        assert [(verb, ref.kind, ref.namespace) for verb, ref in kube.writes] == [
            ("create", api.EVENT, "team")
        ]


async def test_namespace_is_taken_over_when_its_lease_ends() -> None:
    async with stage(operator=False) as cluster:
        await cluster.kube.create(
            {
                "apiVersion": api.LEASE.api_version,
                "kind": "Lease",
                "metadata": {"name": "ocr-operator-owner", "namespace": "default"},
                "spec": {"holderIdentity": FIRST, "leaseDurationSeconds": 1},
            }
        )
        await cluster.apply()
        async with another(cluster, identity=SECOND):
            await until(lambda: cluster.holds("Ready") and cluster.applied())


async def test_restarted_operator_does_not_wait_for_its_own_lease() -> None:
    async with stage(identity=FIRST) as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        await cluster.kill()
        [lease] = cluster.objects(api.LEASE).values()
        assert lease["spec"]["leaseDurationSeconds"] == 60
        await cluster.start(identity=FIRST)
        await cluster.apply(idle={"offloadAfterSeconds": 7})
        await until(cluster.applied)


async def test_operators_of_different_namespaces_do_not_fight_over_the_status_of_a_policy() -> None:
    """Each counts the resources that it sees; the last one that had news is believed."""
    async with stage(watch_namespaces=("default",)) as cluster:
        await cluster.apply()
        await cluster.policy("office", selector={}, idle={"offloadAfterSeconds": 60})
        await until(lambda: cluster.policy_status("office").get("matched") == 1)
        async with another(cluster, watch_namespaces=("elsewhere",)) as (second, kube):
            await until(lambda: cluster.policy_status("office").get("matched") == 0)
            version = cluster.objects(api.OCR_IDLE_POLICY)["office"]["metadata"]["resourceVersion"]
            own = cluster.controller
            assert own is not None
            queues = [each.policy_queue for each in (own, second)]
            for queue in queues * 3:
                queue.enqueue(("", "office"), urgent=True)
                await until(lambda: not any(each.longest_pass() or len(each) for each in queues))
            assert cluster.objects(api.OCR_IDLE_POLICY)["office"]["metadata"]["resourceVersion"] == version
            assert [ref.kind for _, ref in kube.writes] == [api.OCR_IDLE_POLICY]


async def test_gpu_that_two_operators_promise_at_once_is_one_pods_in_the_end() -> None:
    """Both choose it before either has seen the other's choice; the later promise is undone, and its pod waits."""
    models = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "30Gi"}]
    async with stage(operator=False, gpus={"gpu-a": {"GPU-a0": 0}}) as cluster:
        cluster.starts = False
        party = asyncio.Barrier(2)
        namespaces = {"first": "default", "second": "team"}
        async with AsyncExitStack() as operators:
            for namespace in namespaces.values():
                operator = another(
                    cluster,
                    Together(cluster, party),
                    watch_namespaces=(namespace,),
                    counted_pods="all",
                    exporter_namespace=("gpu-operator",),
                )
                await operators.enter_async_context(operator)
            for name, namespace in namespaces.items():
                await cluster.apply(name, namespace=namespace, replicas=1, models=models)

            def waiting() -> list[str]:
                return [name for name in namespaces if cluster.holds("Placed", "False", name=name)]

            await until(lambda: party.broken, what="both have chosen")
            [late] = await until(lambda: len(waiting()) == 1 and waiting())
            gated = {n for n, p in cluster.objects(api.POD).items() if p["spec"].get("schedulingGates")}
            assert {name.rpartition("-")[0] for name in gated} == {late}
            [event] = [e for e in cluster.objects(api.EVENT).values() if e["reason"] == "PromiseUndone"]
            assert event["involvedObject"]["name"] == late
            assert "30Gi of GPU-a0" in event["message"]
