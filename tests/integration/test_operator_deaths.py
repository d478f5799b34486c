"""The operator dies after each of its writes, or each second one, through the life of resources, and brings them on."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from ocr_operator.kube import api
from tests.support.mortal import Mortal
from tests.support.stage import PORT, Stage, stage, until

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
"""A death is a cancellation here, and one in the middle of `connect` leaves a socket to the garbage collector."""

MODELS = [{"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": "30Gi"}]


class Lives:
    """One operator after the other; each begins when the one before has died."""

    def __init__(self, cluster: Stage, writes: int) -> None:
        self._cluster, self._writes = cluster, writes
        self.ended: list[str] = []
        """What each did last."""

    async def run(self) -> None:
        while True:
            kube = Mortal(self._cluster.kube, self._writes)
            await self._cluster.start(kube)
            await kube.dead.wait()
            await self._cluster.kill()
            self.ended.append(kube.last)


@contextlib.asynccontextmanager
async def dying(writes: int, lives: int | None = None, **settings: Any) -> AsyncIterator[tuple[Stage, Lives]]:
    """Operators that die after so many writes each; the one after so many `lives` lives on."""
    async with stage(operator=False) as cluster:
        operator = Lives(cluster, writes)
        revisions: list[int] = []
        tasks = [asyncio.create_task(operator.run()), asyncio.create_task(_note(cluster, revisions))]
        try:
            yield cluster, operator
            assert revisions == sorted(revisions), "the revision never goes back"
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)
            gc.collect()  # sockets of the dead, in the test that they belong to


async def _note(cluster: Stage, revisions: list[int]) -> None:
    async for event in cluster.kube.watch(api.OCR_DEPLOYMENT):
        if isinstance(event, api.Changed) and event.item["metadata"]["name"] == "invoices":
            live = (event.item.get("status") or {}).get("liveSettings") or {}
            revisions.append(live.get("revision", 0))


def children(cluster: Stage, name: str = "invoices") -> dict[str, list[str]]:
    """UIDs, by kind."""
    found: dict[str, list[str]] = {}
    for ref, body in cluster.kube._objects.items():
        if ref.name.startswith(name) and ref.kind not in (api.EVENT, api.OCR_DEPLOYMENT):
            found.setdefault(ref.kind.name, []).append(body["metadata"]["uid"])
    return {kind: sorted(uids) for kind, uids in found.items()}


def images(cluster: Stage) -> set[str]:
    pods = [each for name, each in cluster.objects(api.POD).items() if name in cluster.pods]
    return {each["spec"]["containers"][0]["image"] for each in pods}


def seconds(cluster: Stage) -> list[Any]:
    return [each.settings["values"]["idle"]["offloadAfterSeconds"] for each in cluster.pods.values()]


@pytest.mark.parametrize(("writes", "sharing"), [(1, "shared"), (2, "shared"), (1, "exclusive")])
async def test_operator_that_dies_after_its_writes_brings_a_resource_through_its_life(
    writes: int, sharing: str
) -> None:
    gpu = {"sharing": sharing}
    async with dying(writes) as (cluster, lives):

        async def settled(replicas: int) -> dict[str, list[str]]:
            await until(
                lambda: (
                    cluster.holds("Ready") and cluster.applied() and len(cluster.status()["pods"]) == replicas
                ),
            )
            found = children(cluster)
            count = {kind: len(uids) for kind, uids in found.items()}
            kinds = {"Deployment": 1, "PodDisruptionBudget": 1, "Secret": 1, "Service": 2, "Pod": replicas}
            assert count == kinds
            return found

        await cluster.apply(gpu=gpu)
        created = await settled(2)
        assert lives.ended, "it has died"

        await cluster.apply(gpu=gpu, idle={"offloadAfterSeconds": 7})
        await until(lambda: seconds(cluster) == [7, 7])
        assert await settled(2) == created, "nothing was made again"

        await cluster.apply(gpu=gpu, idle={"offloadAfterSeconds": 7}, replicas=3)
        scaled = await settled(3)
        assert {*created["Pod"]} < {*scaled["Pod"]}

        server = {"port": PORT, "image": "registry/other:2"}
        await cluster.apply(gpu=gpu, idle={"offloadAfterSeconds": 7}, replicas=3, server=server)
        await until(lambda: images(cluster) == {"registry/other:2"} and len(cluster.pods) == 3)
        rolled = await settled(3)
        assert not {*scaled["Pod"]} & {*rolled["Pod"]}
        assert {**rolled, "Pod": []} == {**created, "Pod": []}
        assert seconds(cluster) == [7, 7, 7]

        await cluster.delete()
        await until(lambda: not children(cluster), what="all is gone")
        assert len(lives.ended) > 25 // writes


async def test_operator_that_dies_once_after_any_write_gives_a_promise_to_the_higher_priority() -> None:
    """Its successor may give the memory back, to the pod that follows the victim, and takes it once more then."""
    writes = 0
    while True:
        writes += 1
        async with stage(operator=False, gpus={"gpu-a": {"GPU-a0": 0}}) as cluster:
            cluster.binds = False
            kube = Mortal(cluster.kube, -1)
            await cluster.start(kube)
            await cluster.apply("letters", replicas=1, models=MODELS)
            await until(lambda: _reason(cluster, "letters") == "Placed")
            kube.left = writes
            await cluster.apply(replicas=1, models=MODELS, template={"spec": {"priorityClassName": "high"}})
            await until(partial(_either, kube, cluster))
            if died := kube.dead.is_set():
                await cluster.kill()
                await cluster.start()
            await until(lambda: _taken(cluster))
            assert len(children(cluster)["Pod"]) == len(children(cluster, "letters")["Pod"]) == 1
        if not died:
            break
    assert writes > 8


def _either(kube: Mortal, cluster: Stage) -> bool:
    return kube.dead.is_set() or _taken(cluster)


def _taken(cluster: Stage) -> bool:
    """The higher priority has the memory, and the other waits."""
    waits = _reason(cluster, "letters") == "InsufficientGpuMemory"
    return waits and _reason(cluster, "invoices") == "Placed"


def _reason(cluster: Stage, name: str) -> str:
    return str(cluster.condition("Placed", name).get("reason"))
