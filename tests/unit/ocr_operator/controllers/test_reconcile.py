"""Single passes over one resource, with a cluster that the test sets by hand; whole lives are in
tests/integration/test_operator_loop.py.
"""

import asyncio
import base64
import contextlib
import copy
import gc
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ocr_operator.controllers.children import Children
from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.context import FIRST_WORDS_SECONDS, Context
from ocr_operator.controllers.fence import Fence, NotOurs, lets
from ocr_operator.controllers.passes import (
    PREPARED_SECONDS,
    REFUSED_SECONDS,
    STAMPS_AT_LATEST_SECONDS,
    STARTING_SECONDS,
)
from ocr_operator.controllers.placing import LATE_SECONDS
from ocr_operator.controllers.reconcile import Reconciler
from ocr_operator.controllers.recorder import Recorder
from ocr_operator.controllers.reports import (
    MAX_STEP_SECONDS,
    RESERVE_AGAIN_SECONDS,
    STATUS_WRITES,
    STEP_SECONDS,
    UNKNOWN_RESERVED,
    Reporter,
)
from ocr_operator.controllers.startups import PERIOD_SECONDS
from ocr_operator.controllers.wave import Wave
from ocr_operator.controllers.workqueue import AtLatest, WorkQueue
from ocr_operator.decide import manifests, placement, rollouts
from ocr_operator.decide.manifests import Defaults
from ocr_operator.decide.ownership import Whose
from ocr_operator.decide.placement import NoFit, Placement, Request, unschedulable
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.gpuload.merged import MergedReadings
from ocr_operator.gpuload.sources import GpuSources
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.pods.client import PodClient
from ocr_operator.resources import observed
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.live_settings import BLOCK
from ocr_operator.resources.observed import Key, stamp
from ocr_operator.settings import Settings
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.state import PodState
from tests.support import observations, resources
from tests.support.fakekube import FakeKube
from tests.support.patience import PATIENCE
from tests.support.stage import until

KEY: Key = ("default", "invoices")
T0 = datetime(2026, 11, 23, 8, tzinfo=UTC)
PACE = 1 / STATUS_WRITES.rate
TOKEN = "token"

# A GPU of 45 GiB, of which 40 are promised, and a request for 12.
GPU_NODE: dict[str, Any] = {
    "kind": "Node",
    "apiVersion": "v1",
    "metadata": {"name": "gpu-a", "uid": "n"},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"nvidia.com/gpu": "1"},
    },
}
PROMISED = {
    names.ANNOTATION_GPU_UUIDS: "GPU-1",
    names.ANNOTATION_PLACEMENT: json.dumps({"node": "gpu-a", "memoryBytes": 40 * 2**30}),
}
ANOTHER_SHARE = Request(
    pod="default/new", uid="new", deployment="default/other", sharing="shared", memory_bytes=12 * 2**30,
    resource="", count=0,
)  # fmt: skip


def one_gpu(read_at: datetime) -> MergedReadings:
    reading = GpuReading(
        node="gpu-a", uuid="GPU-1", memory_used_bytes=0, memory_total_bytes=45 * 2**30, read_at=read_at
    )
    gpus = MergedReadings()
    gpus.set("exporter/1", [reading])
    return gpus


class Passes(WorkQueue):
    """A queue that remembers what it was asked for."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.asked: list[Key] = []

    def enqueue(self, key: Key, *, urgent: bool = False) -> None:
        self.asked.append(key)
        super().enqueue(key, urgent=urgent)


class Desk:
    """A reconciler and all that it reads; its informers run, its clock stands still."""

    def __init__(self, kube: FakeKube, session: Any, **settings_of: Any) -> None:
        self.kube = kube
        self.seconds = 0.0
        self.whose = Whose.OURS
        self.seconds_left: float | None = None
        self.lateness = 0.0
        self.many_pushes = False
        settings = Settings(scrape_seconds=2, **settings_of)
        metrics, rng = Metrics(CollectorRegistry()), random.Random(1)
        clock: Any = {"time": lambda: self.seconds, "metrics": metrics}
        self.queue = queue = Passes(concurrency=1, rng=rng, **clock)
        policy_queue = WorkQueue(concurrency=1, rng=rng, **clock)
        self.cluster = ClusterState(
            kube, settings, queue=queue, policy_queue=policy_queue, now=lambda: T0, **clock
        )
        fence = Fence(kube, lambda namespace: self.seconds_left)
        wave = Wave(2, enqueue=queue.enqueue, metrics=metrics)
        self.children = Children(
            fence,
            self.cluster,
            defaults=Defaults("image:1"),
            wave=wave,
            metrics=metrics,
            new_token=lambda: TOKEN,
        )
        self.gpus = GpuSources(
            session,
            settings,
            exporter_pods=self.cluster.exporter_pods,
            namespace_labels=self.cluster.namespace_labels,
            nodes=set,
            on_first=self.cluster.capacity_changed,
            now=lambda: T0,
            metrics=metrics,
            rng=rng,
        )
        self.reconciler = Reconciler(
            Context(
                kube=fence,
                cluster=self.cluster,
                pods=PodClient(
                    session,
                    on_change=lambda key, urgent: None,
                    on_state=self.cluster.accounting.state_changed,
                    metrics=metrics,
                    rng=rng,
                ),
                gpus=self.gpus,
                children=self.children,
                wave=wave,
                reporter=Reporter(
                    fence,
                    self.cluster,
                    Recorder(kube, now=lambda: T0, time=lambda: 0.0, metrics=metrics, instance=""),
                    lateness=lambda: self.lateness,
                    **clock,
                ),
                forget=queue.forget,
                whose=lambda namespace: self.whose,
                may_write=lambda namespace: lets(self.seconds_left),
                leave_to_scheduler_seconds=settings.leave_to_scheduler_seconds,
                lateness=lambda: self.lateness,
                many_pushes=lambda: self.many_pushes,
                now=lambda: T0,
                **clock,
            )
        )

    async def make(self, **spec: Any) -> None:
        body = resources.make_body(**spec)
        del body["metadata"]["uid"], body["metadata"]["generation"]
        await self.kube.create(body)
        await until(lambda: self.cluster.resource(KEY))

    async def change(self, path: str, value: Any) -> None:
        ref = api.Ref(api.OCR_DEPLOYMENT, *KEY)
        self.cluster.answered(await self.kube.patch(ref, [{"op": "add", "path": path, "value": value}]))

    async def be_away(self) -> None:
        """Lose the namespace to another operator, and get it back: what was remembered of its resources is gone."""
        self.whose = Whose.OTHERS
        await self.reconcile()
        self.whose = Whose.OURS

    def has_policy(self, seconds: int) -> bool:
        """Return whether the policies that are known offload after so long."""
        return {each.written["idle"]["offloadAfterSeconds"] for each in self.cluster.policies} == {seconds}

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


@contextlib.asynccontextmanager
async def at_work(kube: FakeKube | None = None, **settings: Any) -> AsyncIterator[Desk]:
    async with wire.session() as session:
        ours = Desk(kube or FakeKube(), session, **settings)
        tasks = [asyncio.create_task(each.run()) for each in ours.cluster.informers]
        for each in ours.cluster.informers:
            await asyncio.wait_for(each.synced.wait(), PATIENCE)
        try:
            yield ours
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with at_work() as ours:
        yield ours


async def test_first_pass_records_the_revision_before_anything_else(desk: Desk) -> None:
    order: list[str] = []
    desk.kube.fail = lambda verb, ref: order.append(f"{verb} {ref.kind.name}")
    await desk.make()

    order.clear()
    await desk.reconcile()

    assert order[0] == "apply_status OcrDeployment"
    assert (await desk.status())["liveSettings"]["revision"] == 1
    assert order.index("apply Secret") < order.index("apply Service")
    assert [each for each in order if each.startswith("apply ")] == [
        "apply Secret",
        "apply Service",
        "apply Service",
        "apply Deployment",
    ]


async def test_children_that_another_object_is_in_the_way_of_are_not_written_over_it(desk: Desk) -> None:
    """No watch shows it, for it doesn't bear our label; so it is found by the write, which leaves it as it is."""
    theirs: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "invoices", "namespace": "default"},
        "spec": {"replicas": 1, "template": {"metadata": {}, "spec": {"containers": [{"name": "web"}]}}},
    }
    made = await desk.kube.create(theirs)
    await desk.make()

    await desk.reconcile()

    stalled = await desk.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "NameTaken")
    assert "Deployment invoices exists and isn't the operator's" in stalled["message"]
    assert await desk.kube.get(api.ref_of(theirs)) == made

    await desk.kube.delete(api.ref_of(theirs), uid=made["metadata"]["uid"])
    desk.seconds += REFUSED_SECONDS
    await desk.reconcile()

    child = await desk.kube.get(api.ref_of(theirs))
    assert child["metadata"]["uid"] != made["metadata"]["uid"]
    assert (await desk.condition("Stalled"))["status"] == "False"


