"""PodDisruptionBudgets where the operator may not read them everywhere."""

import asyncio
from typing import Any

import msgspec

from ocr_operator.controllers.budgets import Budgets
from ocr_operator.kube import api
from ocr_wire import names
from tests.support import resources
from tests.support.fakekube import FakeKube
from tests.support.stage import until


class Narrow(FakeKube):
    """An API server that refuses one namespace."""

    async def watch(self, kind: api.Kind, *, namespace: str = "", selector: str = "") -> Any:
        if namespace == "closed":
            yield api.Lost(api.Refused(api.Ref(kind, namespace, ""), 403, "the role doesn't grant list"))
            await asyncio.Event().wait()
        async for event in super().watch(kind, namespace=namespace, selector=selector):
            yield event


def made_by(kube: FakeKube, *namespaces: str) -> Budgets:
    return Budgets(
        kube,
        time=lambda: 0.0,
        on_loss=lambda _: None,
        namespaces=namespaces,
        enqueue=lambda _: None,
        enqueue_namespace=lambda _: None,
    )


def budget(name: str, selector: dict[str, Any], *, of: str = "", uid: str = "") -> dict[str, Any]:
    """A budget, of the resource `of` or of a person."""
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": of, "uid": uid, "controller": True}
    meta = {"labels": {names.LABEL_DEPLOYMENT: of}, "ownerReferences": [owner]} if of else {}
    return {
        "apiVersion": api.BUDGET.api_version,
        "kind": api.BUDGET.name,
        "metadata": {"name": name, "namespace": "default", **meta},
        "spec": {"maxUnavailable": 1, "selector": selector},
    }


async def test_namespace_whose_role_is_of_an_earlier_version_costs_no_other_its_budgets() -> None:
    budgets = made_by(Narrow(), "closed", "default")
    here = resources.make_deployment(replicas=2)
    there = msgspec.structs.replace(here, namespace="closed")
    assert here.namespace == "default"
    task = asyncio.create_task(budgets.informer.run())
    await until(lambda: budgets.wanted(here))
    assert budgets.informer.synced.is_set()
    assert not budgets.wanted(there)
    task.cancel()
    await asyncio.wait([task])


async def test_budgets_of_other_resources_are_not_looked_at() -> None:
    """There may be a thousand in a namespace, and each pass asks. What somebody edited in one is set back there."""
    kube = FakeKube()
    ours, labels = resources.make_deployment(replicas=2), {names.LABEL_DEPLOYMENT: "invoices"}
    await kube.create(budget("invoices-ocr", {"matchLabels": labels}, of="invoices", uid=ours.uid))
    await kube.create(budget("scans-ocr", {}, of="scans", uid="another"))
    budgets = made_by(kube, "")
    task = asyncio.create_task(budgets.informer.run())
    await until(budgets.informer.synced.is_set)
    assert [each["metadata"]["name"] for each in budgets.of(("default", "invoices"))] == ["invoices-ocr"]
    assert budgets.wanted(ours)

    left = await kube.create(budget("left", {"matchLabels": labels}, of="invoices", uid="deleted"))
    await until(lambda: not budgets.wanted(ours), what="of a resource that had the name before")
    await kube.delete(api.ref_of(left), uid=left["metadata"]["uid"])
    await until(lambda: budgets.wanted(ours))
    await kube.create(budget("theirs", {}))
    await until(lambda: not budgets.wanted(ours))
    task.cancel()
    await asyncio.wait([task])
