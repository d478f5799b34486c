"""The whole operator against an API server in memory and real HTTP: what a resource becomes, and how it heals."""

import asyncio
import copy
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from ocr_operator.kube import api
from ocr_wire import names
from tests.support import fakepod, webserver
from tests.support.fakekube import FakeKube
from tests.support.paths import DOCS
from tests.support.stage import Stage, stage, until


async def test_resource_becomes_placed_pods_with_their_settings() -> None:
    async with stage() as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())

        pods = {n: p for n, p in cluster.objects(api.POD).items() if n.startswith("invoices")}
        assert {p["metadata"]["annotations"][names.ANNOTATION_GPU_UUIDS] for p in pods.values()} <= {
            "GPU-a0", "GPU-a1", "GPU-b0", "GPU-b1"
        }  # fmt: skip
        assert len({p["spec"]["nodeName"] for p in pods.values()}) == 2, "spread over the nodes"
        assert {p.settings["revision"] for p in cluster.pods.values()} == {1}
        assert all(not p.pushes for p in cluster.pods.values()), "the file had them already"
        assert cluster.locations() == {"unloaded": 2}
        assert {each["name"] for each in cluster.status()["pods"]} == set(pods)
        assert cluster.condition("Ready")["reason"] == "Standby"


async def test_pods_of_a_cluster_that_assigns_users_name_none() -> None:
    async with stage(pod_user="assigned") as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready"))
        [deployment] = cluster.objects(api.DEPLOYMENT).values()
        template = deployment["spec"]["template"]["spec"]
        assert "fsGroup" not in template["securityContext"]
        assert "runAsUser" not in template["containers"][0]["securityContext"]


async def test_live_change_is_pushed_and_told_without_a_new_pod() -> None:
    async with stage() as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        uids = {p.uid for p in cluster.pods.values()}
        template = cluster.objects(api.DEPLOYMENT)["invoices"]["spec"]["template"]

        await cluster.apply(idle={"offloadAfterSeconds": 5})
        await until(cluster.applied)

        assert {p.uid for p in cluster.pods.values()} == uids
        assert cluster.objects(api.DEPLOYMENT)["invoices"]["spec"]["template"] == template
        for pod in cluster.pods.values():
            assert pod.settings["values"]["idle"]["offloadAfterSeconds"] == 5
            assert (pod.settings["generation"], pod.settings["revision"]) == (2, 2)
            stamped = cluster.objects(api.POD)[pod.name]["metadata"]["annotations"]
            assert json.loads(stamped[names.ANNOTATION_LIVE_SETTINGS])["revision"] == 2
        assert cluster.status()["liveSettings"]["revision"] == 2


