"""Single passes over one resource, with a cluster that the test sets by hand; whole lives are in
tests/integration/test_operator_loop.py.
"""

import asyncio
import base64
import contextlib
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.context import Context
from ocr_operator.controllers.reconcile import REFUSED_SECONDS, Reconciler
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.controllers.reports import STATUS_SPACING_SECONDS, Reporter
from ocr_operator.controllers.workqueue import WorkQueue
from ocr_operator.decide.manifests import Defaults
from ocr_operator.decide.placement import unschedulable
from ocr_operator.gpuload.sources import GpuSources
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.pods.client import PodClient
from ocr_operator.resources.observed import Key
from ocr_operator.settings import Settings
from ocr_wire import names
from tests.support import observations, resources
from tests.support.fakekube import FakeKube
from tests.support.patience import PATIENCE
from tests.support.stage import until

KEY: Key = ("default", "invoices")
T0 = datetime(2026, 11, 23, 8, tzinfo=UTC)
TOKEN = "token"


class Desk:
    """A reconciler and all that it reads; its informers run, its clock stands still."""

    def __init__(self, kube: FakeKube, session: Any) -> None:
        self.kube = kube
        self.seconds = 0.0
        settings = Settings(scrape_seconds=2)
        metrics, rng = Metrics(CollectorRegistry()), random.Random(1)
        clock: Any = {"time": lambda: self.seconds, "metrics": metrics}
        queue, policy_queue = (WorkQueue(concurrency=1, rng=rng, **clock) for _ in range(2))
        self.cluster = ClusterState(kube, settings, queue=queue, policy_queue=policy_queue, **clock)
        self.children = Children(
            kube, self.cluster, defaults=Defaults("image:1"), metrics=metrics, new_token=lambda: TOKEN
        )
        self.reconciler = Reconciler(
            Context(
                kube=kube,
                cluster=self.cluster,
                pods=PodClient(session, on_change=lambda key, urgent: None, metrics=metrics, rng=rng),
                gpus=GpuSources(
                    session,
                    settings,
                    exporter_pods=self.cluster.exporter_pods,
                    nodes=set,
                    on_first=self.cluster.capacity_changed,
                    now=lambda: T0,
                    metrics=metrics,
                    rng=rng,
                ),
                children=self.children,
                reporter=Reporter(
                    kube,
                    self.cluster,
                    Recorder(kube, now=lambda: T0, metrics=metrics, instance=""),
                    **clock,
                ),
                forget=queue.forget,
                now=lambda: T0,
                **clock,
            )
        )

    async def make(self, **spec: Any) -> None:
        body = resources.make_body(**spec)
        del body["metadata"]["uid"], body["metadata"]["generation"]
        self.cluster.put_resource(await self.kube.create(body))

    async def change(self, path: str, value: Any) -> None:
        ref = api.Ref(api.OCR_DEPLOYMENT, *KEY)
        self.cluster.put_resource(await self.kube.patch(ref, [{"op": "add", "path": path, "value": value}]))

    async def reconcile(self) -> float | None:
        return await self.reconciler.reconcile(KEY)

    async def pod(self, raw: dict[str, Any]) -> None:
        await self.kube.create({**raw, "apiVersion": "v1", "kind": "Pod"})
        await until(lambda: self.cluster.pods.get(("default", raw["metadata"]["name"])))

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY))).get("status", {})
        return found

    async def condition(self, type_: str) -> dict[str, Any]:
        return next(each for each in (await self.status())["conditions"] if each["type"] == type_)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with wire.session() as session:
        ours = Desk(FakeKube(), session)
        tasks = [asyncio.create_task(each.run()) for each in ours.cluster.informers]
        for each in ours.cluster.informers:
            await asyncio.wait_for(each.synced.wait(), PATIENCE)
        try:
            yield ours
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_first_pass_records_the_revision_before_anything_else(desk: Desk) -> None:
    order: list[str] = []
    desk.kube.fail = lambda verb, ref: order.append(f"{verb} {ref.kind.name}")
    await desk.make()

    order.clear()
    await desk.reconcile()

    assert order[0] == "apply_status OcrDeployment"
    assert (await desk.status())["liveSettings"]["revision"] == 1
    assert [each for each in order if each.startswith("apply ")] == [
        "apply Service",
        "apply Service",
        "apply Deployment",
    ]


