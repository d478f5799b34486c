"""GPUs by Dynamic Resource Allocation: which one is chosen, the claim that says so, and claims that exist already."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from ocr_operator.controllers import claims
from ocr_operator.decide import manifests, placement
from ocr_operator.decide.placement import NoFit, NoFitReason, Placement, Reservation
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.kube import api
from ocr_operator.resources import observed
from ocr_operator.resources.observed import Node, Pod
from ocr_wire import names
from tests.support.fakekube import FakeKube
from tests.support.observations import raw_pod
from tests.support.resources import make_deployment

GIB = 2**30
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
MODELS = [{"name": name, "engine": "rapidocr", "gpuMemory": "12Gi"} for name in ("a", "b")]
RESOURCE = make_deployment(models=MODELS, gpu={"sharing": "claim"})
NODE = Node(name="gpu-a", ready=True)


def make_gpu(uuid: str, used: float = 0) -> GpuReading:
    return GpuReading(
        node="gpu-a",
        uuid=uuid,
        memory_used_bytes=int(used * GIB),
        memory_total_bytes=45 * GIB,
        utilization=0.0,
        read_at=NOW - timedelta(seconds=5),
    )


def make_pod(name: str = "new") -> Pod:
    return observed.pod(raw_pod(name, gated=True))


def choose(*gpus: GpuReading, reservations: tuple[Reservation, ...] = ()) -> Placement | NoFit:
    return placement.choose(placement.request(RESOURCE, make_pod()), [NODE], gpus, reservations, NOW)


class TestChoice:
    def test_the_least_loaded_gpu_that_nobody_has_is_claimed(self) -> None:
        theirs = choose(make_gpu("GPU-1"))
        assert isinstance(theirs, Placement)
        reservations = (replace(theirs, uid="uid-other", pod="default/other").reservation(NOW),)
        answer = choose(
            make_gpu("GPU-1"), make_gpu("GPU-2", 8), make_gpu("GPU-3", 4), reservations=reservations
        )
        assert isinstance(answer, Placement)
        assert [gpu.uuid for gpu in answer.gpus] == ["GPU-3"]
        assert (answer.sharing, answer.count, answer.memory_bytes) == ("claim", 1, 12 * GIB), (
            "the largest model"
        )

    def test_a_gpu_that_somebody_is_pinned_to_is_no_device_to_claim(self) -> None:
        pinned = Reservation(
            pod="default/p", uid="p", deployment="", node="gpu-a", uuids=("GPU-1",), memory_bytes=GIB
        )
        answer = choose(make_gpu("GPU-1"), reservations=(pinned,))
        assert answer == NoFit(
            reason=NoFitReason.INSUFFICIENT_GPUS,
            message="no GPU fits 12Gi: 0 of 1 are free and large enough (gpu-a/GPU-1: 1 pod on it, taken)",
            excluded=("GPU-1",),
        )

    def test_a_claimed_gpu_takes_no_pins(self) -> None:
        raw = raw_pod(annotations={names.ANNOTATION_GPU_UUIDS: "GPU-1", names.ANNOTATION_CLAIM: "{}"})
        [entry] = placement.reserved([observed.pod(raw)])
        assert (entry.uuids, entry.count, entry.resource) == (("GPU-1",), 1, "claim")
        shared = make_deployment(models=MODELS, gpu={"sharing": "shared"})
        request = placement.request(shared, make_pod())
        refused = placement.choose(request, [NODE], [make_gpu("GPU-1")], [entry], NOW)
        assert isinstance(refused, NoFit)

    def test_too_small_a_gpu_is_not_claimed(self) -> None:
        answer = choose(make_gpu("GPU-1", 40))
        assert isinstance(answer, NoFit)
        assert answer.reason is NoFitReason.INSUFFICIENT_MEMORY


class TestLeftToTheScheduler:
    """After two minutes without a free GPU; it hands out any device that no claim has."""

    def waits(self, *gpus: GpuReading, reservations: tuple[Reservation, ...] = ()) -> Placement | None:
        refusal = choose(*gpus, reservations=reservations)
        assert isinstance(refusal, NoFit)
        refusal = replace(refusal, reason=NoFitReason.INSUFFICIENT_GPUS)
        pod = replace(make_pod(), created=NOW - timedelta(hours=1))
        return placement.give_up(placement.request(RESOURCE, pod), pod, refusal, NOW, after_seconds=120)

    def test_gpus_that_can_not_work_are_no_devices_to_claim(self) -> None:
        """GPU-1 is too full, GPU-2 is somebody's by a pin; that GPU-3 is claimed the scheduler sees for itself."""
        mine = Reservation(
            pod="default/p", uid="p", deployment="", node="gpu-a", uuids=("GPU-2",), memory_bytes=1
        )
        theirs = replace(mine, pod="default/q", uid="q", uuids=("GPU-3",), resource="claim", count=1)
        gpus = [make_gpu("GPU-1", 40), make_gpu("GPU-2"), make_gpu("GPU-3")]
        placed = self.waits(*gpus, reservations=(mine, theirs))
        assert placed is not None
        assert (placed.node, placed.barred, placed.excluded) == ("", ("GPU-1", "GPU-2"), ())
        [request] = manifests.claim(RESOURCE, make_pod(), placed.uuids, placed.barred)["spec"]["devices"][
            "requests"
        ]
        [selector] = request["exactly"]["selectors"]
        attribute = "device.attributes['gpu.nvidia.com'].uuid"
        wanted = f"!(device.driver == 'gpu.nvidia.com' && {attribute} in ['GPU-1', 'GPU-2'])"
        assert selector["cel"]["expression"] == wanted
        assert placement.record(patched(placed)).excluded == 2, "it is placed anew after a while"

    def test_with_too_many_to_name_the_pod_waits_on(self) -> None:
        assert self.waits(*(make_gpu(f"GPU-{n}", 40) for n in range(65))) is None