async def test_pods_that_lag_are_named_with_their_reasons() -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no model 'pp-ocr' here"}}, status=422)

    async def fail(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    async with stage() as cluster:
        await cluster.apply(replicas=3)
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        first, second, third = sorted(cluster.pods)
        cluster.pods[first].answer_push, cluster.pods[second].answer_push = refuse, fail
        await cluster.apply(replicas=3, idle={"offloadAfterSeconds": 5})
        reasons = (
            f"{first} (runs revision 1; the pod refuses the values (422):",
            f"{second} (runs revision 1; PUT /v1/settings answered 500)",
        )
        await until(lambda: all(each in cluster.condition("ConfigApplied")["message"] for each in reasons))
        message = cluster.condition("ConfigApplied")["message"]
        assert message.startswith("2 of 3 pods lag behind revision 2: ")
        assert third not in message

        def applied() -> dict[str, int]:
            return {each["name"]: each["appliedGeneration"] for each in cluster.status()["pods"]}

        assert applied() == {first: 1, second: 1, third: 2}

        cluster.pods[second].answer_push = None
        await until(lambda: applied() == {first: 1, second: 2, third: 2}, what="the push is tried again")
        assert "1 of 3 pods lag" in cluster.condition("ConfigApplied")["message"]


async def test_state_of_a_pod_reaches_the_status() -> None:
    async with stage() as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready"))

        next(iter(cluster.pods.values())).change(pp_ocr=("ready", "gpu"))
        await until(lambda: cluster.locations() == {"gpu": 1, "unloaded": 1})


async def test_nothing_is_written_while_nothing_happens() -> None:
    async with stage(resync_seconds=0.5) as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        assert cluster.controller is not None
        await until(lambda: not cluster.controller.queue and cluster.locations() == {"unloaded": 2})  # type: ignore[union-attr]
        reconciles = _count(cluster, "ocr_operator_reconciles_total", result="done")
        writes = _writes(cluster)

        await until(lambda: _count(cluster, "ocr_operator_reconciles_total", result="done") > reconciles + 3)

        assert _writes(cluster) == writes


async def test_status_is_written_at_most_once_a_second_under_churn() -> None:
    async with stage() as cluster:
        await cluster.apply(replicas=1)
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        [pod] = cluster.pods.values()
        before = cluster.kube.calls["apply_status"]
        loop = asyncio.get_running_loop()
        began = loop.time()

        flips = 0
        while flips <= 50 or loop.time() - began < 2.5:
            pod.change(pp_ocr=("ready", "gpu") if flips % 2 else ("offloaded", "cpu"))
            flips += 1
            await asyncio.sleep(0.01)

        seconds = loop.time() - began
        assert 1 <= cluster.kube.calls["apply_status"] - before <= 2 + seconds


async def test_unreachable_pod_is_unknown_and_comes_back() -> None:
    async with stage(idle_timeout=0.5) as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready"))
        for pod in cluster.pods.values():
            pod.change(pp_ocr=("ready", "gpu"))
        await until(lambda: cluster.locations() == {"gpu": 2})
        lost, silent = cluster.pods.values()

        await cluster.end(lost.name)
        silent.silent = True
        await until(lambda: cluster.locations() == {"unknown": 2})

        silent.silent = False
        silent.tell()
        await until(lambda: cluster.locations() == {"gpu": 1, "unknown": 1})


async def test_killed_operator_converges_after_a_restart_without_duplicates() -> None:
    async with stage() as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        before = {ref: b["metadata"]["uid"] for ref, b in cluster.kube._objects.items()}

        await cluster.kill()
        await cluster.apply(idle={"offloadAfterSeconds": 7})
        await cluster.start()
        await until(cluster.applied)

        after = {ref: b["metadata"]["uid"] for ref, b in cluster.kube._objects.items()}
        assert {r: u for r, u in after.items() if r.kind != api.EVENT} == {
            r: u for r, u in before.items() if r.kind != api.EVENT
        }
        revision = cluster.status()["liveSettings"]["revision"]
        assert {p.settings["revision"] for p in cluster.pods.values()} == {revision}
        assert revision > 2, "the killed one may have handed out more than it could record"


async def test_a_restart_is_no_news() -> None:
    """The status stays as it is until pods were heard, and says then what it said; no Event is repeated."""
    async with stage() as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        await until(lambda: "Ready" in {each["reason"] for each in cluster.objects(api.EVENT).values()})
        await cluster.kill()
        before = copy.deepcopy((cluster.status(), cluster.objects(api.EVENT)))
        cluster.kube.calls.clear()

        await cluster.start(resync_seconds=1.0)
        done = {"result": "done"}
        await until(
            lambda: (cluster.registry.get_sample_value("ocr_operator_reconciles_total", done) or 0) >= 5
        )

        assert cluster.registry.get_sample_value("ocr_operator_pod_streams", {"state": "connected"}) == 2
        assert not cluster.kube.calls["apply_status"]
        assert (cluster.status(), cluster.objects(api.EVENT)) == before


async def test_revision_never_goes_back_when_the_status_is_wiped() -> None:
    async with stage() as cluster:
        await cluster.apply()
        for seconds in (1, 2, 3):
            await cluster.apply(idle={"offloadAfterSeconds": seconds})
            await until(cluster.applied)
        newest = cluster.status()["liveSettings"]["revision"]
        assert newest >= 3

        ref = api.ref_of(cluster.resource())
        await cluster.kube.patch(ref, [{"op": "remove", "path": "/status"}])
        await until(cluster.applied)
        await cluster.apply(idle={"offloadAfterSeconds": 9})
        await until(lambda: cluster.applied() and _seconds(cluster) == {9})

        assert cluster.status()["liveSettings"]["revision"] > newest


async def test_second_operator_with_an_old_view_turns_nothing_back() -> None:
    async with stage() as cluster:
        await cluster.apply()
        await until(cluster.applied)
        old = cluster.resource()
        await cluster.apply(idle={"offloadAfterSeconds": 5})
        await until(cluster.applied)
        newest = cluster.resource()
        version = newest["metadata"]["resourceVersion"]

        stale = {**old["status"], "liveSettings": {"revision": 1, "hash": "0" * 16}}
        with pytest.raises(api.Conflict):
            await cluster.kube.apply_status(
                api.ref_of(old), stale, resource_version=old["metadata"]["resourceVersion"]
            )
        assert cluster.controller is not None
        cluster.controller.cluster.answered(old)
        cluster.controller.queue.enqueue(("default", "invoices"), urgent=True)
        await until(lambda: not cluster.controller.queue)  # type: ignore[union-attr]

        assert cluster.resource()["metadata"]["resourceVersion"] == version
        assert _seconds(cluster) == {5}


async def test_invalid_spec_is_a_condition_and_heals() -> None:
    async with stage() as cluster:
        await cluster.apply(models=[])
        await until(lambda: cluster.holds("Stalled"))
        assert "models" in cluster.condition("Stalled")["message"]
        assert not cluster.objects(api.DEPLOYMENT)

        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.holds("Stalled", "False"))


