import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ocr_operator.kube import api, informer
from ocr_operator.kube.informer import Informer
from tests.support.fakekube import FakeKube
from tests.support.patience import PATIENCE
from tests.support.stage import until

Change = tuple[str | None, str | None]


def secret(name: str, value: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "data": {"value": value},
    }


def value(item: api.Json) -> str:
    found: str = item["data"]["value"]
    return found


@contextlib.asynccontextmanager
async def informed(kube: FakeKube, **options: Any) -> AsyncIterator[tuple[Informer[str], list[Change]]]:
    changes: list[Change] = []
    copy = Informer(
        kube,
        api.SECRET,
        value,
        time=asyncio.get_running_loop().time,
        on_change=lambda old, new: changes.append((old, new)),
        **options,
    )
    task = asyncio.create_task(copy.run())
    try:
        await asyncio.wait_for(copy.synced.wait(), PATIENCE)
        yield copy, changes
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_every_difference_is_told_once() -> None:
    kube = FakeKube()
    await kube.create(secret("one", "a"))
    async with informed(kube) as (copy, changes):
        await kube.apply(secret("one", "b"))
        await kube.apply(secret("one", "b", irrelevant="yes"))
        found = await kube.get(api.Ref(api.SECRET, "default", "one"))
        await kube.delete(api.ref_of(found), uid=found["metadata"]["uid"])
        await until(lambda: len(copy) == 0)

    assert changes == [(None, "a"), ("a", "b"), ("b", None)]


async def test_answer_of_a_write_is_ahead_of_the_watch_and_never_behind_it() -> None:
    kube = FakeKube()
    old = await kube.create(secret("one", "a"))
    async with informed(kube) as (copy, _):
        new = {**old, "data": {"value": "b"}, "metadata": old["metadata"] | {"resourceVersion": "99"}}
        copy.put(new)
        assert list(copy) == ["b"]
        copy.put(old)
        assert list(copy) == ["b"]


async def test_answer_of_a_write_does_not_bring_back_what_is_gone() -> None:
    kube = FakeKube()
    old = await kube.create(secret("one", "a"))
    async with informed(kube) as (copy, _):
        await kube.delete(api.ref_of(old), uid=old["metadata"]["uid"])
        await until(lambda: len(copy) == 0)

        copy.put(old)
        assert len(copy) == 0

        await kube.create(secret("one", "c"))
        await until(lambda: list(copy) == ["c"])
        copy.put(old)
        assert list(copy) == ["c"], "another object of that name"


async def test_groups_follow_the_items() -> None:
    kube = FakeKube()
    await kube.create(secret("one", "a"))
    await kube.create(secret("two", "a"))
    async with informed(kube, group=lambda item: item) as (copy, _):
        assert set(copy.of("a")) == {("default", "one"), ("default", "two")}
        await kube.apply(secret("one", "b"))
        await until(lambda: copy.of("b"))
        assert set(copy.of("a")) == {("default", "two")}


async def test_list_after_a_gap_removes_what_vanished_meanwhile() -> None:
    class Gap(FakeKube):
        async def watch(
            self, kind: api.Kind, *, namespace: str = "", selector: str = ""
        ) -> AsyncIterator[api.WatchEvent]:
            yield api.Listed([await self.create(secret("one", "a")), await self.create(secret("two", "b"))])
            yield api.Lost(api.Unavailable(api.Ref(kind, "", ""), 0, "gone for a while"))
            yield api.Listed([await self.get(api.Ref(api.SECRET, "default", "two"))])
            await asyncio.Event().wait()

    async with informed(Gap()) as (copy, changes):
        await until(lambda: list(copy) == ["b"])

    assert changes == [(None, "a"), (None, "b"), ("a", None)]


def test_newer_compares_versions_as_numbers() -> None:
    def body(version: str, uid: str = "u") -> dict[str, Any]:
        return {"metadata": {"resourceVersion": version, "uid": uid}}

    assert informer.newer(body("10"), body("9"))
    assert not informer.newer(body("9"), body("10"))
    assert not informer.newer(body("9"), body("9"))
    assert informer.newer(body("1", "v"), body("9", "u"))