async def test_child_of_ours_that_lost_its_label_is_found_and_gets_it_back(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    service = await desk.kube.get(api.Ref(api.SERVICE, *KEY))
    await desk.kube.patch(api.ref_of(service), [{"op": "replace", "path": "/metadata/labels", "value": {}}])
    await until(lambda: len(desk.cluster.children(KEY)) == 2)
    desk.seconds += PACE

    await desk.reconcile()

    after = await desk.kube.get(api.ref_of(service))
    assert after["metadata"]["labels"] == service["metadata"]["labels"]
    assert after["metadata"]["uid"] == service["metadata"]["uid"]


async def test_pass_after_the_steps_of_the_first_one_writes_nothing(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    await until(lambda: len(desk.cluster.children(KEY)) == 3)
    assert await desk.reconcile() == pytest.approx(STEP_SECONDS), "the Deployment is there"
    desk.seconds += STEP_SECONDS
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
    assert dict(desk.kube.calls) == {}, "the revision is one of those that the status has reserved"
    assert (await desk.status())["liveSettings"]["revision"] == 1

    await desk.reconcile()
    pod = await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-abc"))
    assert json.loads(pod["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS])["revision"] == 2
    assert (await desk.status())["liveSettings"]["revision"] == 2


async def stamped(desk: Desk) -> int:
    pod = await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-abc"))
    stamp = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_LIVE_SETTINGS, '{"revision": 0}')
    revision: int = json.loads(stamp)["revision"]
    return revision


async def after_a_policy(desk: Desk, **spec: Any) -> None:
    """Bring a resource to the pass behind the one that pushed what a policy changed, while others are pushed to."""
    await desk.make(**spec)
    await desk.pod(observations.raw_pod(annotations={}))
    await reconciled(desk)
    await desk.kube.create(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.POLICY_KIND,
            "metadata": {"name": "fleet"},
            "spec": {"idle": {"offloadAfterSeconds": 5}},
        }
    )
    await until(lambda: len(desk.cluster.policies))
    desk.many_pushes = True
    desk.kube.calls.clear()


async def test_stamps_and_status_of_a_policy_come_behind_the_pushes_of_all_resources(desk: Desk) -> None:
    await after_a_policy(desk)

    for passed in (0.0, 10.0):
        desk.seconds += passed
        again = await desk.reconcile()
        assert isinstance(again, AtLatest)
        assert again == STAMPS_AT_LATEST_SECONDS - passed
    assert dict(desk.kube.calls) == {}

    desk.many_pushes = False
    await desk.reconcile()
    assert await stamped(desk) == 2
    assert (await desk.status())["liveSettings"]["revision"] == 2


async def test_stamps_come_in_the_end_also_where_settings_change_all_the_time(desk: Desk) -> None:
    """Passes over a thousand resources take as long as a policy stays as it is: each of them raises the revision."""
    await after_a_policy(desk)
    policy = api.Ref(api.OCR_IDLE_POLICY, "", "fleet")

    for turn in range(2 * int(STAMPS_AT_LATEST_SECONDS) // 5 + 2):
        seconds = 100 + turn
        change = {"op": "replace", "path": "/spec/idle/offloadAfterSeconds", "value": seconds}
        await desk.kube.patch(policy, [change])
        await until(partial(desk.has_policy, seconds))
        await desk.reconcile()
        desk.seconds += 5.0

    assert await stamped(desk) > 2


async def test_stamps_that_are_overdue_come_behind_the_pushes_of_other_resources(desk: Desk) -> None:
    """A thousand resources are overdue at once, and then their settings change once more."""
    await after_a_policy(desk)
    await desk.reconcile()
    desk.seconds += STAMPS_AT_LATEST_SECONDS + 1
    await desk.change("/spec/idle", {"offloadAfterSeconds": 7})
    desk.kube.calls.clear()

    assert await desk.reconcile() == 0.0
    assert dict(desk.kube.calls) == {}
    await desk.reconcile()
    assert await stamped(desk) == 3


async def test_another_pod_joins_at_once_also_while_many_are_pushed_to(desk: Desk) -> None:
    """Of a resource whose only awake pod goes the Service would select nobody."""
    await after_a_policy(desk)
    await desk.reconcile()
    [awake] = desk.cluster.pods_of(KEY)
    asleep = observations.raw_pod("invoices-7c9-def", annotations={})
    asleep["metadata"]["labels"][names.LABEL_AWAKE] = "false"
    await desk.pod(asleep)
    await desk.kube.delete(api.Ref(api.POD, "default", "invoices-7c9-abc"), uid=awake.uid)
    await until(lambda: len(desk.cluster.pods_of(KEY)) == 1)

    assert isinstance(await desk.reconcile(), AtLatest)

    other = await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-def"))
    assert other["metadata"]["labels"][names.LABEL_AWAKE] == "true"


async def test_push_that_needs_a_secret_that_cannot_be_read_tells_of_it(desk: Desk) -> None:
    await after_a_policy(desk)
    body = await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY))
    desk.children.doubt_secret(body["metadata"]["uid"])

    def fail(verb: str, ref: api.Ref) -> None:
        if ref.kind == api.SECRET:
            raise api.KubeError(ref, 503, "etcd leader changed")

    desk.kube.fail = fail
    with pytest.raises(api.KubeError, match="etcd leader changed"):
        await desk.reconcile()


async def test_pod_that_waits_for_its_place_is_placed_before_the_pushes_to_others(desk: Desk) -> None:
    await after_a_policy(desk, gpu={"sharing": "none"})
    await gated(desk, "invoices-7c9-def")

    assert await desk.reconcile() == 0.0
    await desk.reconcile()

    placed = await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-def"))
    assert not placed["spec"].get("schedulingGates")
    assert await stamped(desk) < 2


async def test_another_process_records_its_first_revision_above_what_was_reserved(desk: Desk) -> None:
    """The one before may have sent any of those to pods, and ended before it could say so."""
    await desk.make()
    await desk.pod(observations.raw_pod(annotations={}))
    await desk.reconcile()
    await desk.be_away()
    reserved = (await desk.status())["liveSettings"]["reserved"]
    await desk.change("/spec/idle", {"offloadAfterSeconds": 5})
    desk.kube.calls.clear()

    assert await desk.reconcile() == 0.0
    assert (desk.kube.calls["apply_status"], desk.kube.calls["patch"]) == (1, 0)
    live = (await desk.status())["liveSettings"]
    assert live["revision"] == reserved + 1
    assert live["reserved"] == live["revision"] + BLOCK


async def test_process_without_its_lease_hands_out_no_reserved_revision(desk: Desk) -> None:
    """Another one may work by now; what this one thinks of the time or of the spec is nothing for pods anymore."""
    await desk.make()
    await desk.pod(observations.raw_pod(annotations={}))
    await desk.reconcile()
    await desk.change("/spec/idle", {"offloadAfterSeconds": 5})
    desk.seconds_left = 0.0

    with pytest.raises(NotOurs):
        await desk.reconcile()

    desk.seconds_left = None
    assert await desk.reconcile() == 0.0
    await reconciled(desk)
    assert (await desk.status())["liveSettings"]["revision"] == 2


async def test_another_write_of_a_new_process_reserves_revisions_too(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    await desk.be_away()
    reserved = (await desk.status())["liveSettings"]["reserved"]
    await desk.pod(observations.raw_pod(annotations={}))
    desk.seconds += PACE
    await reconciled(desk)
    await desk.change("/spec/idle", {"offloadAfterSeconds": 5})
    desk.kube.calls.clear()

    assert await desk.reconcile() == 0.0
    assert dict(desk.kube.calls) == {}
    await reconciled(desk)
    assert (await desk.status())["liveSettings"]["revision"] == reserved + 1


class OlderDefinition(FakeKube):
    """An API server whose definition of the resource has no reserved revisions, until it is `upgraded`."""

    upgraded = False
    refused = 0

    async def apply_status(self, ref: api.Ref, status: api.Json, *, resource_version: str) -> api.Json:
        if "reserved" in status.get("liveSettings", {}) and not self.upgraded:
            self.refused += 1
            problem = "failed to create typed patch object (default/invoices; ocr-operator.io/v1alpha1)"
            raise api.Refused(ref, 500, f"{problem}: {UNKNOWN_RESERVED}")
        return await super().apply_status(ref, status, resource_version=resource_version)


async def test_older_definition_takes_revisions_that_are_recorded_first() -> None:
    async with at_work(kube := OlderDefinition()) as desk:
        await desk.make()
        await desk.pod(observations.raw_pod(annotations={}))
        await reconciled(desk)
        for revision in (2, 3):
            await desk.change("/spec/idle", {"offloadAfterSeconds": revision})
            assert await desk.reconcile() == 0.0
            live = (await desk.status())["liveSettings"]
            assert (live["revision"], "reserved" in live) == (revision, False)
        assert kube.refused == 1, "what it refused isn't sent to it with each status"


async def test_upgrade_of_the_definition_is_noticed() -> None:
    async with at_work(kube := OlderDefinition()) as desk:
        await desk.make()
        await reconciled(desk)
        kube.upgraded = True
        for passed, reserves in ((RESERVE_AGAIN_SECONDS / 2, False), (RESERVE_AGAIN_SECONDS / 2, True)):
            desk.seconds += passed
            await desk.change("/spec/idle", {"offloadAfterSeconds": int(passed) + reserves})
            await reconciled(desk)
            assert ("reserved" in (await desk.status())["liveSettings"]) == reserves


async def test_what_a_status_has_reserved_is_not_taken_back_while_the_definition_is_taken_for_an_older_one() -> (
    None
):
    """API servers of which one has the new definition already."""
    async with at_work(kube := OlderDefinition()) as desk:
        await desk.make()
        kube.upgraded = True
        await reconciled(desk)
        kube.upgraded = False
        await desk.change("/spec/idle", {"offloadAfterSeconds": 1})
        await reconciled(desk)
        kube.upgraded = True
        body = await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY))
        status = body["status"]
        reserved = {**status["liveSettings"], "reserved": 40}
        ref = api.ref_of(body)
        await desk.kube.apply_status(
            ref, {**status, "liveSettings": reserved}, resource_version=body["metadata"]["resourceVersion"]
        )
        await desk.change("/spec/idle", {"offloadAfterSeconds": 2})
        await reconciled(desk)
        assert (await desk.status())["liveSettings"]["reserved"] >= 40


