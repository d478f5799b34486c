"""The awake set at work: labels, Service and status against an API server in memory and pods over real HTTP."""

import asyncio
from typing import Any

from ocr_operator.kube import api
from ocr_wire import names
from tests.support.fakepod import FakePod
from tests.support.stage import Stage, stage, until

MODELS = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "1Gi"}]


def labels(cluster: Stage) -> dict[str, str | None]:
    """Pod name → value of its awake label."""
    return {
        name: pod["metadata"]["labels"].get(names.LABEL_AWAKE)
        for name, pod in cluster.objects(api.POD).items()
        if name.startswith("invoices")
    }


def awake(cluster: Stage) -> set[str]:
    return {name for name, value in labels(cluster).items() if value == "true"}


def selected(cluster: Stage) -> set[str]:
    """What the Service selects, as Kubernetes reads it."""
    selector = cluster.objects(api.SERVICE)["invoices"]["spec"]["selector"]
    return {
        name
        for name, pod in cluster.objects(api.POD).items()
        if selector.items() <= (pod["metadata"].get("labels") or {}).items()
    }


def costs(cluster: Stage) -> dict[str, str]:
    """Pod name → what its end costs, of those that say so."""
    annotations = {
        name: pod["metadata"].get("annotations") or {} for name, pod in cluster.objects(api.POD).items()
    }
    key = names.ANNOTATION_DELETION_COST
    return {name: found[key] for name, found in annotations.items() if key in found}


async def four(cluster: Stage, **routing: Any) -> FakePod:
    """Four ready replicas; an awake one, the only one unless `minAwake` says otherwise."""
    await cluster.apply(replicas=4, routing={"stabilizationSeconds": 0} | routing)
    await until(lambda: cluster.holds("Ready") and cluster.applied())
    count = routing.get("minAwake", 1)
    await until(lambda: len(cluster.pods) == 4 and len(awake(cluster)) == count)
    await until(lambda: cluster.status()["awakeReplicas"] == count)
    return cluster.pods[next(iter(awake(cluster)))]


def queue_up(pod: FakePod, waiting: int) -> None:
    pod.waiting = waiting
    pod.tell()


async def test_one_of_four_is_awake_and_the_status_says_which() -> None:
    async with stage() as cluster:
        pod = await four(cluster)

        assert selected(cluster) == {pod.name}
        assert set(labels(cluster).values()) == {"true", "false"}
        assert {each["name"]: each["awake"] for each in cluster.status()["pods"]} == {
            name: name == pod.name for name in cluster.pods
        }


async def test_a_growing_queue_wakes_pods_and_an_event_says_why() -> None:
    async with stage() as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)

        queue_up(pod, 12)
        await until(lambda: len(awake(cluster)) == 3)
        await until(lambda: cluster.status()["awakeReplicas"] == 3)

        await until(
            lambda: all(cluster.pods[name].loads == ["pp-ocr"] for name in awake(cluster) - {pod.name})
        )
        assert [pod.loads for pod in cluster.pods.values()].count([]) == 2, "nobody else is woken"
        why = "12 requests wait for 1 awake pod, more than 4 each"
        await until(lambda: any(why in each["message"] for each in cluster.objects(api.EVENT).values()))
        assert cluster.registry.get_sample_value("ocr_operator_awake_pods") == 3


async def test_a_pod_in_which_pages_wait_is_told_of_those_that_join() -> None:
    async with stage() as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)

        queue_up(pod, 12)
        await until(lambda: len(awake(cluster)) == 3)
        others = [each for name, each in cluster.pods.items() if name in awake(cluster) - {pod.name}]
        await until(lambda: len(pod.helpers) == 2)
        addresses = {cluster.objects(api.POD)[each.name]["status"]["podIP"] for each in others}
        assert {each["ip"] for each in pod.helpers} == addresses
        assert {each["model"] for each in pod.helpers} == {"pp-ocr"}
        assert not any(each.helpers for each in others), "nothing waits there"