def patched(placed: Placement) -> Pod:
    raw = raw_pod("new", annotations={names.ANNOTATION_PLACEMENT: placed.to_json(NOW)})
    return observed.pod(raw)


class TestManifest:
    def test_it_is_what_the_controller_would_have_made_plus_the_gpu(self) -> None:
        wanted = manifests.claim(RESOURCE, make_pod(), ["GPU-3"])
        meta = wanted["metadata"]
        assert (meta["name"], meta["namespace"]) == ("new-gpu", "default")
        assert meta["annotations"] == {"resource.kubernetes.io/pod-claim-name": "gpu"}
        assert meta["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "Pod", "name": "new", "uid": "uid-new", "controller": True}
        ]
        assert wanted["spec"]["devices"]["requests"] == [
            {
                "name": "gpu",
                "exactly": {
                    "deviceClassName": "gpu.nvidia.com",
                    "selectors": [
                        {
                            "cel": {
                                "expression": "device.driver == 'gpu.nvidia.com' && "
                                "device.attributes['gpu.nvidia.com'].uuid in ['GPU-3']"
                            }
                        }
                    ],
                },
            }
        ]

    def test_own_selectors_stay_and_no_gpu_means_any(self) -> None:
        mine = make_deployment(gpu={"sharing": "claim", "claim": {"selectors": ["device.driver != ''"]}})
        [request] = manifests.claim(mine, make_pod(), [])["spec"]["devices"]["requests"]
        assert request["exactly"]["selectors"] == [{"cel": {"expression": "device.driver != ''"}}]
        [request] = manifests.claim(RESOURCE, make_pod(), [])["spec"]["devices"]["requests"]
        assert "selectors" not in request["exactly"]

    def test_a_change_of_what_is_claimed_replaces_the_pods(self) -> None:
        def template(**claim: Any) -> Any:
            resource = make_deployment(gpu={"sharing": "claim", "claim": claim})
            return manifests.desired(resource, manifests.Defaults("i"), "t")[-1]["spec"]["template"]

        assert template() == template(deviceClassName="gpu.nvidia.com")
        assert len({str(template(**each)) for each in ({}, {"driver": "x"}, {"selectors": ["true"]})}) == 3


LISTED = ["GPU-3", "GPU-1"]
ALTERNATIVE = (
    '{"node": "gpu-a", "gpus": [{"uuid": "GPU-3"}], "alternatives": [{"node": "gpu-b", "uuid": "GPU-1"}]}'
)


def bound(node: str, uuids: str = "GPU-3,GPU-1") -> Pod:
    annotations = {
        names.ANNOTATION_PLACEMENT: ALTERNATIVE,
        names.ANNOTATION_GPU_UUIDS: uuids,
        names.ANNOTATION_CLAIM: "{}",
    }
    return observed.pod(raw_pod("new", node=node, annotations=annotations))


