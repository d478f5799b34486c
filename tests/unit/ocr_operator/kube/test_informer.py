import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ocr_operator.kube import api
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


async def test_view_is_shared_with_the_one_before_or_else_with_the_last_one() -> None:
    shared: list[Change] = []

    def share(new: str, known: str) -> str:
        shared.append((known, new))
        return new

    kube = FakeKube()
    await kube.create(secret("one", "a"))
    async with informed(kube, share=share) as (copy, _):
        await kube.create(secret("two", "b"))
        await until(lambda: len(copy) == 2)
        await kube.apply(secret("one", "c"))
        await until(lambda: list(copy) == ["c", "b"])

    assert shared == [("a", "b"), ("a", "c")]


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


async def test_list_is_let_go_of_once_it_is_taken() -> None:
    class Items(list[api.Json]):
        """A list that tells when it is gone."""

    items = Items()
    gone = weakref.ref(items)

    class Quiet(FakeKube):
        async def watch(
            self, kind: api.Kind, *, namespace: str = "", selector: str = ""
        ) -> AsyncIterator[api.WatchEvent]:
            nonlocal items
            yield api.Listed(items)
            items = Items()
            await asyncio.Event().wait()

    async with informed(Quiet()):
        await until(lambda: gone() is None)


async def test_complete_list_is_believed_also_where_it_is_older() -> None:
    """As after the restore of an etcd backup."""
    kube = FakeKube()
    await kube.create(secret("one", "a"))
    await kube.create(secret("two", "b"))
    restore = kube.backup()
    async with informed(kube) as (copy, changes):
        await kube.apply(secret("one", "newer"))
        await kube.create(secret("three", "c"))
        await until(lambda: len(copy) == 3)

        restore()
        await until(lambda: sorted(copy) == ["a", "b"])
        await kube.apply(secret("one", "again"))
        await until(lambda: sorted(copy) == ["again", "b"], what="it goes on from there")

    assert changes[-3:] == [("newer", "a"), ("c", None), ("a", "again")]


async def test_another_object_of_that_name_is_told_as_one_gone_and_one_new() -> None:
    kube = FakeKube()
    old = await kube.create(secret("one", "a"))
    async with informed(kube) as (copy, changes):
        kube.deaf.add(api.SECRET)
        await kube.delete(api.ref_of(old), uid=old["metadata"]["uid"])
        new = await kube.create(secret("one", "a"))
        kube.list_again(api.SECRET)
        await until(lambda: len(changes) == 3)

        copy.put(old)
        copy.gone(("default", "one"), old["metadata"]["uid"])
        assert list(copy) == ["a"], "what is said of the old one doesn't concern the new one"
        copy.gone(("default", "one"), new["metadata"]["uid"])
        assert not list(copy)

    assert changes == [(None, "a"), ("a", None), (None, "a"), ("a", None)]


async def test_read_brings_another_object_of_that_name_and_late_news_of_the_old_one_are_ignored() -> None:
    kube = FakeKube()
    old = await kube.create(secret("one", "a"))
    async with informed(kube) as (copy, _):
        kube.deaf.add(api.SECRET)
        await kube.delete(api.ref_of(old), uid=old["metadata"]["uid"])
        new = await kube.create(secret("one", "b"))
        copy.put(new)
        assert list(copy) == ["b"]
        for each in ("MODIFIED", "DELETED"):
            for *_, queue in kube._watchers:
                queue.put_nowait(api.Changed(each, old))
        kube.deaf.clear()
        await kube.create(secret("two", "c"))
        await until(lambda: sorted(copy) == ["b", "c"])


async def test_fault_about_one_object_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube()
    for name in ("before", "hostile", "later"):
        await kube.create(secret(name, name))

    def strict(item: api.Json) -> str:
        if item["metadata"]["name"] == "hostile" and value(item) != "tame":
            raise LookupError("nobody thought of this")
        return value(item)

    heard: list[str | None] = []

    def on_change(old: str | None, new: str | None) -> None:
        heard.append(new)
        if new == "before":
            raise LookupError("nor of this")

    copy = Informer(kube, api.SECRET, strict, time=lambda: 0.0, on_change=on_change)
    task = asyncio.create_task(copy.run())
    try:
        await until(lambda: sorted(copy) == ["before", "later"])
        assert copy.synced.is_set()
        await kube.apply(secret("hostile", "tame"))
        await until(lambda: sorted(copy) == ["before", "later", "tame"])
        await kube.apply(secret("hostile", "wild"))
        await kube.apply(secret("later", "on"))
        await until(
            lambda: sorted(copy) == ["before", "on", "tame"], what="the last state that could be read"
        )
    finally:
        task.cancel()
        await asyncio.wait([task])

    assert heard == ["before", "later", "tame", "on"]
    said = [each.getMessage() for each in caplog.records if each.exc_info]
    assert len(said) == 3
    assert "hostile" in said[1]


async def test_who_waits_for_a_version_goes_on_when_the_watch_has_shown_it() -> None:
    kube = FakeKube()
    await kube.create(secret("one", "a"))
    async with informed(kube) as (copy, _):
        kube.deaf.add(api.SECRET)
        written = await kube.apply(secret("one", "b"))
        copy.put(written)
        waiting = asyncio.create_task(
            copy.reached("default", written["metadata"]["resourceVersion"], PATIENCE)
        )
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done(), "an answer isn't what the watch has shown"
        kube.deaf.clear()
        await kube.apply(secret("two", "c"))
        async with asyncio.timeout(PATIENCE):
            await waiting
        await copy.reached("default", written["metadata"]["resourceVersion"], 0.0)
        assert "c" in list(copy)


async def test_who_waits_for_a_version_goes_on_after_a_list_or_after_so_long() -> None:
    kube = FakeKube()
    await kube.create(secret("one", "a"))
    async with informed(kube, namespaces=("default", "other")) as (copy, _):
        kube.deaf.add(api.SECRET)
        version = (await kube.apply(secret("one", "b")))["metadata"]["resourceVersion"]
        await copy.reached("default", version, 0.001)
        assert list(copy) == ["a"]
        waiting = asyncio.create_task(copy.reached("default", version, PATIENCE))
        await asyncio.sleep(0)
        kube.list_again(api.SECRET)
        async with asyncio.timeout(PATIENCE):
            await waiting
        assert list(copy) == ["b"]
        async with asyncio.timeout(PATIENCE):
            await copy.reached("default", version, 2 * PATIENCE)  # the list had it