async def test_a_label_that_was_not_written_costs_no_pod_its_wake_nor_the_crowded_one_a_helper() -> None:
    async with stage() as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)
        refused: list[str] = []

        def fail(verb: str, ref: api.Ref) -> None:
            if verb == "patch" and ref.kind == api.POD and not refused:
                refused.append(ref.name)
                raise api.Conflict(ref, 409, "the object has been modified")

        cluster.kube.fail = fail
        queue_up(pod, 12)
        await until(lambda: len(awake(cluster)) == 3)

        others = [each for name, each in cluster.pods.items() if name in awake(cluster) - {pod.name}]
        assert refused[0] in {each.name for each in others}
        await until(lambda: all(each.loads == ["pp-ocr"] for each in others))
        await until(lambda: len(pod.helpers) == 2)


async def test_the_set_shrinks_to_one_when_the_queue_is_gone() -> None:
    async with stage() as cluster:
        pod = await four(cluster)
        queue_up(pod, 12)
        await until(lambda: len(awake(cluster)) == 3)

        queue_up(pod, 0)
        await until(lambda: len(awake(cluster)) == 1)


async def test_a_pod_that_cannot_be_reached_is_replaced() -> None:
    async with stage(idle_timeout=0.5) as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)

        pod.silent = True
        await until(lambda: awake(cluster) and pod.name not in awake(cluster))

        assert len(awake(cluster)) == 1


async def test_a_deleted_pod_is_replaced() -> None:
    async with stage() as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)

        body = cluster.objects(api.POD)[pod.name]
        await cluster.kube.delete(api.ref_of(body), uid=body["metadata"]["uid"])
        await until(lambda: len(awake(cluster) & set(cluster.pods)) == 1 and pod.name not in awake(cluster))


async def test_labels_edited_by_hand_are_mended() -> None:
    async with stage() as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)
        path = f"/metadata/labels/{names.LABEL_AWAKE.replace('/', '~1')}"

        for name in cluster.pods:
            ref = api.Ref(api.POD, "default", name)
            operation = {"op": "remove", "path": path}
            if name != pod.name:
                operation = {"op": "add", "path": path, "value": "true"}
            await cluster.kube.patch(ref, [operation])
        await until(lambda: awake(cluster) == {pod.name})


async def test_without_the_operator_the_set_stays_and_a_fresh_one_goes_on_with_it() -> None:
    async with stage() as cluster:
        await four(cluster, stabilizationSeconds=3600)
        queue_up(cluster.pods[next(iter(awake(cluster)))], 5)
        await until(lambda: len(awake(cluster)) == 2)
        before = awake(cluster)

        await cluster.kill()
        assert selected(cluster) == before
        await cluster.start()
        await until(lambda: cluster.controller is not None and cluster.controller.ready())
        await until(lambda: cluster.registry.get_sample_value("ocr_operator_awake_pods") == 2)

        assert awake(cluster) == before


async def test_a_pod_whose_gate_is_lifted_by_hand_is_in_the_service_without_the_operator() -> None:
    """Nobody is there who could label it: the one case in which the template's label counts."""
    async with stage() as cluster:
        pod = await four(cluster)
        await cluster.kill()
        body = cluster.objects(api.POD)[pod.name]
        await cluster.kube.delete(api.ref_of(body), uid=body["metadata"]["uid"])

        new = await until(lambda: set(labels(cluster)) - set(cluster.pods))
        ref = api.Ref(api.POD, "default", next(iter(new)))
        await cluster.kube.patch(ref, [{"op": "remove", "path": "/spec/schedulingGates/0"}])

        assert selected(cluster) == new


