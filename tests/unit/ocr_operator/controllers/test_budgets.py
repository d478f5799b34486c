"""PodDisruptionBudgets where the operator may not read them everywhere."""

import asyncio
from typing import Any

import msgspec

from ocr_operator.controllers.budgets import Budgets
from ocr_operator.kube import api
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


async def test_namespace_whose_role_is_of_an_earlier_version_costs_no_other_its_budgets() -> None:
    budgets = Budgets(
        Narrow(),
        time=lambda: 0.0,
        on_loss=lambda _: None,
        namespaces=("closed", "default"),
        enqueue=lambda _: None,
        enqueue_namespace=lambda _: None,
    )
    here = resources.make_deployment(replicas=2)
    there = msgspec.structs.replace(here, namespace="closed")
    assert here.namespace == "default"
    task = asyncio.create_task(budgets.informer.run())
    await until(lambda: budgets.wanted(here))
    assert budgets.informer.synced.is_set()
    assert not budgets.wanted(there)
    task.cancel()
    await asyncio.wait([task])