async def test_failed_revision_write_keeps_the_pods_as_they_are(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    await desk.pod(observations.raw_pod(annotations={}))
    desk.seconds += PACE
    await desk.reconcile()
    stamped = await desk.kube.get(api.Ref(api.POD, "default", "invoices-7c9-abc"))
    await desk.be_away()
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


async def test_pods_cause_some_status_writes_at_once_and_then_one_a_second(desk: Desk) -> None:
    await desk.make()
    await desk.pod(observations.raw_pod(name="invoices-ready", annotations={}))
    await desk.reconcile()
    await desk.reconcile()
    desk.seconds += FIRST_WORDS_SECONDS
    await desk.reconcile()
    written, wait = 0, None
    while wait is None:
        await desk.pod(observations.raw_pod(name=f"invoices-{written}", ready=False, annotations={}))
        wait = await desk.reconcile()
        written += wait is None

    assert 2 <= written <= STATUS_WRITES.burst
    assert wait == pytest.approx(PACE)
    assert len((await desk.status())["pods"]) == 1 + written
    desk.seconds += PACE
    await desk.reconcile()
    assert len((await desk.status())["pods"]) == 1 + written + 1


async def test_steps_of_a_resource_that_comes_up_are_told_once_a_second(desk: Desk) -> None:
    await desk.make(gpu={"sharing": "none"}, replicas=3)
    await desk.reconcile()
    await desk.pod(observations.raw_pod(name="one", ready=False, annotations={}))
    await desk.reconcile()
    assert (await desk.condition("Placed"))["status"] == "True", "a condition that turns is told at once"
    before = await desk.status()
    await desk.pod(observations.raw_pod(name="two", ready=False, annotations={}))

    assert await desk.reconcile() == pytest.approx(STEP_SECONDS)
    assert await desk.status() == before

    await desk.pod(observations.raw_pod(name="three", ready=False, annotations={}))
    desk.seconds += STEP_SECONDS
    await desk.reconcile()
    assert [each["name"] for each in (await desk.status())["pods"]] == ["one", "three", "two"]


async def test_steps_wait_longer_where_passes_are_late_and_what_is_wrong_does_not(desk: Desk) -> None:
    await desk.make(gpu={"sharing": "none"}, replicas=2)
    await desk.reconcile()
    await until(lambda: desk.cluster.child_deployment(KEY))
    await desk.reconcile()
    desk.seconds += STEP_SECONDS
    await desk.reconcile()
    desk.lateness = 5.0
    await desk.pod(observations.raw_pod(name="one", ready=False, annotations={}))
    before = await desk.status()
    assert await desk.reconcile() == pytest.approx(5.0), "the next step is late, too"
    desk.seconds += 2.0
    desk.lateness = 60.0
    assert await desk.reconcile() == pytest.approx(3.0), "what was said holds"
    assert await desk.status() == before

    looping = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 5}
    await desk.pod(observations.raw_pod(name="two", ready=False, annotations={}, container=looping))
    await desk.reconcile()
    assert (await desk.condition("Degraded"))["status"] == "True"
    assert (await desk.condition("Placed"))["status"] == "True"


async def test_step_that_waits_because_passes_are_late_may_come_as_soon_as_they_are_not(desk: Desk) -> None:
    await desk.make(gpu={"sharing": "none"}, replicas=1)
    desk.lateness = 60.0
    await desk.reconcile()
    await until(lambda: desk.cluster.child_deployment(KEY))
    wait = await desk.reconcile()
    assert isinstance(wait, AtLatest)
    assert wait == pytest.approx(MAX_STEP_SECONDS)

    desk.lateness = 0.0
    await desk.pod(observations.raw_pod(name="one", ready=False, annotations={}))
    assert not isinstance(await desk.reconcile(), AtLatest)
    assert (await desk.condition("Placed"))["status"] == "True"


async def test_turn_waits_for_the_next_step_also_behind_one_that_waits(desk: Desk) -> None:
    """In a cold start the roll-out shows in the first pass, the places in the second, a minute later, and that all are
    ready in the third: two of the three are one write.
    """
    await desk.make(gpu={"sharing": "none"}, replicas=1)
    desk.lateness = 60.0
    await desk.reconcile()
    before = await desk.status()
    await until(lambda: desk.cluster.child_deployment(KEY))
    assert await desk.reconcile() == pytest.approx(MAX_STEP_SECONDS), "the roll-out, which turns nothing"
    desk.seconds += 60.0

    await desk.pod(observations.raw_pod(name="one", ready=False, annotations={}))
    assert await desk.reconcile() == pytest.approx(MAX_STEP_SECONDS), (
        "`Placed` turns, and the next is as late"
    )
    assert await desk.status() == before
    desk.seconds += MAX_STEP_SECONDS - 1.0
    desk.lateness = 90.0
    assert await desk.reconcile() == pytest.approx(1.0), "what was said holds"

    desk.seconds += 1.0
    await desk.reconcile()
    assert (await desk.condition("Placed"))["status"] == "True"


async def test_writes_of_changes_of_the_spec_hold_up_those_of_pods_for_a_second_at_most(desk: Desk) -> None:
    await desk.make()
    for seconds in range(60, 100):
        await desk.change("/spec/idle", {"offloadAfterSeconds": seconds})
        await desk.reconcile()
    desk.seconds += PACE
    await desk.pod(observations.raw_pod(annotations={}))

    await desk.reconcile()

    assert [each["name"] for each in (await desk.status())["pods"]] == ["invoices-7c9-abc"]


async def test_a_pod_that_becomes_ready_is_given_a_second_to_say_how_it_is(desk: Desk) -> None:
    """Nobody is told for a moment that nothing is known of a pod, at each of its starts."""
    await desk.make()
    await desk.reconcile()
    await desk.pod(observations.raw_pod("one", annotations={}))
    before = await desk.status()

    assert await desk.reconcile() == pytest.approx(FIRST_WORDS_SECONDS)
    assert await desk.status() == before
    desk.seconds += FIRST_WORDS_SECONDS / 2
    await desk.pod(observations.raw_pod("other", annotations={}))
    assert await desk.reconcile() == pytest.approx(FIRST_WORDS_SECONDS / 2), (
        "one that comes later waits no longer"
    )

    desk.seconds += FIRST_WORDS_SECONDS / 2
    await desk.reconcile()
    assert (await desk.status())["readyReplicas"] == 2
    desk.seconds += PACE
    await desk.pod(observations.raw_pod("third", ready=False, annotations={}))
    await desk.reconcile()
    names_ = [each["name"] for each in (await desk.status())["pods"]]
    assert names_ == ["one", "other", "third"], "those that were waited for in vain hold up nothing"


@pytest.mark.parametrize(
    "said",
    [
        'services "a" is forbidden: exceeded quota: few, requested: services=1, used: services=1, limited: services=1',
        "unable to create new content in namespace a because it is being terminated",
    ],
)
async def test_child_that_the_namespace_has_no_room_for_is_tried_again_later(desk: Desk, said: str) -> None:
    """No change of the resource would help, and none is needed once there is room."""
    desk.kube.fail = refuse(api.DEPLOYMENT, "apply", api.Refused, 403, said)
    await desk.make()
    await desk.reconcile()
    desk.seconds += PACE

    wait = await desk.reconcile()

    assert wait == REFUSED_SECONDS
    expected = {"Ready": "False", "Progressing": "True", "Degraded": "True"}
    for type_, status in expected.items():
        condition = await desk.condition(type_)
        assert (condition["status"], condition["reason"]) == (status, "NotWritten")
        assert said in condition["message"]
    assert (await desk.condition("Stalled"))["status"] == "False"


async def test_child_that_is_refused_stalls_the_resource_and_is_tried_again_later(desk: Desk) -> None:
    desk.kube.fail = refuse(api.DEPLOYMENT, "apply", api.Refused, 422, "spec.replicas: Invalid value")
    await desk.make()
    await desk.reconcile()
    desk.seconds += PACE

    wait = await desk.reconcile()

    assert wait == REFUSED_SECONDS
    stalled = await desk.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "ManifestRefused")
    assert "spec.replicas: Invalid value" in stalled["message"]


async def gated(desk: Desk, name: str = "invoices-7c9-abc") -> dict[str, Any]:
    """A pod that needs no GPU waits at its gate."""
    raw = observations.raw_pod(name, gated=True, annotations={})
    await desk.pod(raw)
    return raw


async def reconciled(desk: Desk) -> None:
    """Pass until all that can be written is."""
    for _ in range(3):
        desk.seconds += PACE
        with contextlib.suppress(api.KubeError):
            await desk.reconcile()


def refuse(kind: api.Kind, verb: str, error: type[api.KubeError], status: int, message: str) -> Any:
    def fail(called: str, ref: api.Ref) -> None:
        if (ref.kind, called) == (kind, verb):
            raise error(ref, status, message)

    return fail


@pytest.mark.parametrize("verb", ["get", "apply"])
@pytest.mark.parametrize("kind", [api.SECRET, api.DEPLOYMENT])
@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (api.Refused, 403, {"Stalled": "ManifestRefused", "Ready": "ManifestRefused"}),
        (api.Unavailable, 500, {"Stalled": "AsExpected", "Ready": "NotWritten", "Degraded": "NotWritten"}),
    ],
)
async def test_status_and_placement_go_on_when_a_child_cannot_be_written(
    desk: Desk, kind: api.Kind, verb: str, error: type[api.KubeError], status: int, told: dict[str, str]
) -> None:
    desk.kube.fail = refuse(kind, verb, error, status, "a webhook says no")
    await desk.make(gpu={"sharing": "none"})
    await gated(desk)  # so it isn't new

    await reconciled(desk)

    status_ = await desk.status()
    assert {type_: (await desk.condition(type_))["reason"] for type_ in told} == told
    assert "a webhook says no" in (await desk.condition("Degraded"))["message"]
    body = await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY))
    assert status_["observedGeneration"] == body["metadata"]["generation"]
    [pod] = desk.cluster.pods_of(KEY)
    assert not pod.gated

    desk.kube.fail = lambda verb, ref: None
    await reconciled(desk)
    assert (await desk.condition("Degraded"))["status"] == "False"
    assert len(desk.cluster.children(KEY)) == 3


async def test_generation_is_told_only_when_its_children_are_compared(desk: Desk) -> None:
    """A new image and a new timeout in one change: the timeout is recorded before the image is applied."""
    await desk.make(gpu={"sharing": "none"})
    await reconciled(desk)
    before = await desk.status()
    await desk.be_away()
    await desk.change("/spec/server", {"image": "another:2"})
    await desk.change("/spec/idle", {"offloadAfterSeconds": 5})

    await desk.reconcile()

    between = await desk.status()
    assert between["liveSettings"]["revision"] == before["liveSettings"]["reserved"] + 1
    assert between["observedGeneration"] == before["observedGeneration"] == 1
    assert {each["type"]: each["observedGeneration"] for each in between["conditions"]} == {
        each["type"]: 3 if each["type"] == "ConfigApplied" else 1 for each in before["conditions"]
    }
    await reconciled(desk)
    assert (await desk.status())["observedGeneration"] == 3