async def test_the_policy_changes_live_and_the_service_never_selects_nobody() -> None:
    async with stage() as cluster:
        await four(cluster)
        uids = {pod.uid for pod in cluster.pods.values()}
        sizes: list[int] = []

        async def watch() -> None:
            async for _ in cluster.kube.watch(api.POD, selector=names.LABEL_DEPLOYMENT):
                sizes.append(len(selected(cluster)))  # noqa: PERF401  it never ends

        watching = asyncio.create_task(watch())
        await cluster.apply(replicas=4, routing={"policy": "all"})
        await until(lambda: len(awake(cluster)) == 4)
        service = cluster.objects(api.SERVICE)["invoices"]
        await cluster.apply(replicas=4, routing={"policy": "warmFirst", "stabilizationSeconds": 0})
        await until(lambda: len(awake(cluster)) == 1)
        watching.cancel()

        assert min(sizes) >= 1
        assert {pod.uid for pod in cluster.pods.values()} == uids
        assert cluster.objects(api.SERVICE)["invoices"] == service


async def test_nobody_leaves_before_those_in_its_place_are_labelled() -> None:
    async with stage(idle_timeout=0.5) as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)

        def fail(verb: str, ref: api.Ref) -> None:
            if verb == "patch" and ref.kind == api.POD and ref.name != pod.name:
                raise api.Unavailable(ref, 503, "etcd is away")

        cluster.kube.fail = fail
        pod.silent = True
        await until(lambda: cluster.locations().get("unknown"))
        assert awake(cluster) == {pod.name}

        cluster.kube.fail = lambda verb, ref: None
        await until(lambda: awake(cluster) and pod.name not in awake(cluster))


async def test_a_storm_of_states_makes_few_passes_and_fewer_writes() -> None:
    async with stage() as cluster:
        pod = await four(cluster, stabilizationSeconds=3600)
        loop = asyncio.get_running_loop()
        patched: list[api.Ref] = []
        cluster.kube.fail = lambda verb, ref: (
            patched.append(ref) if verb == "patch" and ref.kind == api.POD else None
        )
        passes = cluster.registry.get_sample_value("ocr_operator_reconciles_total", {"result": "done"}) or 0
        began, reported = loop.time(), 0

        while reported <= 200 or loop.time() - began < 3:
            queue_up(pod, reported % 4)
            reported += 1
            await asyncio.sleep(0.002)
        seconds = loop.time() - began
        after = cluster.registry.get_sample_value("ocr_operator_reconciles_total", {"result": "done"}) or 0

        assert after - passes <= 8 * seconds
        assert not patched


async def test_fewer_replicas_leave_those_whose_models_are_warmest() -> None:
    async with stage() as cluster:
        await cluster.apply(replicas=4, routing={"policy": "all"})
        await until(lambda: cluster.holds("Ready") and cluster.applied() and len(cluster.pods) == 4)
        second, third = sorted(cluster.pods)[1:3]
        cluster.pods[second].change(pp_ocr=("ready", "gpu"))
        cluster.pods[third].change(pp_ocr=("offloaded", "cpu"))
        await until(lambda: cluster.locations() == {"gpu": 1, "cpu": 1, "unloaded": 2})
        assert costs(cluster) == {}, "a change of a state is no write of a pod"

        await cluster.apply(replicas=2, routing={"policy": "all"})
        await until(lambda: len(cluster.pods) == 2)
        assert set(cluster.pods) == {second, third}
        await until(lambda: cluster.holds("Ready"))
        assert costs(cluster) == {second: "250", third: "150"}


async def test_service_answers_when_the_operator_is_down_and_an_awake_pod_goes() -> None:
    async with stage() as cluster:
        await four(cluster, minAwake=2)
        await cluster.kill()

        gone, left = sorted(awake(cluster))
        pod = cluster.objects(api.POD)[gone]
        await cluster.kube.delete(api.ref_of(pod), uid=pod["metadata"]["uid"])
        await until(lambda: gone not in cluster.pods and len(cluster.objects(api.POD)) >= 4)
        ready = {name for name in selected(cluster) if name in cluster.pods}
        assert ready == {left}, "no sleeper, and no new pod at its gate, is needed"

        await cluster.start()
        await until(lambda: cluster.holds("Ready") and len(awake(cluster)) == 2)