async def test_pod_that_fits_nowhere_waits_with_the_reason_and_is_placed_when_there_is_room() -> None:
    async with stage(gpus={"gpu-a": {"GPU-a0": 45_500}}) as cluster:
        await cluster.apply(replicas=1)
        await until(lambda: cluster.holds("Placed", "False"))
        condition = cluster.condition("Placed")
        assert condition["reason"] == "InsufficientGpuMemory"
        event = await until(
            lambda: next((e for e in cluster.objects(api.EVENT).values() if e["type"] == "Warning"), None)
        )
        assert event["involvedObject"]["name"] == "invoices"

        cluster.gpus["gpu-a"]["GPU-a0"] = 100
        await until(lambda: cluster.holds("Placed") and cluster.holds("Ready"))


async def test_pod_that_its_kubelet_refuses_is_replaced_on_another_node() -> None:
    async with stage() as ours:
        ours.refuses = {"gpu-a"}
        await ours.apply(replicas=2)
        await until(lambda: ours.holds("Ready"), what="both replicas are ready")
        pods = [
            pod for pod in ours.objects(api.POD).values() if pod["metadata"]["name"].startswith("invoices")
        ]
        refused = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        assert 1 <= len(refused) <= 2
        assert ours.condition("Degraded")["status"] == "False"


async def test_pods_that_every_kubelet_refuses_are_few_and_told() -> None:
    async with stage() as ours:
        ours.refuses = {"gpu-a", "gpu-b"}
        await ours.apply(replicas=1)
        await until(lambda: ours.condition("Placed").get("reason") == "BackOff", what="the next one waits")
        assert len([each for each in ours.objects(api.POD) if each.startswith("invoices")]) == 3
        assert ours.condition("Degraded")["reason"] == "PodFailed"
        assert "UnexpectedAdmissionError: no devices" in ours.condition("Degraded")["message"]

        def counts() -> list[int]:
            events = ours.objects(api.EVENT).values()
            return [each["count"] for each in events if each["reason"] == "PodFailed"]

        await until(counts, what="an Event")
        assert counts() == [1]


async def test_gate_removed_by_hand_is_tolerated() -> None:
    """The command of docs/architecture.md, while nothing fits: the pod runs, and the operator takes it as it is."""
    text = (DOCS / "architecture.md").read_text()
    command = re.search(r"kubectl patch pod <pod> --type json -p '(.+)'", text)
    assert command is not None
    async with stage(gpus={"gpu-a": {"GPU-a0": 45_500}}) as cluster:
        await cluster.apply(replicas=1)
        await until(lambda: cluster.holds("Placed", "False"))
        gated = next(ref for ref in cluster.kube._objects if ref.name.startswith("invoices-0"))

        await cluster.kube.patch(gated, json.loads(command[1]))

        await until(lambda: cluster.holds("Ready") and cluster.applied())
        assert cluster.holds("Placed")
        assert {each.uid for each in cluster.pods.values()} == {
            cluster.kube._objects[gated]["metadata"]["uid"]
        }, "it is still the same pod"


async def test_pod_that_finds_no_device_is_left_to_the_scheduler_in_the_end() -> None:
    """A cluster autoscaler sees no gated pods."""
    async with stage(gpus={"gpu-a": {}}) as cluster:
        await cluster.apply(replicas=1, gpu={"sharing": "exclusive"})
        await until(lambda: cluster.holds("Placed", "False"))
        ref = next(ref for ref in cluster.kube._objects if ref.name.startswith("invoices-0"))

        old = {"op": "add", "path": "/metadata/creationTimestamp", "value": "2026-01-01T00:00:00Z"}
        await cluster.kube.patch(ref, [old])

        await until(lambda: cluster.holds("Ready"))
        annotations = cluster.kube._objects[ref]["metadata"]["annotations"]
        record = json.loads(annotations[names.ANNOTATION_PLACEMENT])
        assert (record["node"], record["basis"]) == ("", "scheduler")
        assert "left to the scheduler after 120 s" in record["why"]