@pytest.mark.parametrize(("replicas", "told"), [(0, [0, 1]), (1, [1])])
async def test_first_status_is_about_a_generation_only_where_it_cannot_look_finished(
    desk: Desk, replicas: int, told: list[int]
) -> None:
    written = []
    apply_status = desk.kube.apply_status

    async def record(ref: api.Ref, status: api.Json, *, resource_version: str) -> api.Json:
        written.append(status)
        return await apply_status(ref, status, resource_version=resource_version)

    desk.kube.apply_status = record  # type: ignore[method-assign]
    await desk.make(gpu={"sharing": "none"}, replicas=replicas)
    await reconciled(desk)
    assert [each["observedGeneration"] for each in written[: len(told)]] == told
    ready = [each for each in written[0]["conditions"] if each["type"] == "Ready"]
    assert [each["reason"] for each in ready] == ["Creating"] * replicas


async def test_pod_whose_patch_is_refused_says_so(desk: Desk) -> None:
    await desk.make(gpu={"sharing": "none"})
    await gated(desk)
    desk.kube.fail = refuse(api.POD, "patch", api.Refused, 403, "admission webhook denied the request")

    await reconciled(desk)

    placed = await desk.condition("Placed")
    assert (placed["status"], placed["reason"]) == ("False", "PatchRefused")
    assert "admission webhook denied the request" in placed["message"]


async def test_pod_that_cannot_be_replaced_keeps_nothing_from_being_told(desk: Desk) -> None:
    await desk.make()
    raw = observations.raw_pod(annotations={names.ANNOTATION_PLACEMENT: json.dumps({"node": "gone"})})
    raw["spec"] = {"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
    stuck = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no such node"}
    raw["status"] = {"phase": "Pending", "conditions": [stuck]}
    await desk.pod(raw)
    desk.kube.fail = refuse(api.POD, "delete", api.Refused, 403, "not yours")
    await reconciled(desk)
    desk.seconds += unschedulable.SECONDS + 1
    await desk.change("/spec/server", {"image": "another:2"})

    with pytest.raises(api.Refused, match="not yours"):
        await desk.reconcile()

    assert (await desk.status())["observedGeneration"] == 2


async def edited_by_others(desk: Desk) -> None:
    child = dict(await desk.kube.get(api.Ref(api.DEPLOYMENT, *KEY)))
    child["spec"]["minReadySeconds"] = 5
    fields: dict[str, Any] = {"f:spec": {"f:minReadySeconds": {}}}
    child["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": fields}]
    child["metadata"]["resourceVersion"] = "99"
    desk.cluster.answered(child)


async def test_refusal_of_a_child_names_what_others_set_in_it(desk: Desk) -> None:
    await desk.make()
    await reconciled(desk)
    await edited_by_others(desk)
    desk.kube.fail = refuse(api.DEPLOYMENT, "apply", api.Refused, 422, "is invalid: " + "x" * 2000)
    await desk.change("/spec/server", {"image": "another:2"})
    await desk.reconcile()

    told = (await desk.condition("Stalled"))["message"]
    assert "is invalid: xxx" in told
    assert (
        "; Deployment invoices has also spec.minReadySeconds (by kubectl-edit): remove that there, or" in told
    )
    assert told.endswith("(422)")


async def test_what_others_set_in_a_child_is_one_event(desk: Desk) -> None:
    await desk.make()
    await reconciled(desk)
    await edited_by_others(desk)

    await reconciled(desk)

    [event] = [each for each in await desk.kube.find(api.EVENT) if each["reason"] == "ChildEdited"]
    assert event["message"] == "Deployment invoices has also spec.minReadySeconds (by kubectl-edit)"
    assert event["count"] == 1


async def test_what_is_set_back_again_and_again_is_one_event(desk: Desk) -> None:
    """Such as by an autoscaler of the child, or by a webhook that changes each write."""
    await desk.make()
    await reconciled(desk)
    for _ in range(5):
        ref = api.Ref(api.DEPLOYMENT, *KEY)
        desk.cluster.answered(
            await desk.kube.patch(ref, [{"op": "add", "path": "/spec/replicas", "value": 9}])
        )
        await reconciled(desk)
        assert (await desk.kube.get(ref))["spec"]["replicas"] == 1
    await desk.change("/spec/replicas", 2)
    await reconciled(desk)

    [event] = [each for each in await desk.kube.find(api.EVENT) if each["reason"] == "ChildSetBack"]
    assert event["message"] == "Deployment invoices: spec.replicas is 9, wanted 1"
    assert event["count"] == 1


async def test_children_that_stay_the_same_are_compared_once(desk: Desk) -> None:
    await desk.make()
    await reconciled(desk)
    await reconciled(desk)
    child = desk.cluster.child_deployment(KEY)
    assert child is not None
    child["spec"]["replicas"] = 9  # nothing changes an object in place but this test, to see who looks at it
    before = desk.kube.calls["apply"]

    await reconciled(desk)
    assert desk.kube.calls["apply"] == before

    def put(version: str, **parts: object) -> None:
        meta = {**child["metadata"], "resourceVersion": version}
        desk.cluster.deployments.put({**child, "metadata": meta, **parts})

    put("98", status={"replicas": 1, "readyReplicas": 1})
    await reconciled(desk)
    assert desk.kube.calls["apply"] == before, "what it reports makes it no other object"

    put("99", spec={**child["spec"], "replicas": 8})
    await reconciled(desk)
    assert desk.kube.calls["apply"] > before


async def test_no_manifest_is_kept_of_children_that_are_as_they_should_be(desk: Desk) -> None:
    gc.freeze()  # what other tests have left isn't looked at
    try:
        await desk.make()
        await reconciled(desk)
        await reconciled(desk)
        gc.collect()
        found = [each for each in gc.get_objects() if type(each) is dict and each.get("kind") == "Deployment"]
    finally:
        gc.unfreeze()
    assert [each for each in found if "uid" not in each.get("metadata", {"uid"})] == []


async def test_children_share_what_is_equal_of_them(desk: Desk) -> None:
    await desk.make()
    await reconciled(desk)
    await until(lambda: len(desk.cluster.children(KEY)) == 3)
    child, *services = desk.cluster.children(KEY)
    one, two = (each["metadata"] for each in services)
    assert one["labels"] is two["labels"]
    assert one["ownerReferences"] is two["ownerReferences"]

    meta = {**child["metadata"], "resourceVersion": "98"}
    desk.cluster.deployments.put({**copy.deepcopy(child), "metadata": meta, "status": {"replicas": 1}})

    newest = desk.cluster.child_deployment(KEY)
    assert newest is not None
    assert newest is not child
    assert newest["spec"] is child["spec"]


async def test_resources_share_what_is_equal_of_them_and_keep_their_types(desk: Desk) -> None:
    template: dict[str, Any] = {"spec": {"ofANewerKubernetes": True}}
    await desk.make(template=template)
    for name, said in (("alike", True), ("other", 1)):
        template["spec"]["ofANewerKubernetes"] = said
        body = resources.make_body(name, template=template)
        await desk.kube.create({**body, "metadata": {"name": name, "namespace": "default"}})
    await until(lambda: len(desk.cluster.keys()) == 3)

    first, alike, other = (
        desk.cluster.resource(("default", each)) for each in ("invoices", "alike", "other")
    )
    assert first is not None
    assert alike is not None
    assert other is not None
    assert alike["spec"] is first["spec"]
    assert other["spec"]["template"]["spec"]["ofANewerKubernetes"] is not True


async def test_status_that_is_refused_is_an_event(desk: Desk) -> None:
    desk.kube.fail = refuse(api.OCR_DEPLOYMENT, "apply_status", api.Refused, 422, "status.phase: no")
    await desk.make()
    await reconciled(desk)
    [event] = await desk.kube.find(api.EVENT)
    assert event["reason"] == "StatusRefused"
    assert "status.phase: no" in event["message"]


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
    desk.seconds += PACE
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
    expected = unschedulable.Unschedulable(pod, "gone", lost=True)
    assert desk.cluster.unschedulable(pod) == expected, "the books know where it was to go"

    await desk.reconcile()
    desk.seconds += unschedulable.SECONDS - 1
    await desk.reconcile()
    assert len(desk.cluster.pods_of(KEY)) == 1
    desk.seconds += 2
    await desk.reconcile()

    await until(lambda: not desk.cluster.pods_of(KEY))