class TestAlternatives:
    def test_a_claim_lists_them_in_their_order(self) -> None:
        own = make_deployment(gpu={"sharing": "claim", "claim": {"selectors": ["device.driver != ''"]}})
        [request] = manifests.claim(own, make_pod(), LISTED)["spec"]["devices"]["requests"]
        assert "exactly" not in request
        assert [each["name"] for each in request["firstAvailable"]] == ["gpu-0", "gpu-1"]
        for uuid, each in zip(LISTED, request["firstAvailable"], strict=True):
            first, second = each["selectors"]
            assert first["cel"]["expression"].endswith(f".uuid in ['{uuid}']")
            assert second == {"cel": {"expression": "device.driver != ''"}}

    @pytest.mark.parametrize(
        ("node", "uuids", "counted"),
        [
            ("", "GPU-3,GPU-1", ("gpu-a", ("GPU-3",))),
            ("gpu-a", "GPU-3,GPU-1", ("gpu-a", ("GPU-3",))),
            ("gpu-b", "GPU-3,GPU-1", ("gpu-b", ())),
            ("gpu-b", "GPU-1", ("gpu-b", ("GPU-1",))),
        ],
        ids=["on-its-way", "there", "elsewhere", "confirmed"],
    )
    def test_one_of_them_is_reserved(
        self, node: str, uuids: str, counted: tuple[str, tuple[str, ...]]
    ) -> None:
        [entry] = placement.reserved([bound(node, uuids)])
        assert (entry.node, entry.uuids) == counted
        assert (entry.resource, entry.count) == ("claim", 1)

    async def test_the_claim_says_which_one_the_pod_got(self) -> None:
        kube, pod = FakeKube(), bound("gpu-b")
        assert claims.unconfirmed(pod)
        assert not claims.unconfirmed(bound("gpu-b", "GPU-1"))
        assert not claims.unconfirmed(bound(""))
        assert await claims.allocated(kube, pod) == "", "there is no claim"
        manifest = manifests.claim(RESOURCE, pod, LISTED)
        made = await kube.create(manifest)
        assert await claims.allocated(kube, pod) == ""
        results = [{"request": "gpu/gpu-1", "device": "gpu-7"}]
        for user, got in (("somebody", ""), (pod.uid, "GPU-1")):
            await kube.delete(api.ref_of(made), uid=(await kube.get(api.ref_of(made)))["metadata"]["uid"])
            status = {"allocation": {"devices": {"results": results}}, "reservedFor": [{"uid": user}]}
            await kube.create({**manifest, "status": status})
            assert await claims.allocated(kube, pod) == got

    @pytest.mark.parametrize(("status", "named"), [(200, LISTED), (422, LISTED[:1]), (403, [])])
    async def test_where_no_list_is_taken_the_first_is_claimed(self, status: int, named: list[str]) -> None:
        """`firstAvailable` can be switched off; a quota is another matter."""
        kube, pod = FakeKube(), make_pod()

        def fail(verb: str, ref: api.Ref) -> None:
            if verb == "create" and status != 200 and kube.calls["create"] == 1:
                raise api.Refused(ref, status, "no")

        kube.fail = fail
        manifest = partial(manifests.claim, RESOURCE, pod)
        if not named:
            with pytest.raises(api.Refused):
                await claims.make(kube, manifest, LISTED)
            return
        assert await claims.make(kube, manifest, LISTED) == named
        there = await kube.get(api.ref_of(manifest(named)))
        assert there["spec"] == manifest(named)["spec"]


class TestEnsure:
    async def test_a_claim_that_is_there_already_is_taken_or_made_anew(self) -> None:
        kube = FakeKube()
        first, second = (manifests.claim(RESOURCE, make_pod(), [uuid]) for uuid in ("GPU-1", "GPU-2"))
        await claims.ensure(kube, first)
        await claims.ensure(kube, first)
        assert kube.calls["delete"] == 0
        await claims.ensure(kube, second)
        there = await kube.get(api.ref_of(first))
        assert there["spec"] == second["spec"]

    async def test_one_of_another_pod_or_already_allocated_is_left_alone(self) -> None:
        kube = FakeKube()
        await claims.ensure(kube, manifests.claim(RESOURCE, replace(make_pod(), uid="uid-before"), ["GPU-1"]))
        with pytest.raises(api.Refused, match="belongs to Pod new"):
            await claims.ensure(kube, manifests.claim(RESOURCE, make_pod(), ["GPU-1"]))

        ours = manifests.claim(RESOURCE, make_pod("b"), ["GPU-1"])
        await kube.create({**ours, "status": {"allocation": {"devices": {}}}})
        with pytest.raises(api.Refused, match="allocated already"):
            await claims.ensure(kube, manifests.claim(RESOURCE, make_pod("b"), ["GPU-2"]))