async def test_second_pass_writes_nothing(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    await until(lambda: len(desk.cluster.children(KEY)) == 3)
    desk.seconds += STATUS_SPACING_SECONDS
    await desk.reconcile()
    before = dict(desk.kube.calls)

    assert await desk.reconcile() is None

    assert dict(desk.kube.calls) == before


async def test_pass_that_raises_the_revision_leaves_the_rest_to_the_next(desk: Desk) -> None:
    """A policy changes a hundred resources at once: no stamp of the first may hold up the push to the last."""
    await desk.make()
    await desk.pod(observations.raw_pod(annotations={}))
    await desk.reconcile()
    await desk.change("/spec/idle", {"offloadAfterSeconds": 5})
    desk.kube.calls.clear()

    assert await desk.reconcile() == 0.0
    assert dict(desk.kube.calls) == {"apply_status": 1}
    assert (await desk.status())["liveSettings"]["revision"] == 2

    await desk.reconcile()
    pod = await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-abc"))
    assert json.loads(pod["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS])["revision"] == 2


async def test_failed_revision_write_keeps_the_pods_as_they_are(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    await desk.pod(observations.raw_pod(annotations={}))
    desk.seconds += STATUS_SPACING_SECONDS
    await desk.reconcile()
    stamped = await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-abc"))
    await desk.change("/spec/idle", {"offloadAfterSeconds": 1})

    def fail(verb: str, ref: api.Ref) -> None:
        if verb == "apply_status":
            raise api.Unavailable(ref, 503, "etcd is away")

    desk.kube.fail = fail
    with pytest.raises(api.Unavailable):
        await desk.reconcile()

    assert await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-abc")) == stamped
    revision = json.loads(stamped["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS])["revision"]
    assert revision == 1


async def test_conflict_brings_the_newest_resource(desk: Desk) -> None:
    await desk.make()
    ref = api.Ref(api.OCR_DEPLOYMENT, *KEY)
    newest = await desk.kube.patch(ref, [{"op": "add", "path": "/spec/replicas", "value": 3}])

    with pytest.raises(api.Conflict):
        await desk.reconcile()

    known = desk.cluster.resource(KEY)
    assert known is not None
    assert known["metadata"]["resourceVersion"] == newest["metadata"]["resourceVersion"]
    await desk.reconcile()


async def test_pods_cause_one_status_write_a_second(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    await desk.pod(observations.raw_pod(annotations={}))
    desk.seconds += 0.3

    wait = await desk.reconcile()

    assert wait == pytest.approx(STATUS_SPACING_SECONDS - 0.3)
    desk.seconds += 0.7
    await desk.reconcile()
    assert [each["name"] for each in (await desk.status())["pods"]] == ["invoices-7c9-abc"]


async def test_refused_child_is_a_condition_and_tried_again_later(desk: Desk) -> None:
    def fail(verb: str, ref: api.Ref) -> None:
        if ref.kind == api.DEPLOYMENT and verb == "apply":
            raise api.Refused(ref, 403, "exceeded quota: pods")

    desk.kube.fail = fail
    await desk.make()
    await desk.reconcile()
    desk.seconds += STATUS_SPACING_SECONDS

    wait = await desk.reconcile()

    assert wait == REFUSED_SECONDS
    conditions = (await desk.status())["conditions"]
    assert any("exceeded quota: pods" in each["message"] for each in conditions)


async def test_token_of_the_secret_is_kept_and_a_strangers_is_never_used(desk: Desk) -> None:
    stranger = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "invoices-ocr-admin", "namespace": "default"},
        "data": {names.ADMIN_KEY: base64.b64encode(b"stolen").decode()},
    }
    await desk.kube.create(stranger)
    await desk.make()

    await desk.reconcile()
    desk.seconds += STATUS_SPACING_SECONDS
    await desk.reconcile()

    secret = await desk.kube.get(api.Ref(api.SECRET, "default", "invoices-ocr-admin"))
    assert secret["data"] == stranger["data"]
    assert not desk.cluster.children(KEY)
    assert any("invoices-ocr-admin" in each["message"] for each in (await desk.status())["conditions"])


async def test_resync_in_the_middle_of_a_pass_is_no_failure(desk: Desk) -> None:
    """It forgets the Secret, so that it is read again, whatever the pass has done so far."""
    await desk.make()
    uid = (await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY)))["metadata"]["uid"]

    def resync(verb: str, ref: api.Ref) -> None:
        if (verb, ref.kind) == ("create", api.SECRET):
            asyncio.get_running_loop().call_soon(desk.children.forget, uid)

    desk.kube.fail = resync
    await desk.pod(observations.raw_pod(annotations={}))
    await desk.reconcile()
    assert (await desk.kube.get(api.Ref(api.SECRET, "default", "invoices-ocr-admin")))["data"]


async def test_pod_pinned_to_a_lost_node_is_replaced_after_a_while(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    uuid = "GPU-8f7a95dc-2eac-5db4-b921-8c38a8608045"
    placed = json.dumps({"node": "gone", "gpus": [{"uuid": uuid}]})
    raw = observations.raw_pod(
        annotations={names.ANNOTATION_PLACEMENT: placed, names.ANNOTATION_GPU_UUIDS: uuid}
    )
    del raw["spec"]["nodeName"]
    raw["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
    }
    await desk.pod(raw)
    [pod] = desk.cluster.pods_of(KEY)
    assert desk.cluster.pinned_to(pod) == ("gone", True), "the books know where it was to go"

    await desk.reconcile()
    desk.seconds += unschedulable.SECONDS - 1
    await desk.reconcile()
    assert len(desk.cluster.pods_of(KEY)) == 1
    desk.seconds += 2
    await desk.reconcile()

    await until(lambda: not desk.cluster.pods_of(KEY))


async def test_pod_whose_node_was_filled_by_others_is_replaced_and_the_node_comes_last(desk: Desk) -> None:
    """Each time the scheduler refuses another node, patience doubles: what the pod asks for may be nowhere."""
    await desk.make()
    await desk.reconcile()
    for node in ("gpu-a", "gpu-b"):
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
        body["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        await desk.kube.create(body)
    await until(lambda: len(list(desk.cluster.nodes)) == 2)

    for node, seconds in (("gpu-a", unschedulable.SECONDS), ("gpu-b", 2 * unschedulable.SECONDS)):
        raw = observations.raw_pod(
            f"pod-{node}", annotations={names.ANNOTATION_PLACEMENT: json.dumps({"node": node})}
        )
        raw["spec"] = {"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
        full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}
        raw["status"] = {"phase": "Pending", "conditions": [full]}
        await desk.pod(raw)
        await desk.reconcile()
        desk.seconds += seconds - 1
        await desk.reconcile()
        assert len(desk.cluster.pods_of(KEY)) == 1
        desk.seconds += 2
        await desk.reconcile()
        await until(lambda: not desk.cluster.pods_of(KEY))

    cache = desk.reconciler._caches[KEY].unschedulable_history
    assert unschedulable.refused(cache, desk.seconds) == {"gpu-a", "gpu-b"}
    assert not unschedulable.refused(cache, desk.seconds + unschedulable.REMEMBERED_SECONDS), (
        "forgotten after a while"
    )


async def test_gone_resource_is_forgotten(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    body = await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY))
    await desk.kube.delete(api.ref_of(body), uid=body["metadata"]["uid"])
    desk.cluster.remove_resource(body)
    before = dict(desk.kube.calls)

    assert await desk.reconcile() is None
    assert dict(desk.kube.calls) == before


async def test_older_view_of_a_resource_is_ignored(desk: Desk) -> None:
    await desk.make()
    old = desk.cluster.resource(KEY)
    await desk.change("/spec/replicas", 2)
    assert old is not None

    desk.cluster.put_resource(old)

    known = desk.cluster.resource(KEY)
    assert known is not None
    assert known["spec"]["replicas"] == 2


async def test_terminating_resource_is_left_to_the_garbage_collector(desk: Desk) -> None:
    await desk.make()
    await desk.change("/metadata/deletionTimestamp", "2026-11-23T08:00:00Z")
    with contextlib.suppress(api.NotFound):
        assert await desk.reconcile() is None
    assert not desk.cluster.children(KEY)