async def test_pod_whose_node_was_filled_by_others_is_replaced_and_the_node_comes_last(desk: Desk) -> None:
    """A second refusal of the same node doubles the patience: what the pod asks for may be nowhere."""
    await desk.make()
    await desk.reconcile()
    for node in ("gpu-a", "gpu-b"):
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
        body["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        await desk.kube.create(body)
    await until(lambda: len(list(desk.cluster.nodes)) == 2)

    soon = unschedulable.SECONDS
    for number, (node, seconds) in enumerate(
        (("gpu-a", soon), ("gpu-b", soon), ("gpu-a", soon), ("gpu-b", 2 * soon))
    ):
        raw = observations.raw_pod(
            f"pod-{number}", annotations={names.ANNOTATION_PLACEMENT: json.dumps({"node": node})}
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

    cache = desk.reconciler._caches[KEY]
    assert unschedulable.refused(cache.unschedulable_history) == {"gpu-a": 2, "gpu-b": 2}
    desk.seconds += unschedulable.REMEMBERED_SECONDS
    await desk.reconcile()
    assert not unschedulable.refused(cache.unschedulable_history), "no pod waits anymore"


async def test_a_pod_for_which_others_end_is_not_replaced(desk: Desk) -> None:
    """The scheduler keeps gpu-a for it; a replacement would be another preemptor, and end others elsewhere."""
    await desk.make()
    await desk.reconcile()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-a"}}
    await desk.kube.create(node | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    victim = observations.raw_pod("victim", deployment="", containers=[_asking("7")])
    victim["metadata"] |= {"deletionTimestamp": "2026-11-23T09:00:00Z", "finalizers": ["test/grace"]}
    made = await desk.kube.create({**victim, "apiVersion": "v1", "kind": "Pod"})
    record = {names.ANNOTATION_PLACEMENT: json.dumps({"node": "gpu-a"})}
    raw = observations.raw_pod("preemptor", annotations=record, priority=10, containers=[_asking("7")])
    del raw["spec"]["nodeName"]
    hangs = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}
    raw["status"] = {"phase": "Pending", "conditions": [hangs], "nominatedNodeName": "gpu-a"}
    await desk.pod(raw)
    await until(lambda: len(desk.cluster.tenants) == 2)
    for _ in range(3):
        desk.seconds += 10 * unschedulable.SECONDS
        await desk.reconcile()
        assert len(desk.cluster.pods_of(KEY)) == 1

    await desk.kube.delete(api.Ref(api.POD, "default", "victim"), uid=made["metadata"]["uid"])
    await until(lambda: len(desk.cluster.tenants) == 1)
    await desk.reconcile()
    assert len(desk.cluster.pods_of(KEY)) == 1, "now it takes its place"
    desk.seconds += unschedulable.SECONDS
    await desk.reconcile()
    await until(lambda: not desk.cluster.pods_of(KEY))


async def test_pod_stays_apart_from_pods_that_are_on_their_way(desk: Desk) -> None:
    """One each on a node, as their anti-affinity says; a third waits at its gate."""
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "4"}}
    for name in ("gpu-a", "gpu-b"):
        meta = {"name": name, "labels": {"host": name}}
        await desk.kube.create({"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status})
    await until(lambda: len(list(desk.cluster.nodes)) == 2)
    own = {"matchLabels": {names.LABEL_DEPLOYMENT: "invoices"}}
    terms = [{"topologyKey": "host", "labelSelector": own}]
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    for name in ("one", "two", "three"):
        await desk.pod(observations.raw_pod(name, gated=True, affinity=affinity, containers=[_asking("1")]))

    await reconciled(desk)

    pods = {each.name: each for each in desk.cluster.pods_of(KEY)}
    assert {placement.record(pods[name]).node for name in ("one", "three")} == {"gpu-a", "gpu-b"}
    assert pods["two"].gated
    assert "2 nodes are barred by its pod anti-affinity" in (await desk.condition("Placed"))["message"]


async def test_pods_of_others_count_where_they_are(desk: Desk) -> None:
    """A foreign pod that takes a node's CPU; then it is gone, and so is what it took."""
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    ready = [{"type": "Ready", "status": "True"}]
    await desk.kube.create(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "gpu-a"},
            "status": {
                "conditions": ready,
                "allocatable": {"nvidia.com/gpu": "2", "cpu": "8", "pods": "110"},
            },
        }
    )
    foreign = observations.raw_pod("foreign", deployment="", containers=[_asking("7")])
    ref = api.Ref(api.POD, "default", "foreign")
    made = await desk.kube.create({**foreign, "apiVersion": "v1", "kind": "Pod"})
    await until(lambda: len(list(desk.cluster.nodes)) == 1)
    await desk.pod(observations.raw_pod("mine", gated=True, containers=[_asking("2")]))
    await until(lambda: len(desk.cluster.tenants) == 1)
    desk.seconds += PACE
    await desk.reconcile()
    placed = await desk.condition("Placed")
    assert "1 node is short of cpu" in placed["message"]

    await desk.kube.delete(ref, uid=made["metadata"]["uid"])
    await until(lambda: not len(desk.cluster.tenants))
    shown: list[str] = []

    def patched(verb: str, what: api.Ref) -> None:
        if (verb, what.name) == ("patch", "mine"):
            known = desk.cluster.pods.get(("default", "mine"))
            shown.append(known.nominated if known else "gone")

    desk.kube.fail = patched
    await desk.reconcile()
    mine = await desk.kube.get(api.Ref(api.POD, "default", "mine"))
    assert not mine["spec"]["schedulingGates"]
    assert mine["status"]["nominatedNodeName"] == "gpu-a", "the scheduler tries it first"
    assert shown == ["gpu-a"], "the API server's cache has the nomination when the pod is patched"


@pytest.mark.parametrize(("late", "nominated"), [(LATE_SECONDS, False), (LATE_SECONDS - 0.1, True)])
async def test_a_pod_that_comes_while_passes_are_late_is_pinned_instead_of_nominated(
    desk: Desk, late: float, nominated: bool
) -> None:
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    await desk.kube.create(GPU_NODE)
    await desk.pod(observations.raw_pod("mine", gated=True))
    await until(lambda: len(list(desk.cluster.nodes)) == 1)
    desk.lateness = late
    desk.seconds += PACE
    await desk.reconcile()

    mine = await desk.kube.get(api.Ref(api.POD, "default", "mine"))
    assert not mine["spec"]["schedulingGates"]
    assert ("nominatedNodeName" in mine["status"]) is nominated
    affinity = mine["spec"]["affinity"]["nodeAffinity"]
    assert ("requiredDuringSchedulingIgnoredDuringExecution" in affinity) is not nominated


async def test_a_node_that_the_scheduler_refuses_to_a_hurried_pod_is_not_required_of_the_next_one(
    desk: Desk,
) -> None:
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    await desk.kube.create(GPU_NODE)
    await until(lambda: len(list(desk.cluster.nodes)) == 1)
    desk.lateness = 60.0
    hangs = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "no plugin likes it",
    }

    container = {"name": "a", "resources": {"limits": {"nvidia.com/gpu": "1"}}}

    async def is_nominated(name: str) -> bool:
        await desk.pod(observations.raw_pod(name, gated=True, containers=[container]))
        desk.seconds += PACE
        await desk.reconcile()
        pod = await desk.kube.get(api.Ref(api.POD, "default", name))
        assert not pod["spec"]["schedulingGates"]
        return "nominatedNodeName" in pod["status"]

    assert not await is_nominated("one")
    status = {"op": "add", "path": "/status", "value": {"phase": "Pending", "conditions": [hangs]}}
    await desk.kube.patch(api.Ref(api.POD, "default", "one"), [status], subresource="/status")
    await until(lambda: any(pod.unschedulable for pod in desk.cluster.pods_of(KEY)))
    await desk.reconcile()
    desk.seconds += unschedulable.SECONDS + 1
    await desk.reconcile()
    await until(lambda: not desk.cluster.pods_of(KEY))
    assert await is_nominated("two")


def _zone(zone: str) -> dict[str, Any]:
    return {"key": "zone", "operator": "In", "values": [zone]}


WAITS = {"volumeBindingMode": "WaitForFirstConsumer"}
IN_B = [{"matchLabelExpressions": [{"key": "zone", "values": ["b"]}]}]
PICKED = {"volume.kubernetes.io/selected-node": "gpu-b"}


@pytest.mark.parametrize(
    ("claim", "annotations", "volume", "storage_class", "node"),
    [
        (
            {"volumeName": "disk"},
            {},
            {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [_zone("b")]}]}}},
            {},
            "gpu-b",
        ),
        ({"storageClassName": "fast"}, {}, {}, {**WAITS, "allowedTopologies": IN_B}, "gpu-b"),
        ({"storageClassName": "fast"}, {}, {}, {"allowedTopologies": IN_B}, "gpu-a"),
        ({"storageClassName": "fast"}, {}, {}, WAITS, "gpu-a"),
        ({"storageClassName": "fast"}, PICKED, {}, WAITS, "gpu-b"),
        ({"storageClassName": "gone"}, {}, {}, {}, "gpu-a"),
    ],
    ids=["bound", "allowed-there", "bound-without-a-pod", "allowed-anywhere", "being-made", "unknown"],
)
async def test_pod_goes_where_its_volume_is_or_will_be(
    desk: Desk,
    claim: dict[str, Any],
    annotations: dict[str, str],
    volume: dict[str, Any],
    storage_class: dict[str, Any],
    node: str,
) -> None:
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "2"}}
    for zone in ("a", "b"):
        meta = {"name": f"gpu-{zone}", "labels": {"zone": zone}}
        await desk.kube.create({"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": ready})
    claimed = {"name": "models", "namespace": "default", "annotations": annotations}
    storage = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}}
    for each in (
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claimed, "spec": claim},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": volume},
        storage | storage_class,
    ):
        await desk.kube.create(each)
    await until(lambda: len(list(desk.cluster.nodes)) == 2)
    volumes = [{"name": "cache", "persistentVolumeClaim": {"claimName": "models"}}]
    volumes.append({"name": "unknown", "persistentVolumeClaim": {"claimName": "not-there"}})
    await desk.pod(observations.raw_pod("mine", gated=True, volumes=volumes))

    await desk.reconcile()

    mine = await desk.kube.get(api.Ref(api.POD, "default", "mine"))
    assert json.loads(mine["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])["node"] == node


async def test_promised_pods_count_before_they_are_there(desk: Desk) -> None:
    """Two pods of 5 CPUs and a node of 8: the second waits while the first is on its way."""
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    status["allocatable"] = {"nvidia.com/gpu": "2", "cpu": "8", "pods": "110"}  # type: ignore[assignment]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-a"}, "status": status}
    await desk.kube.create(node)
    await until(lambda: len(list(desk.cluster.nodes)) == 1)
    for name in ("one", "two"):
        await desk.pod(observations.raw_pod(name, gated=True, containers=[_asking("5")]))
    for _ in range(3):
        await desk.reconcile()
        gates = [
            bool((await desk.kube.get(api.Ref(api.POD, "default", name)))["spec"]["schedulingGates"])
            for name in ("one", "two")
        ]
        assert gates == [False, True]


def _asking(cpu: str) -> dict[str, Any]:
    return {"name": "a", "resources": {"requests": {"cpu": cpu, "nvidia.com/gpu": "1"}}}


async def test_pod_that_may_go_elsewhere_is_left_to_the_scheduler(desk: Desk) -> None:
    """Where it is kept from nodes that couldn't work, it is placed anew after ten minutes: they may work by then."""
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    for excluded, name in ((0, "free"), (1, "kept")):
        record = json.dumps({"node": "gpu-a", "excluded": excluded})
        raw = observations.raw_pod(name, annotations={names.ANNOTATION_PLACEMENT: record})
        del raw["spec"]["nodeName"]
        hangs = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}
        raw["status"] = {"phase": "Pending", "conditions": [hangs]}
        await desk.pod(raw)
    await desk.reconcile()
    desk.seconds += unschedulable.FREE_SECONDS - 1
    await desk.reconcile()
    assert len(desk.cluster.pods_of(KEY)) == 2
    desk.seconds += 2
    await desk.reconcile()
    await until(lambda: [pod.name for pod in desk.cluster.pods_of(KEY)] == ["free"])
    cache = desk.reconciler._caches[KEY]
    assert not unschedulable.refused(cache.unschedulable_history), "no node is to blame"


async def test_pod_that_may_go_to_several_nodes_is_refused_by_all_of_them(desk: Desk) -> None:
    """Its replacement is placed elsewhere, so that every node is tried before one is tried twice."""
    await desk.make(gpu={"sharing": "exclusive", "products": ["NVIDIA-L40S"]})
    await desk.reconcile()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-b"}}
    await desk.kube.create(node | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    record = {"node": "gpu-a", "alternatives": [{"node": "gpu-b"}]}
    raw = observations.raw_pod(
        annotations={names.ANNOTATION_PLACEMENT: json.dumps(record)}, containers=[_asking("1")]
    )
    del raw["spec"]["nodeName"]
    hangs = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}
    raw["status"] = {"phase": "Pending", "conditions": [hangs]}
    await desk.pod(raw)
    await desk.reconcile()
    desk.seconds += unschedulable.SECONDS
    await desk.reconcile()
    await until(lambda: not desk.cluster.pods_of(KEY))
    refused = unschedulable.refused(desk.reconciler._caches[KEY].unschedulable_history)
    assert refused == {"gpu-a": 1, "gpu-b": 1}, "gpu-a is gone, and gpu-b took it not"


async def test_pod_says_which_gpu_its_claim_got(desk: Desk) -> None:
    await desk.make(gpu={"sharing": "claim"})
    await desk.reconcile()
    record = {
        "node": "gpu-a",
        "gpus": [{"uuid": "GPU-1"}],
        "alternatives": [{"node": "gpu-b", "uuid": "GPU-2"}],
    }
    annotations = {
        names.ANNOTATION_PLACEMENT: json.dumps(record),
        names.ANNOTATION_GPU_UUIDS: "GPU-1,GPU-2",
        names.ANNOTATION_CLAIM: "{}",
    }
    raw = observations.raw_pod("mine", node="gpu-b", annotations=annotations)
    await desk.pod(raw)
    parsed = desk.cluster.pods_of(KEY)[0]
    claim = manifests.claim(resources.make_deployment(gpu={"sharing": "claim"}), parsed, ["GPU-1", "GPU-2"])
    results = [{"request": "gpu/gpu-1"}]
    status = {"allocation": {"devices": {"results": results}}, "reservedFor": [{"uid": parsed.uid}]}
    await desk.kube.create({**claim, "status": status})

    await reconciled(desk)

    mine = await desk.kube.get(api.Ref(api.POD, "default", "mine"))
    assert mine["metadata"]["annotations"][names.ANNOTATION_GPU_UUIDS] == "GPU-2"


async def test_gone_resource_is_forgotten(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    body = await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY))
    await desk.kube.delete(api.ref_of(body), uid=body["metadata"]["uid"])
    await until(lambda: desk.cluster.resource(KEY) is None)
    before = dict(desk.kube.calls)

    assert await desk.reconcile() is None
    assert dict(desk.kube.calls) == before


