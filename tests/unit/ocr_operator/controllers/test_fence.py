import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import pytest

from ocr_operator.controllers.fence import Fence, NotOurs
from ocr_operator.kube import api
from tests.support.fakekube import FakeKube

REF = api.Ref(api.SERVICE, "default", "invoices")
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "invoices", "namespace": "default"}}

WRITES: dict[str, Callable[[api.Kube], Awaitable[object]]] = {
    "apply": lambda kube: kube.apply(SERVICE),
    "apply_status": lambda kube: kube.apply_status(REF, {}, resource_version="1"),
    "patch": lambda kube: kube.patch(REF, [{"op": "add", "path": "/spec", "value": {}}]),
    "create": lambda kube: kube.create(SERVICE | {"metadata": {"name": "other", "namespace": "default"}}),
    "delete": lambda kube: kube.delete(REF, uid="1"),
}


@pytest.mark.parametrize("verb", WRITES)
async def test_no_write_begins_in_a_namespace_that_is_not_ours(verb: str) -> None:
    kube = FakeKube()
    with pytest.raises(NotOurs, match="Lease of its namespace isn't this operator's"):
        await WRITES[verb](Fence(kube, lambda namespace: 0.0))
    assert not kube.calls


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize("left", [None, 3600.0])
async def test_writes_and_reads_pass_in_one_that_is(verb: str, left: float | None) -> None:
    kube = FakeKube()
    fence = Fence(kube, lambda namespace: left)
    made = await kube.create(SERVICE)
    assert (await fence.get(REF)) == made
    assert len(await fence.find(api.SERVICE)) == 1
    with contextlib.suppress(api.Conflict, api.NotFound):
        await WRITES[verb](fence)
    assert kube.calls[verb]


class Slow(FakeKube):
    """An API server whose answers to patches don't come."""

    async def patch(self, ref: api.Ref, operations: Sequence[api.Json], *, subresource: str = "") -> api.Json:
        await asyncio.Event().wait()
        raise AssertionError


async def test_write_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(NotOurs, match="no answer before"):
        await WRITES["patch"](Fence(Slow(), lambda namespace: 0.01))
