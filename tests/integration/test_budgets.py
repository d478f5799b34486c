"""PodDisruptionBudgets come and go with replicas and with other people's."""

import asyncio
from typing import Any

from ocr_operator.kube import api
from tests.support.fakekube import FakeKube
from tests.support.stage import Stage, played, stage, until

THEIRS: dict[str, Any] = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "theirs", "namespace": "default"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"ocr-operator.io/deployment": "invoices"}}},
}


async def test_budget_follows_the_replicas_and_makes_way_for_another_one() -> None:
    async with stage() as cluster:

        def there() -> list[str]:
            return sorted(cluster.objects(api.BUDGET))

        await cluster.apply(replicas=2, gpu={"sharing": "none"})
        await until(lambda: there() == ["invoices-ocr"])
        made = await cluster.kube.create(THEIRS)
        await until(lambda: there() == ["theirs"])
        await cluster.kube.delete(api.ref_of(made), uid=made["metadata"]["uid"])
        await until(lambda: there() == ["invoices-ocr"])
        await cluster.apply(replicas=1, gpu={"sharing": "none"})
        await until(lambda: there() == [])


class WithoutBudgets(FakeKube):
    """An API server whose role, of an earlier version, knows none of them until it is `mended`."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = asyncio.Event()

    async def _call(self, verb: str, ref: api.Ref) -> None:
        assert self.mended.is_set() or (verb, ref.kind) not in {("apply", api.BUDGET), ("create", api.BUDGET)}
        await super()._call(verb, ref)

    async def watch(self, kind: api.Kind, *, namespace: str = "", selector: str = "") -> Any:
        if kind == api.BUDGET:
            yield api.Lost(api.Refused(api.Ref(kind, namespace, ""), 403, "the role doesn't grant list"))
            await self.mended.wait()
        async for event in super().watch(kind, namespace=namespace, selector=selector):
            yield event


async def test_role_of_an_earlier_version_costs_the_budget_alone_until_it_is_mended() -> None:
    kube = WithoutBudgets()
    settings = {"resync_seconds": 3600.0}
    async with played(Stage(kube, {"gpu-a": {}}), operator=True, settings=settings) as cluster:
        await cluster.apply(replicas=2, gpu={"sharing": "none"})
        await until(lambda: cluster.holds("Ready"))
        assert not cluster.objects(api.BUDGET)
        kube.mended.set()
        await until(lambda: sorted(cluster.objects(api.BUDGET)) == ["invoices-ocr"])