async def test_older_view_of_a_resource_is_ignored(desk: Desk) -> None:
    await desk.make()
    old = desk.cluster.resource(KEY)
    await desk.change("/spec/replicas", 2)
    assert old is not None

    desk.cluster.answered(old)

    known = desk.cluster.resource(KEY)
    assert known is not None
    assert known["spec"]["replicas"] == 2


async def test_terminating_resource_is_left_to_the_garbage_collector(desk: Desk) -> None:
    await desk.make()
    await desk.change("/metadata/deletionTimestamp", "2026-11-23T08:00:00Z")
    with contextlib.suppress(api.NotFound):
        assert await desk.reconcile() is None
    assert not desk.cluster.children(KEY)


@pytest.mark.parametrize("kind", [api.SERVICE, api.DEPLOYMENT, api.SECRET], ids=lambda each: each.name)
async def test_status_and_placement_go_on_beside_a_fault_of_ours(desk: Desk, kind: api.Kind) -> None:
    def fail(verb: str, ref: api.Ref) -> None:
        if ref.kind == kind and verb in ("apply", "create"):
            raise LookupError("odd")

    desk.kube.fail = fail
    await desk.make(gpu={"sharing": "none"})
    await gated(desk)
    for _ in range(3):
        with contextlib.suppress(LookupError):
            await desk.reconcile()

    told = {each: (await desk.condition(each))["reason"] for each in ("Ready", "Degraded")}
    assert told == {"Ready": "OperatorFault", "Degraded": "OperatorFault"}
    [event] = [each for each in await desk.kube.find(api.EVENT) if each["reason"] == "OperatorFault"]
    assert event["message"] == (await desk.condition("Degraded"))["message"]
    [pod] = desk.cluster.pods_of(KEY)
    assert not pod.gated, "placement goes on"
    written = desk.kube.calls["apply_status"]
    with contextlib.suppress(LookupError):
        await desk.reconcile()
    assert desk.kube.calls["apply_status"] == written, "the same fault is told once"

    desk.kube.fail = lambda verb, ref: None
    await reconciled(desk)
    assert (await desk.condition("Degraded"))["status"] == "False"
    assert len(desk.cluster.children(KEY)) == 3


async def test_fault_of_ours_outside_of_steps_is_in_the_status_too(desk: Desk) -> None:
    await desk.make(gpu={"sharing": "none"})
    await reconciled(desk)

    def fail(verb: str, ref: api.Ref) -> None:
        if ref.kind == api.POD:
            raise LookupError("odd")

    await gated(desk)
    desk.kube.fail = fail
    await desk.change("/spec/idle", {"offloadAfterSeconds": 5})
    for _ in range(3):
        with contextlib.suppress(LookupError, ExceptionGroup):
            await desk.reconcile()
    degraded = await desk.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "OperatorFault")
    assert "LookupError" in degraded["message"]


async def test_fault_of_ours_that_no_status_can_say_is_named_in_an_event(desk: Desk) -> None:
    await desk.make()

    def fail(verb: str, ref: api.Ref) -> None:
        if ref.kind != api.EVENT:
            raise LookupError("odd")

    desk.kube.fail = fail
    with pytest.raises(LookupError):
        await desk.reconcile()

    desk.kube.fail = lambda verb, ref: None
    [event] = await desk.kube.find(api.EVENT)
    assert (event["reason"], event["involvedObject"]["name"]) == ("OperatorFault", KEY[1])
    assert "LookupError" in event["message"]


@pytest.mark.parametrize("later", [1.0, STARTING_SECONDS])
async def test_secret_that_was_deleted_is_made_again_for_a_pod_that_waits_for_it(
    later: float, desk: Desk
) -> None:
    await desk.make()
    await desk.reconcile()
    [secret] = await desk.kube.find(api.SECRET)
    await desk.kube.delete(api.ref_of(secret), uid=secret["metadata"]["uid"])
    await desk.reconcile()
    assert not await desk.kube.find(api.SECRET), "nothing hints at it"

    waits = observations.raw_pod("invoices-1", ready=False, container={"state": {"waiting": {}}})
    del waits["status"]["podIP"]
    await desk.pod(waits)
    desk.seconds += later
    began = desk.seconds
    again = await desk.reconcile()
    assert not await desk.kube.find(api.SECRET), "each pod is without an address for some seconds"
    while again is not None and not await desk.kube.find(api.SECRET):
        desk.seconds += again
        again = await desk.reconcile()
    assert desk.seconds - began <= STARTING_SECONDS

    [made] = await desk.kube.find(api.SECRET)
    assert made["metadata"]["uid"] != secret["metadata"]["uid"]
    assert again is not None, "it looks again"


async def test_pod_whose_label_comes_and_goes_counts_once_on_its_node(desk: Desk) -> None:
    """Two watches share the pods, those with the label and those without it: it leaves one when the other takes it."""
    raw = observations.raw_pod("one", node="gpu-a")
    await desk.pod(raw)
    ref = api.Ref(api.POD, "default", "one")
    tenants = desk.cluster.tenants
    path = f"/metadata/labels/{names.LABEL_DEPLOYMENT.replace('/', '~1')}"

    def there(own: bool) -> bool:
        known = desk.cluster.pods.get(("default", "one")), tenants.informer.get(("default", "one"))
        return [each is not None for each in known] == [own, not own]

    assert there(own=True)
    counted = tenants.usage("gpu-a")
    assert counted.pods == 1
    await desk.kube.patch(ref, [{"op": "remove", "path": path}])
    await until(lambda: there(own=False))
    assert (tenants.usage("gpu-a").pods, tenants.usage("gpu-a").amounts) == (1, counted.amounts)
    await desk.kube.patch(ref, [{"op": "add", "path": path, "value": "invoices"}])
    await until(lambda: there(own=True))
    assert (tenants.usage("gpu-a").pods, tenants.usage("gpu-a").amounts) == (1, counted.amounts)
    await desk.kube.delete(ref, uid=(await desk.kube.get(ref))["metadata"]["uid"])
    await until(lambda: desk.cluster.pods.get(("default", "one")) is None)
    assert tenants.usage("gpu-a").pods == 0


async def test_secret_is_not_read_for_addresses_that_are_as_late_as_passes(desk: Desk) -> None:
    """In a cold start of a thousand resources nearly each pod is without an address for more than ten seconds."""
    await desk.make()
    await desk.reconcile()
    desk.seconds += STARTING_SECONDS
    starts = observations.raw_pod("invoices-1", ready=False, container={"state": {"waiting": {}}})
    del starts["status"]["podIP"]
    await desk.pod(starts)
    desk.lateness = 20.0
    await desk.reconcile()
    read = desk.kube.calls["get"]
    desk.seconds += PREPARED_SECONDS + 1.0
    assert await desk.reconcile() is not None, "it looks again"
    assert desk.kube.calls["get"] == read

    desk.lateness = 0.0
    await desk.reconcile()
    assert desk.kube.calls["get"] == read + 1, "it takes long by itself"


