"""What `api.Kube` promises, held by the fake and by a real API server."""

import asyncio
import base64
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ocr_operator import kube
from ocr_operator.decide import manifests, waves
from ocr_operator.kube import api
from ocr_wire import names
from tests.support import resources
from tests.support.fakekube import FakeKube
from tests.support.patience import PATIENCE
from tests.support.stage import until

BOTH = pytest.mark.parametrize(
    "server", ["fake", pytest.param("real", marks=pytest.mark.cluster)], indirect=True
)
pytestmark = BOTH


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[api.Kube]:
    if request.param == "fake":
        yield FakeKube()
        return
    control_plane = request.getfixturevalue("clusters").get("control-plane", defined=True)
    before = descriptors()
    async with kube.connect({"KUBECONFIG": str(control_plane.kubeconfig)}) as client:
        yield client
    # A watch that is given up says good-bye in TLS after the client is closed, and needs this test's loop for it.
    await until(lambda: descriptors() <= before, what="all connections are closed")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def secret(name: str, **parts: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default", **parts.pop("metadata", {})},
        **parts,
    }


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def resource(name: str) -> dict[str, Any]:
    body = resources.make_body(name)
    body["metadata"] = {"name": name, "namespace": "default"}
    return body


class Watched:
    """The events of one watch, read in the background."""

    def __init__(self) -> None:
        self.events: list[api.WatchEvent] = []
        self.news = asyncio.Event()

    async def until(self, found: Callable[[list[api.WatchEvent]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not found(self.events):
                self.news.clear()
                await self.news.wait()

    def changes(self, name: str) -> list[str]:
        return [
            event.type
            for event in self.events
            if isinstance(event, api.Changed) and event.item["metadata"]["name"] == name
        ]


@contextlib.asynccontextmanager
async def watching(server: api.Kube, kind: api.Kind, **where: str) -> AsyncIterator[Watched]:
    watched = Watched()

    async def read() -> None:
        async for event in server.watch(kind, **where):
            watched.events.append(event)
            watched.news.set()

    task = asyncio.create_task(read())
    try:
        await watched.until(lambda events: any(isinstance(each, api.Listed) for each in events))
        yield watched
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_absent_object_is_not_found(server: api.Kube) -> None:
    ref = api.Ref(api.SECRET, "default", unique("absent"))

    with pytest.raises(api.NotFound) as caught:
        await server.get(ref)

    assert caught.value.ref == ref
    assert f"Secret default/{ref.name} was not found" in str(caught.value)


async def test_apply_creates_then_changes_only_what_differs(server: api.Kube) -> None:
    name = unique("applied")

    made = await server.apply(secret(name, data={"one": encoded("1"), "two": encoded("2")}))
    again = await server.apply(secret(name, data={"one": encoded("1"), "two": encoded("2")}))
    less = await server.apply(secret(name, data={"one": encoded("new")}))

    assert made["metadata"]["uid"] == less["metadata"]["uid"]
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert less["data"] == {"one": encoded("new")}


async def test_apply_of_what_is_to_be_new_creates_and_leaves_what_is_there_alone(server: api.Kube) -> None:
    name = unique("new")

    made = await server.apply(api.as_new(secret(name, data={"one": encoded("1")})))
    with pytest.raises(api.Conflict) as caught:
        await server.apply(api.as_new(secret(name, data={"one": encoded("2")})))

    assert caught.value.ref == api.Ref(api.SECRET, "default", name)
    assert await server.get(api.ref_of(made)) == made
    less = await server.apply(secret(name, data={"two": encoded("2")}))
    assert less["data"] == {"two": encoded("2")}, "what was created so is ours, and may be taken back"


async def test_template_as_it_was_read_is_no_change_of_it_and_holds_for_that_version_only(
    server: api.Kube,
) -> None:
    """What an upgrade of the operator writes before a resource's turn."""
    resource_ = resources.make_deployment(unique("held"), replicas=0)

    def wanted(image: str) -> dict[str, Any]:
        *_, found = manifests.desired(resource_, manifests.Defaults(image), "token")
        return {**found, "metadata": {**found["metadata"], "ownerReferences": []}}

    made = await server.apply(waves.marked(wanted("image:1"), names.RESOURCE_CHANGED))

    async def hold() -> tuple[api.Json, api.Json]:
        """As often as its controller is quicker."""
        while True:
            child = await server.get(api.ref_of(made))
            held = waves.marked(waves.held(wanted("image:2"), child), names.RESOURCE_CHANGED)
            with contextlib.suppress(api.Conflict):
                return held, await server.apply(held)

    async with asyncio.timeout(PATIENCE):
        held, after = await hold()
    assert after["spec"] == made["spec"], "no pod is replaced"
    now = await server.apply(waves.marked(wanted("image:2"), names.DEFAULTS_CHANGED))
    assert now["spec"]["template"]["spec"]["containers"][0]["image"] == "image:2"
    with pytest.raises(api.Conflict):
        await server.apply(held)


async def test_create_of_an_existing_name_conflicts(server: api.Kube) -> None:
    manifest = secret(unique("created"))
    await server.create(manifest)

    with pytest.raises(api.Conflict):
        await server.create(manifest)


async def test_find_selects_by_label_and_namespace(server: api.Kube) -> None:
    name, label = unique("found"), unique("label")
    await server.create(secret(name, metadata={"labels": {label: "yes"}}))

    async def names_of(**where: str) -> list[str]:
        return [each["metadata"]["name"] for each in await server.find(api.SECRET, **where)]

    assert await names_of(selector=label) == [name]
    assert await names_of(selector=f"{label}=yes", namespace="default") == [name]
    assert await names_of(selector=f"{label}=no") == []
    assert await names_of(selector=label, namespace="kube-system") == []
    assert name not in await names_of(selector=f"!{label}", namespace="default")
    assert name in await names_of(selector="!example.com/none", namespace="default")


async def test_found_items_bear_their_kind(server: api.Kube) -> None:
    label = unique("label")
    await server.create(secret(unique("found"), metadata={"labels": {label: "yes"}}))

    [item] = await server.find(api.SECRET, selector=label)

    assert api.kind_of(item) == api.SECRET


async def test_status_is_written_only_on_the_version_that_was_read(server: api.Kube) -> None:
    name = unique("status")
    read = await server.create(resource(name))
    ref = api.ref_of(read)
    status = {"phase": "Pending", "replicas": 1, "liveSettings": {"revision": 1, "hash": "0" * 16}}

    first = await server.apply_status(ref, status, resource_version=read["metadata"]["resourceVersion"])
    with pytest.raises(api.Conflict):
        await server.apply_status(ref, status, resource_version=read["metadata"]["resourceVersion"])
    second = await server.apply_status(
        ref, {"phase": "Ready"}, resource_version=first["metadata"]["resourceVersion"]
    )

    # The definition's own default is there, too, until a status names what is in it.
    assert first["status"] == first["status"] | status
    assert second["status"]["phase"] == "Ready"
    assert not {"replicas", "liveSettings"} & second["status"].keys(), "a status drops what it doesn't name"
    assert second["metadata"]["generation"] == read["metadata"]["generation"]


async def test_equal_status_changes_nothing(server: api.Kube) -> None:
    read = await server.create(resource(unique("status")))
    version = read["metadata"]["resourceVersion"]
    first = await server.apply_status(api.ref_of(read), {"phase": "Ready"}, resource_version=version)

    version = first["metadata"]["resourceVersion"]
    again = await server.apply_status(api.ref_of(read), {"phase": "Ready"}, resource_version=version)

    assert again["metadata"]["resourceVersion"] == version


async def test_patch_with_a_failed_test_conflicts_and_changes_nothing(server: api.Kube) -> None:
    manifest = secret(unique("patched"), metadata={"annotations": {"a/b": "1"}})
    ref = api.ref_of(await server.create(manifest))

    patched = await server.patch(
        ref,
        [
            {"op": "test", "path": "/metadata/annotations/a~1b", "value": "1"},
            {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"},
            {"op": "add", "path": "/metadata/annotations/new", "value": "x"},
        ],
    )
    with pytest.raises(api.Conflict):
        await server.patch(
            ref,
            [
                {"op": "add", "path": "/metadata/annotations/new", "value": "y"},
                {"op": "test", "path": "/metadata/annotations/a~1b", "value": "1"},
            ],
        )
    with pytest.raises(api.Conflict):
        await server.patch(ref, [{"op": "remove", "path": "/metadata/annotations/absent"}])

    assert patched["metadata"]["annotations"] == {"a/b": "2", "new": "x"}
    assert (await server.get(ref))["metadata"]["annotations"] == {"a/b": "2", "new": "x"}


async def test_delete_takes_only_the_object_of_that_uid(server: api.Kube) -> None:
    body = await server.create(secret(unique("deleted")))
    ref = api.ref_of(body)

    with pytest.raises(api.NotFound):
        await server.delete(ref, uid=str(uuid.uuid4()))
    await server.get(ref)
    await server.delete(ref, uid=body["metadata"]["uid"])

    with pytest.raises(api.NotFound):
        await server.get(ref)


async def test_delete_takes_an_object_only_as_it_was_read(server: api.Kube) -> None:
    read = await server.create(secret(unique("deleted"), metadata={"annotations": {"a": "1"}}))
    ref, uid = api.ref_of(read), read["metadata"]["uid"]
    changed = await server.patch(ref, [{"op": "replace", "path": "/metadata/annotations/a", "value": "2"}])

    with pytest.raises(api.Conflict):
        await server.delete(ref, uid=uid, resource_version=read["metadata"]["resourceVersion"])
    version = changed["metadata"]["resourceVersion"]
    with pytest.raises(api.Conflict):
        await server.delete(ref, uid=str(uuid.uuid4()), resource_version=version)
    await server.get(ref)
    await server.delete(ref, uid=uid, resource_version=version)

    with pytest.raises(api.NotFound):
        await server.get(ref)


async def test_watch_lists_first_then_follows(server: api.Kube) -> None:
    label, name = unique("label"), unique("watched")
    before = await server.create(secret(unique("before"), metadata={"labels": {label: "yes"}}))

    async with watching(server, api.SECRET, selector=label) as watched:
        body = await server.create(secret(name, metadata={"labels": {label: "yes"}}))
        await server.create(secret(unique("stranger")))
        ref = api.ref_of(body)
        await server.apply(secret(name, data={"key": encoded("value")}))
        await server.delete(ref, uid=body["metadata"]["uid"])
        await watched.until(lambda _: "DELETED" in watched.changes(name))

    listed, *changes = watched.events
    assert isinstance(listed, api.Listed)
    assert [each["metadata"]["name"] for each in listed.items] == [before["metadata"]["name"]]
    assert watched.changes(name) == ["ADDED", "MODIFIED", "DELETED"]
    assert {each.item["metadata"]["name"] for each in changes if isinstance(each, api.Changed)} == {name}
    assert all(api.kind_of(each.item) == api.SECRET for each in changes if isinstance(each, api.Changed))


async def test_watch_tells_an_object_that_stops_matching_as_deleted(server: api.Kube) -> None:
    label = unique("label")
    body = await server.create(secret(unique("relabelled"), metadata={"labels": {label: "yes"}}))
    name = body["metadata"]["name"]

    async with watching(server, api.SECRET, selector=label) as watched:
        await server.patch(api.ref_of(body), [{"op": "remove", "path": f"/metadata/labels/{label}"}])
        await watched.until(lambda _: bool(watched.changes(name)))

    assert watched.changes(name) == ["DELETED"]


async def test_status_of_a_resource_that_is_gone_is_not_written(server: api.Kube) -> None:
    read = await server.create(resource(unique("gone")))
    ref = api.ref_of(read)
    await server.delete(ref, uid=read["metadata"]["uid"])

    with pytest.raises(api.NotFound) as caught:
        await server.apply_status(
            ref, {"phase": "Pending"}, resource_version=read["metadata"]["resourceVersion"]
        )
    assert caught.value.ref == ref


async def test_status_of_a_resource_in_the_place_of_another_is_not_written(server: api.Kube) -> None:
    old = await server.create(resource(unique("replaced")))
    ref = api.ref_of(old)
    await server.delete(ref, uid=old["metadata"]["uid"])
    new = await server.create(resource(ref.name))

    with pytest.raises(api.Conflict):
        await server.apply_status(
            ref, {"phase": "Pending"}, resource_version=old["metadata"]["resourceVersion"]
        )
    assert (await server.get(ref))["metadata"]["uid"] == new["metadata"]["uid"]


async def test_watch_of_tenants_tells_pods_on_nodes_and_only_what_they_take(server: api.Kube) -> None:
    name = unique("tenant")
    container = {"name": "a", "image": "a", "resources": {"requests": {"cpu": "250m"}}}
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app": "one"},
            "annotations": {"long": "story"},
        },
        "spec": {"nodeName": "somewhere", "containers": [container]},
    }
    waiting = {**pod, "metadata": {"name": f"{name}-waiting", "namespace": "default"}}
    gates = [{"name": "example.com/gate"}]  # or the scheduler would write its status, too
    waiting |= {"spec": {"containers": [container], "schedulingGates": gates}, "status": {}}

    async with watching(server, api.TENANT) as watched:
        for each in (waiting, pod):
            await server.create(each)
        await watched.until(lambda _: watched.changes(name) == ["ADDED"])
        nominated = [{"op": "add", "path": "/status/nominatedNodeName", "value": "elsewhere"}]
        await server.patch(api.Ref(api.POD, "default", f"{name}-waiting"), nominated, subresource="/status")
        await watched.until(lambda _: watched.changes(f"{name}-waiting")[-1:] == ["MODIFIED"])
    async with watching(server, api.TENANT) as listed:
        [first] = [each for each in listed.events if isinstance(each, api.Listed)]

    changed = [each.item for each in watched.events if isinstance(each, api.Changed)]
    for items in (changed, first.items):
        found = {each["metadata"]["name"]: each for each in items}
        for where, item in (
            ({"nodeName": "somewhere"}, found[name]),
            ({"schedulingGates": gates}, found[f"{name}-waiting"]),
        ):
            assert item["spec"] == where | _asked(item)
            assert item["kind"] == "Pod"
            assert "annotations" not in item["metadata"]
        assert found[name]["metadata"]["labels"] == {"app": "one"}
        assert found[f"{name}-waiting"]["status"]["nominatedNodeName"] == "elsewhere"
    for ref in (api.Ref(api.POD, "default", name), api.Ref(api.POD, "default", f"{name}-waiting")):
        await server.delete(ref, uid=(await server.get(ref))["metadata"]["uid"])


def _asked(item: api.Json) -> dict[str, Any]:
    """What a real API server adds to a pod's spec that counts, too."""
    [container] = item["spec"]["containers"]
    assert container == {"name": "a", "resources": {"requests": {"cpu": "250m"}}}
    added = ("containers", "priority", "preemptionPolicy")
    return {key: value for key, value in item["spec"].items() if key in added}
