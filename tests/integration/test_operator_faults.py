"""What an API server may do to an operator, and where it ends all the same: docs/faults.md."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ocr_operator.controllers.context import STAMPS
from ocr_operator.kube import api
from ocr_wire import names
from tests.support.fakekube import FakeKube
from tests.support.mortal import WRITES
from tests.support.stage import Stage, stage, until


def conflict(ref: api.Ref) -> api.KubeError:
    return api.Conflict(ref, 409, "the object has been modified")


def throttled(ref: api.Ref) -> api.KubeError:
    return api.Unavailable(ref, 429, "too many requests", retry_after=0.05)


def broken(ref: api.Ref) -> api.KubeError:
    return api.Unavailable(ref, 500, "etcdserver: request timed out")


class Faulty:
    """The API server as the operator sees it: each second write fails, before or after they are done."""

    def __init__(self, kube: FakeKube, error: Callable[[api.Ref], api.KubeError], *, done: bool) -> None:
        self._kube, self._error, self._done = kube, error, done
        self.count = 0

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._kube, verb)
        if verb not in WRITES:
            return found

        async def write(what: Any, *arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count % 2 == 0:
                return await found(what, *arguments, **options)
            if self._done:
                await found(what, *arguments, **options)
            raise self._error(what if isinstance(what, api.Ref) else api.ref_of(what))

        return write


def sound(cluster: Stage) -> bool:
    return cluster.holds("Ready") and cluster.applied() and len(cluster.status()["pods"]) == 2


def alone(cluster: Stage) -> dict[str, int]:
    """How many objects of each kind there are."""
    kinds = [ref.kind.name for ref in cluster.kube._objects if ref.name.startswith("invoices")]
    return {kind: kinds.count(kind) for kind in {*kinds} - {"Event"}}


ONE_OF_EACH = {
    "OcrDeployment": 1,
    "Deployment": 1,
    "Secret": 1,
    "Service": 2,
    "Pod": 2,
    "PodDisruptionBudget": 1,
}


@pytest.mark.parametrize(
    ("error", "done"),
    [(conflict, False), (throttled, False), (broken, False), (broken, True)],
    ids=["409", "429", "500", "answers lost"],
)
async def test_writes_of_which_each_second_one_fails_end_in_the_same_place(
    error: Callable[[api.Ref], api.KubeError], done: bool
) -> None:
    async with stage(operator=False) as cluster:
        kube = Faulty(cluster.kube, error, done=done)
        await cluster.start(kube)
        await cluster.apply()
        await until(lambda: sound(cluster))
        pods = set(cluster.pods)
        await cluster.apply(idle={"offloadAfterSeconds": 7})
        await until(lambda: sound(cluster) and _seconds(cluster) == {7})
        assert alone(cluster) == ONE_OF_EACH
        assert set(cluster.pods) == pods
        assert kube.count > 6


async def test_api_server_that_is_away_and_comes_back_finds_one_of_each() -> None:
    """Its watches tell nothing meanwhile, and what was changed is in the lists that they begin anew with."""
    async with stage() as cluster:
        await cluster.apply()
        await until(lambda: sound(cluster))
        pods = set(cluster.pods)
        refused = 0

        def away(verb: str, ref: api.Ref) -> None:
            nonlocal refused
            if asyncio.current_task() is not user and not _playing():
                refused += 1
                raise api.Unavailable(ref, 0, "connection refused")

        user = asyncio.current_task()
        cluster.kube.deaf |= set(api.KINDS)
        cluster.kube.fail = away
        await cluster.apply(idle={"offloadAfterSeconds": 7})
        next(iter(cluster.pods.values())).change(pp_ocr=("ready", "gpu"))
        await until(lambda: refused > 3, what="it tries to write")

        cluster.kube.fail = lambda verb, ref: None
        cluster.kube.list_again(*api.KINDS)
        await until(lambda: sound(cluster) and _seconds(cluster) == {7})
        assert set(cluster.pods) == pods
        assert alone(cluster) == ONE_OF_EACH


async def test_namespace_that_ends_takes_no_children_and_others_do_not_notice() -> None:
    async with stage(operator=False) as cluster:

        def ends(verb: str, ref: api.Ref) -> None:
            if ref.namespace == "ending" and verb in {"apply", "create"} and ref.kind != api.OCR_DEPLOYMENT:
                raise api.Refused(ref, 403, "unable to create new content: it is being terminated")

        cluster.kube.fail = ends
        await cluster.start()
        await cluster.apply("ended", namespace="ending")
        await cluster.apply()
        await until(lambda: sound(cluster))
        await until(lambda: "being terminated" in str(cluster.status("ended")))


class Counted:
    """The API server as the operator sees it; counts by pod how often live settings were stamped."""

    def __init__(self, kube: FakeKube) -> None:
        self._kube, self.stamps = kube, Counter[str]()

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._kube, verb)

    async def patch(self, ref: api.Ref, operations: Sequence[api.Json], *, subresource: str = "") -> api.Json:
        before = _annotation(await self._kube.get(ref)) if ref.kind == api.POD else None
        after = await self._kube.patch(ref, operations, subresource=subresource)
        if ref.kind == api.POD:
            self.stamps[ref.name] += _annotation(after) != before
        return after


def _annotation(pod: api.Json) -> str | None:
    found: str | None = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_LIVE_SETTINGS)
    return found


async def test_resource_that_changes_a_hundred_times_a_second_ends_with_its_last_values() -> None:
    async with stage(operator=False) as cluster:
        kube = Counted(cluster.kube)
        await cluster.start(kube)
        await cluster.apply()
        await until(lambda: sound(cluster))
        before, began = cluster.kube.calls["apply_status"], time.monotonic()
        kube.stamps.clear()
        for turn in range(200):
            await cluster.apply(idle={"offloadAfterSeconds": 5 + turn % 2})
            await asyncio.sleep(0.005)
        await cluster.apply(idle={"offloadAfterSeconds": 9})
        await until(lambda: sound(cluster) and _seconds(cluster) == {9})
        assert alone(cluster) == ONE_OF_EACH
        assert cluster.kube.calls["apply_status"] - before < 2 * 201 + 10, (
            "its revision, and that it is applied"
        )
        await until(lambda: _stamped(cluster) == {9})
        rounds = STAMPS.burst + STAMPS.rate * (time.monotonic() - began)
        assert all(0 < kube.stamps[name] <= rounds + 1 for name in cluster.pods), "they had them by a push"


def _playing() -> bool:
    task = asyncio.current_task()
    return task is not None and task.get_coro().__qualname__ == "Stage.play"  # type: ignore[union-attr]


def _stamped(cluster: Stage) -> set[Any]:
    """What containers that are restarted would begin with."""
    pods = [each for name, each in cluster.objects(api.POD).items() if name in cluster.pods]
    texts = [each["metadata"]["annotations"][names.ANNOTATION_LIVE_SETTINGS] for each in pods]
    return {json.loads(each)["values"]["idle"]["offloadAfterSeconds"] for each in texts}


def _seconds(cluster: Stage) -> set[Any]:
    return {each.settings["values"]["idle"]["offloadAfterSeconds"] for each in cluster.pods.values()}