async def test_children_of_a_resource_that_is_gone_or_another_are_not_written(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    for each in [*await desk.kube.find(api.SERVICE), *await desk.kube.find(api.DEPLOYMENT)]:
        await desk.kube.delete(api.ref_of(each), uid=each["metadata"]["uid"])
    await until(lambda: not desk.cluster.children(KEY))
    desk.kube.deaf.add(api.OCR_DEPLOYMENT)
    body = await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY))
    await desk.kube.delete(api.ref_of(body), uid=body["metadata"]["uid"])
    fresh = resources.make_body()
    del fresh["metadata"]["uid"], fresh["metadata"]["generation"]
    await desk.kube.create(fresh)

    with pytest.raises(api.Conflict, match="another resource of that name"):
        await desk.reconcile()
    assert not await desk.kube.find(api.SERVICE)
    await desk.reconcile()
    services = await desk.kube.find(api.SERVICE)
    assert {each["metadata"]["ownerReferences"][0]["uid"] for each in services} != {body["metadata"]["uid"]}


async def test_a_pod_that_was_forced_away_keeps_its_gpu_for_its_grace(desk: Desk) -> None:
    await desk.kube.create(GPU_NODE)
    await desk.pod(observations.raw_pod("gone", annotations=PROMISED, terminationGracePeriodSeconds=120))
    await until(lambda: desk.cluster.nodes.get(("", "gpu-a")))
    seen = desk.cluster.pods.get(("default", "gone"))
    assert seen is not None
    await desk.kube.delete(api.Ref(api.POD, "default", "gone"), uid=seen.uid)
    await until(lambda: desk.cluster.pods.get(("default", "gone")) is None)

    def choose(after: float) -> Placement | NoFit:
        now = T0 + timedelta(seconds=after)
        return desk.cluster.accounting.choose(ANOTHER_SHARE, one_gpu(now), lambda _: None, now)

    assert isinstance(choose(100), NoFit), "its process may live that long"
    assert isinstance(choose(126), Placement)


@pytest.mark.parametrize(("counted", "answer"), [("all", NoFit), ("watched", Placement)])
async def test_promises_of_other_releases_count_where_their_pods_are_seen(counted: str, answer: type) -> None:
    async with at_work(watch_namespaces=("default",), counted_pods=counted) as desk:
        await desk.kube.create(GPU_NODE)
        theirs = observations.raw_pod("theirs", annotations=PROMISED)
        theirs["metadata"]["namespace"] = "elsewhere"
        await desk.kube.create({**theirs, "apiVersion": "v1", "kind": "Pod"})
        await desk.pod(observations.raw_pod("ours", annotations={}))
        await until(lambda: desk.cluster.nodes.get(("", "gpu-a")))
        choice = desk.cluster.choose(("default", "other"), ANOTHER_SHARE, one_gpu(T0), lambda _: None)
        assert isinstance(choice, answer)


@pytest.mark.parametrize(
    ("counted", "named", "found"),
    [("all", (), 1), ("all", ("*",), 1), ("watched", ("*",), 0), ("watched", ("gpu-operator",), 1)],
)
async def test_exporters_are_found_where_pods_are_seen(
    counted: str, named: tuple[str, ...], found: int
) -> None:
    raw = observations.raw_pod("exporter")
    raw["metadata"] |= {"namespace": "gpu-operator", "labels": {"app": "nvidia-dcgm-exporter"}}
    kube = FakeKube()
    await kube.create({**raw, "apiVersion": "v1", "kind": "Pod"})
    settings: Any = {"counted_pods": counted, "exporter_namespace": named}
    async with at_work(kube, watch_namespaces=("default",), **settings) as desk:
        tasks = [asyncio.create_task(each.run()) for each in desk.cluster.exporters]
        for each in desk.cluster.exporters:
            await asyncio.wait_for(each.synced.wait(), PATIENCE)
        assert len(desk.cluster.exporter_pods()) == found
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("whose", [Whose.OTHERS, Whose.UNKNOWN])
async def test_nothing_is_written_in_a_namespace_that_is_not_ours(whose: Whose) -> None:
    async with at_work() as desk:
        await desk.make()
        desk.whose = whose
        desk.kube.calls.clear()
        assert await desk.reconcile() is None
        assert not desk.kube.calls
        desk.whose = Whose.OURS
        await desk.reconcile()
        assert desk.kube.calls["apply"]


@pytest.mark.parametrize("requests", range(1, 9))
async def test_pass_writes_nothing_after_its_namespace_was_lost(requests: int) -> None:
    """Whichever of its requests it is at: those that went before may have taken minutes."""
    async with at_work() as desk:
        await desk.make()
        await desk.pod(observations.raw_pod(annotations={}))
        seen: list[str] = []

        def lose(verb: str, ref: api.Ref) -> None:
            seen.append(verb)
            if len(seen) == requests:
                desk.seconds_left = 0.0

        desk.kube.fail = lose
        lost = None
        while lost is None:
            try:
                await desk.reconcile()
            except NotOurs as error:
                lost = error
            desk.seconds += PACE
        assert len(seen) >= requests
        assert set(seen[requests:]) <= {"get"}


async def test_secret_without_its_label_keeps_its_token_and_gets_the_label_back(desk: Desk) -> None:
    await desk.make()
    await desk.reconcile()
    [secret] = await desk.kube.find(api.SECRET)
    rotated = {names.ADMIN_KEY: base64.b64encode(b"rotated").decode()}
    ref, uid = api.ref_of(secret), (await desk.kube.get(api.Ref(api.OCR_DEPLOYMENT, *KEY)))["metadata"]["uid"]
    await desk.kube.patch(ref, [{"op": "replace", "path": "/data", "value": rotated}])
    await desk.kube.patch(ref, [{"op": "remove", "path": "/metadata/labels"}])
    desk.children.forget(uid)
    await desk.reconcile()

    [found] = await desk.kube.find(api.SECRET, selector=names.LABEL_DEPLOYMENT)
    assert found["data"] == rotated


async def test_what_a_kubelet_warns_of_is_read_for_pods_that_take_long_and_reported(desk: Desk) -> None:
    await desk.make()
    raw = observations.raw_pod(ready=False, container={"state": {"waiting": {"reason": "ContainerCreating"}}})
    raw["status"] |= {"phase": "Pending", "startTime": stamp(T0 - timedelta(seconds=5))}
    await desk.pod(raw)
    wait = await desk.reconcile()
    assert "find" not in desk.kube.calls
    assert wait is not None
    assert wait <= 15

    warning = {"type": "Warning", "reason": "FailedMount", "message": 'secret "keys" not found'}
    pod = api.Ref(api.POD, "default", "invoices-7c9-abc")
    own = (await desk.kube.get(pod))["metadata"]["uid"]
    for name, uid in (("a", own), ("b", "another")):
        about = {
            "involvedObject": {"uid": uid},
            "lastTimestamp": stamp(T0),
            "apiVersion": "v1",
            "kind": "Event",
        }
        message = warning["message"] if name == "a" else "another pod's"
        meta = {"metadata": {"name": name, "namespace": "default"}}
        await desk.kube.create(warning | about | meta | {"message": message})
    early = stamp(T0 - timedelta(minutes=1))
    desk.cluster.answered(
        await desk.kube.patch(pod, [{"op": "add", "path": "/status/startTime", "value": early}])
    )
    for _ in range(5):
        desk.seconds += PACE
        wait = await desk.reconcile()
    degraded = await desk.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "ContainerCannotStart")
    assert degraded["message"] == 'invoices-7c9-abc: FailedMount: secret "keys" not found'
    assert desk.kube.calls.get("find") == 1, "once in a while"
    assert wait == PERIOD_SECONDS

    ready = {"op": "add", "path": "/status/conditions/-", "value": SANDBOXED}
    desk.cluster.answered(await desk.kube.patch(pod, [ready]))
    desk.seconds += PERIOD_SECONDS
    await desk.reconcile()
    assert (await desk.condition("Degraded"))["status"] == "False"
    assert desk.kube.calls.get("find") == 1


SANDBOXED = {"type": "PodReadyToStartContainers", "status": "True"}


async def test_events_that_may_not_be_read_change_nothing(desk: Desk) -> None:
    await desk.make()
    raw = observations.raw_pod(ready=False, container={"state": {"waiting": {"reason": "ContainerCreating"}}})
    raw["status"] |= {"phase": "Pending", "startTime": stamp(T0 - timedelta(minutes=5))}
    await desk.pod(raw)

    def forbid(verb: str, ref: api.Ref) -> None:
        if verb == "find":
            raise api.Refused(ref, 403, "forbidden")

    desk.kube.fail = forbid
    await desk.reconcile()
    assert (await desk.condition("Degraded"))["status"] == "False"


class BindsFirst(FakeKube):
    """An API server where the scheduler binds a pod just before it is deleted."""

    binds = ""

    async def delete(self, ref: api.Ref, *, uid: str, resource_version: str = "") -> None:
        if ref.name == self.binds:
            await self.patch(ref, [{"op": "add", "path": "/spec/nodeName", "value": "gpu-a"}])
        await super().delete(ref, uid=uid, resource_version=resource_version)


async def full_of_promises(desk: Desk, low: dict[str, int]) -> None:
    """Set up a GPU that is promised to pods of `letters`, and a pod of `invoices` of priority 10 that waits for it."""
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "1"}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-a"}, "status": status}
    await desk.kube.create(node)
    device = {
        "uuid": UUID,
        "gpu": {"memory_used_bytes": 0, "memory_total_bytes": 45 * 2**30, "utilization": 0},
    }
    state = observations.raw_state()
    state["device"] |= device
    measures = podstate.parse(state)
    assert isinstance(measures, PodState)
    desk.gpus.hear("uid-measures", observed.pod(observations.raw_pod("measures")), measures)
    models = [dict(resources.RAPIDOCR) | {"gpuMemory": "30Gi"}]
    await desk.make(gpu={"sharing": "shared"}, models=models)
    await desk.kube.create(resources.make_body("letters", gpu={"sharing": "shared"}, models=models))
    for name, memory in low.items():
        record = json.dumps({"node": "gpu-a", "memoryBytes": memory * 2**30})
        raw = observations.raw_pod(
            name,
            deployment="letters",
            annotations={names.ANNOTATION_GPU_UUIDS: UUID, names.ANNOTATION_PLACEMENT: record},
            containers=[],
        )
        del raw["spec"]["nodeName"], raw["status"]["containerStatuses"]
        raw["metadata"]["ownerReferences"] = [
            {"kind": "ReplicaSet", "name": "letters-5d4", "uid": "rs", "controller": True}
        ]
        await desk.pod(raw)
    await desk.pod(observations.raw_pod("high", gated=True, priority=10))
    await until(
        lambda: desk.cluster.nodes.get(("", "gpu-a")) and ("default", "letters") in desk.cluster.declared
    )