class Slow:
    """The API server, of which the patch that binds a pod to a GPU isn't answered before the test says so."""

    def __init__(self, kube: FakeKube) -> None:
        self._kube, self.answers = kube, asyncio.Event()
        self.steps: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._kube, verb)

    async def watch(self, kind: api.Kind, **options: Any) -> AsyncIterator[api.WatchEvent]:
        """With the times that objects were made at, which the fake one leaves out."""
        async for event in self._kube.watch(kind, **options):
            match event:
                case api.Listed(items=items):
                    made = items
                case api.Changed(item=item):
                    made = [item]
                case _:
                    made = []
            for each in made:
                each["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            yield event

    async def patch(self, ref: api.Ref, operations: Any, **options: Any) -> api.Json:
        if names.ANNOTATION_PLACEMENT.replace("/", "~1") not in json.dumps(operations):
            return await self._kube.patch(ref, operations, **options)
        left = "left to the scheduler" in json.dumps(operations)
        self.steps.append("left" if left else "sent")
        if not left:
            await self.answers.wait()
        answer = await self._kube.patch(ref, operations, **options)
        if not left:
            self.steps.append("bound")
        return answer


async def test_pod_is_left_to_the_scheduler_after_the_promises_of_the_same_pass() -> None:
    """The scheduler knows of none: it gives the pod that it sees first the device that another was promised."""
    async with stage(operator=False, gpus={"gpu-a": {"GPU-a0": 0, "GPU-a1": 0}}) as cluster:
        node, kube = api.Ref(api.NODE, "", "gpu-a"), Slow(cluster.kube)
        await cluster.kube.patch(node, [{"op": "add", "path": "/spec", "value": {"unschedulable": True}}])
        await cluster.start(leave_to_scheduler_seconds=-1)
        await cluster.apply(replicas=3, gpu={"sharing": "exclusive"})
        await until(lambda: sum(name.startswith("invoices") for name in cluster.objects(api.POD)) == 3)
        await cluster.kill()
        await cluster.kube.patch(node, [{"op": "remove", "path": "/spec/unschedulable"}])
        await cluster.start(kube, leave_to_scheduler_seconds=0)
        await until(lambda: kube.steps.count("sent") == 2)
        kube.answers.set()
        await until(lambda: "left" in kube.steps)
        assert kube.steps == ["sent", "sent", "bound", "bound", "left"]


async def test_pod_on_another_gpu_is_named_in_the_condition_and_an_event() -> None:
    async with stage() as cluster:
        await cluster.apply(replicas=1)
        await until(lambda: cluster.holds("Ready") and cluster.holds("Degraded", "False"))
        [pod] = cluster.pods.values()
        promised = pod.device["uuid"]

        pod.device["uuid"] = "GPU-nobody-has"
        pod.tell()
        await until(lambda: cluster.holds("Degraded"))

        condition = cluster.condition("Degraded")
        assert condition["reason"] == "WrongGpu"
        assert condition["message"] == f"{pod.name}: got GPU-nobody-has instead of {promised}"
        await until(lambda: [e for e in cluster.objects(api.EVENT).values() if e["reason"] == "WrongGpu"])

        pod.device["uuid"] = promised
        pod.tell()
        await until(lambda: cluster.holds("Degraded", "False"))


async def test_pods_tell_the_load_where_no_exporter_does() -> None:
    """Their own reading of the GPU that they run on is better than none, and the next placement says whose it is."""
    async with stage(gpus={"gpu-a": {"GPU-a0": 0}}) as cluster:
        await cluster.apply(replicas=1)
        await until(lambda: cluster.holds("Ready"))
        [pod] = cluster.pods.values()
        exporter = cluster.objects(api.POD)["exporter-gpu-a"]
        await cluster.kube.delete(api.ref_of(exporter), uid=exporter["metadata"]["uid"])
        pod.device["gpu"] = {
            "memory_used_bytes": 7 * 2**30,
            "memory_total_bytes": 45 * 2**30,
            "utilization": 0.5,
        }
        pod.tell()
        assert cluster.controller is not None
        controller = cluster.controller

        def alone() -> bool:
            """Only the pod says anything."""
            heard = [controller.pods.heard(each) for each in controller.cluster.pods]
            return not controller.gpus._exporters.said() and any(each and each.device.gpu for each in heard)

        await until(alone)

        await cluster.apply("other", replicas=1)
        await until(lambda: cluster.holds("Placed", name="other"))
        placed = next(pod for name, pod in cluster.objects(api.POD).items() if name.startswith("other"))
        record = json.loads(placed["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
        assert (record["basis"], record["dataSource"]) == ("metrics", "pod")
        assert record["why"].endswith("as its own pods measured 0 s ago")


async def test_prometheus_tells_the_load_where_exporters_cannot_be_reached() -> None:
    async with stage(operator=False) as cluster:
        for name in ("exporter-gpu-a", "exporter-gpu-b"):
            exporter = cluster.objects(api.POD)[name]
            await cluster.kube.delete(api.ref_of(exporter), uid=exporter["metadata"]["uid"])
        cluster.gpus["gpu-a"] = {"GPU-a0": 40_000, "GPU-a1": 30_000}
        cluster.gpus["gpu-b"] = {"GPU-b0": 20_000, "GPU-b1": 10_000}

        async def query(request: web.Request) -> web.Response:
            asked, result = str((await request.post())["query"]), []
            for node, gpus in cluster.gpus.items():
                for uuid, used in gpus.items():
                    reported: dict[str, float] = {
                        "DCGM_FI_DEV_FB_USED": used,
                        "DCGM_FI_DEV_FB_FREE": 46068 - used,
                    }
                    if asked.startswith("timestamp("):
                        reported = {"": time.time()}
                    for metric, value in reported.items():
                        labels = {"__name__": metric, "UUID": uuid, "exported_Hostname": node}
                        result.append({"metric": labels, "value": [time.time(), str(value)]})
            return web.json_response({"status": "success", "data": {"result": result}})

        app = web.Application()
        app.add_routes([web.post("/api/v1/query", query)])
        async with webserver.serving(app, fakepod.address()) as url:
            await cluster.start(prometheus_url=url)
            await cluster.apply(replicas=1)
            await until(lambda: cluster.holds("Ready"))
        [pod] = [body for name, body in cluster.objects(api.POD).items() if name.startswith("invoices")]
        record = json.loads(pod["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
        assert [gpu["uuid"] for gpu in record["gpus"]] == ["GPU-b1"]
        assert (record["basis"], record["dataSource"]) == ("metrics", "prometheus")


async def test_fifty_pods_at_once_are_spread_by_the_books() -> None:
    gpus = {f"gpu-{n}": {f"GPU-{n}-{m}": 0 for m in range(5)} for n in range(5)}
    async with stage(gpus=gpus) as cluster:
        await cluster.apply(replicas=50)
        await until(lambda: cluster.holds("Ready"))

        placed: dict[str, int] = {}
        for pod in cluster.objects(api.POD).values():
            if uuid := pod["metadata"].get("annotations", {}).get(names.ANNOTATION_GPU_UUIDS):
                placed[uuid] = placed.get(uuid, 0) + 1
        assert sum(placed.values()) == 50
        assert max(placed.values()) - min(placed.values()) <= 1
        assert len(placed) == 25


async def test_deleted_child_is_made_again_and_a_strangers_is_left_alone() -> None:
    async with stage() as cluster:
        stranger = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "other-all", "namespace": "default"},
            "spec": {"ports": [{"port": 1}]},
        }
        await cluster.kube.create(stranger)
        await cluster.apply()
        await cluster.apply("other")
        await until(lambda: cluster.holds("Ready"))
        await until(lambda: cluster.holds("Degraded", name="other") or cluster.holds("Stalled", name="other"))
        assert cluster.objects(api.SERVICE)["other-all"]["spec"] == stranger["spec"]

        service = cluster.objects(api.SERVICE)["invoices"]
        await cluster.kube.delete(api.ref_of(service), uid=service["metadata"]["uid"])
        await until(lambda: "invoices" in cluster.objects(api.SERVICE))


async def test_api_server_that_fails_for_a_while_ends_in_the_same_place() -> None:
    async with stage() as cluster:
        failures = 0

        def fail(verb: str, ref: api.Ref) -> None:
            nonlocal failures
            if verb in ("apply", "apply_status") and failures < 4:
                failures += 1
                raise api.Unavailable(ref, 503, "etcd is away")

        cluster.kube.fail = fail
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        assert failures == 4


def _writes(cluster: Stage) -> dict[str, int]:
    """The operator's writes: `play` patches, creates and deletes as Kubernetes does."""
    return {verb: cluster.kube.calls[verb] for verb in ("apply", "apply_status")}


def _seconds(cluster: Stage) -> set[Any]:
    return {p.settings["values"]["idle"]["offloadAfterSeconds"] for p in cluster.pods.values()}


def _count(cluster: Stage, name: str, **labels: str) -> float:
    return cluster.registry.get_sample_value(name, labels) or 0.0