UUID = "GPU-8f7a95dc-2eac-5db4-b921-8c38a8608045"


async def events(desk: Desk, reason: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in await desk.kube.find(api.EVENT):
        if each["reason"] == reason:
            found.setdefault(each["involvedObject"]["name"], []).append(each["message"])
    return found


async def test_pod_takes_what_is_promised_to_pods_of_a_lower_priority(desk: Desk) -> None:
    """They aren't bound yet, so they are replaced, and wait."""
    await full_of_promises(desk, {"low": 20, "lower": 20})
    await reconciled(desk)

    high = await desk.kube.get(api.Ref(api.POD, "default", "high"))
    assert not high["spec"]["schedulingGates"]
    record = json.loads(high["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
    assert record["gpus"][0]["uuid"] == UUID
    assert await events(desk, "PromiseYielded") == {
        "letters": [
            f"default/{name} (priority 0) isn't bound yet and is replaced: default/high (priority 10) takes 30Gi of "
            f"gpu-a/{UUID}"
            for name in ("low", "lower")
        ]
    }
    [taken] = (await events(desk, "PromiseTaken"))["invoices"]
    assert taken in record["why"]
    assert not desk.cluster.pods_of(("default", "letters"))

    await desk.pod(observations.raw_pod("again", gated=True, deployment="letters"))
    await desk.reconciler.reconcile(("default", "letters"))
    again = await desk.kube.get(api.Ref(api.POD, "default", "again"))
    assert again["spec"]["schedulingGates"], "no one takes it back"


async def test_pod_that_is_bound_meanwhile_keeps_what_it_was_promised() -> None:
    """What was kept for the other is free again."""
    kube = BindsFirst()
    async with at_work(kube) as desk:
        await full_of_promises(desk, {"low": 40})
        kube.binds = "low"
        await reconciled(desk)
        await reconciled(desk)

        assert (await kube.get(api.Ref(api.POD, "default", "low")))["spec"]["nodeName"] == "gpu-a"
        assert (await kube.get(api.Ref(api.POD, "default", "high")))["spec"]["schedulingGates"]
        assert (await desk.condition("Placed"))["reason"] == "InsufficientGpuMemory"
        assert not await events(desk, "PromiseYielded")
        low = desk.cluster.pods.get(("default", "low"))
        assert low is not None
        await kube.delete(api.Ref(api.POD, "default", "low"), uid=low.uid)
        await until(lambda: desk.cluster.pods.get(("default", "low")) is None)
        request = Request(
            pod="default/other", uid="other", deployment="default/other", sharing="shared",
            memory_bytes=40 * 2**30, resource="", count=0,
        )  # fmt: skip
        assert isinstance(choose_for(desk, request), Placement)


async def test_what_is_taken_is_kept_for_the_pod_and_is_never_another_operators(desk: Desk) -> None:
    await full_of_promises(desk, {"low": 40})
    request = Request(
        pod="default/high", uid="high", deployment="default/invoices", sharing="shared",
        memory_bytes=30 * 2**30, resource="", count=0, demand=Demand(priority=10),
    )  # fmt: skip
    assert desk.cluster.withdraw(request, desk.gpus, lambda _: None, lambda namespace: False) is None
    assert desk.cluster.withdraw(request, desk.gpus, lambda _: None, lambda namespace: True) is not None

    other = replace(request, pod="default/other", uid="other", memory_bytes=4 * 2**30)
    low = desk.cluster.pods.get(("default", "low"))
    assert low is not None
    desk.cluster.pods.gone(("default", "low"), low.uid)
    assert isinstance(choose_for(desk, replace(other, memory_bytes=20 * 2**30)), NoFit), (
        "it is kept for the pod"
    )
    assert isinstance(choose_for(desk, other), Placement), "and no more than that"
    desk.cluster.accounting.release("high")
    assert isinstance(choose_for(desk, replace(other, uid="third", memory_bytes=20 * 2**30)), Placement)


def choose_for(desk: Desk, request: Request) -> Placement | NoFit:
    return desk.cluster.choose(KEY, request, desk.gpus, lambda _: None)


async def test_what_is_freed_is_offered_to_the_highest_priority_first(desk: Desk) -> None:
    for name, priority in (("low", 0), ("high", 10), ("lower", -10)):
        await desk.kube.create(resources.make_body(name))
        await until(lambda key=("default", name): desk.cluster.resource(key))  # type: ignore[misc]
        request = Request(
            pod=f"default/{name}", uid=name, deployment=f"default/{name}", sharing="shared",
            demand=Demand(priority=priority),
        )  # fmt: skip
        assert isinstance(desk.cluster.choose(("default", name), request, desk.gpus, lambda _: None), NoFit)
    desk.queue.asked.clear()

    desk.cluster.capacity_changed()

    assert [name for _, name in desk.queue.asked] == ["high", "low", "lower"]


async def test_node_that_is_not_ready_any_more_is_told_by_the_resources_of_its_pods(desk: Desk) -> None:
    await desk.make()
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    for name in ("gpu-a", "gpu-b"):
        meta = {"name": name}
        await desk.kube.create({"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": ready})
    await until(lambda: len(list(desk.cluster.nodes)) == 2)
    await desk.pod(observations.raw_pod("a", node="gpu-a", ready=False))
    await desk.pod(observations.raw_pod("b", node="gpu-b", ready=False, deployment="others"))
    await desk.reconcile()
    assert (await desk.condition("Degraded"))["status"] == "False"

    desk.queue.asked.clear()
    silent = [{"op": "add", "path": "/status/conditions/0/status", "value": "Unknown"}]
    await desk.kube.patch(api.Ref(api.NODE, "", "gpu-a"), silent)
    await until(lambda: KEY in desk.queue.asked)
    assert ("default", "others") not in desk.queue.asked
    desk.seconds += PACE
    await desk.reconcile()
    degraded = await desk.condition("Degraded")
    assert (degraded["reason"], degraded["message"]) == ("NodeNotReady", "a: its node gpu-a isn't ready")

    desk.queue.asked.clear()
    gone = api.Ref(api.NODE, "", "gpu-a")
    await desk.kube.delete(gone, uid=(await desk.kube.get(gone))["metadata"]["uid"])
    await until(lambda: KEY in desk.queue.asked, what="its pods are looked at when somebody deletes it")
    assert ("default", "others") not in desk.queue.asked
    desk.seconds += PACE
    await desk.reconcile()
    assert (await desk.condition("Degraded"))["status"] == "False"


async def test_node_of_which_kubernetes_says_nothing_yet_is_not_told(desk: Desk) -> None:
    await desk.make()
    await desk.kube.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-a"}})
    await until(lambda: len(list(desk.cluster.nodes)) == 1)
    await desk.pod(observations.raw_pod("a", node="gpu-a", ready=False))
    await desk.reconcile()
    assert (await desk.condition("Degraded"))["status"] == "False"


async def test_gated_pods_are_placed_by_priority(desk: Desk) -> None:
    await desk.make(gpu={"sharing": "exclusive"})
    await desk.reconcile()
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "1"}}
    await desk.kube.create(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-a"}, "status": status}
    )
    await until(lambda: len(list(desk.cluster.nodes)) == 1)
    for name, priority in (("a", 0), ("b", 10)):
        await desk.pod(observations.raw_pod(name, gated=True, priority=priority, containers=[_asking("1")]))

    await reconciled(desk)

    assert {each.name: each.gated for each in desk.cluster.pods_of(KEY)} == {"a": True, "b": False}


@pytest.mark.parametrize(
    ("refused", "strategy"),
    [
        ('pods "a" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1', rollouts.OLD_FIRST),
        ('pods "a" is forbidden: minimum memory usage per Container is 1Gi', rollouts.NEW_FIRST),
    ],
)
@pytest.mark.parametrize("sharing", ["exclusive", "none"])
async def test_old_pod_goes_for_a_new_one_that_a_full_quota_refuses_and_for_no_other(
    desk: Desk, sharing: str, refused: str, strategy: dict[str, int]
) -> None:
    await desk.kube.create(
        {**GPU_NODE, "status": {**GPU_NODE["status"], "allocatable": {"nvidia.com/gpu": "2"}}}
    )
    await until(lambda: len(desk.cluster.nodes))
    await desk.make(gpu={"sharing": sharing})
    await desk.reconcile()
    await desk.pod(observations.raw_pod())
    await desk.change("/spec/template", {"metadata": {"annotations": {"of": "2"}}})
    await reconciled(desk)
    ref = api.Ref(api.DEPLOYMENT, *KEY)
    child = await desk.kube.get(ref)
    assert child["spec"]["strategy"]["rollingUpdate"] == rollouts.NEW_FIRST

    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused}
    status = {"observedGeneration": child["metadata"]["generation"], "replicas": 1, "conditions": [failure]}
    desk.cluster.answered(await desk.kube.patch(ref, [{"op": "add", "path": "/status", "value": status}]))
    await reconciled(desk)

    child = await desk.kube.get(ref)
    assert child["spec"]["strategy"]["rollingUpdate"] == strategy

    status = {"observedGeneration": child["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1}
    desk.cluster.answered(await desk.kube.patch(ref, [{"op": "add", "path": "/status", "value": status}]))
    await desk.change("/spec/template", {"metadata": {"annotations": {"of": "3"}}})
    await reconciled(desk)
    assert (await desk.kube.get(ref))["spec"]["strategy"]["rollingUpdate"] == rollouts.NEW_FIRST, "the next"
