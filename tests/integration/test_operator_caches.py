"""Views of the cluster that are old or wrong: what was deleted, replaced or restored while no watch told it;
and objects that are made to do harm.
"""

import base64
from typing import Any

import pytest

from ocr_operator.kube import api
from ocr_wire import names
from tests.support.stage import Stage, stage, until

KEY = ("default", "invoices")


def children(cluster: Stage) -> list[str]:
    return sorted(
        name
        for kind in (api.DEPLOYMENT, api.SERVICE, api.SECRET)
        for name, body in cluster.objects(kind).items()
        if (body["metadata"].get("labels") or {}).get(names.LABEL_DEPLOYMENT) == "invoices"
    )


def known(cluster: Stage) -> api.Json | None:
    assert cluster.controller is not None
    return cluster.controller.cluster.resource(KEY)


async def test_resource_that_was_deleted_while_the_watch_was_broken_is_not_made_again() -> None:
    async with stage() as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        written = cluster.kube.calls["apply"]

        cluster.kube.deaf.add(api.OCR_DEPLOYMENT)
        await cluster.delete()
        await until(lambda: known(cluster) is None, what="noticed by what is missing")
        await until(lambda: not children(cluster))

        assert cluster.kube.calls["apply"] == written, "nothing was written for it"


async def test_resource_that_vanished_from_the_list_is_forgotten() -> None:
    async with stage() as cluster:
        cluster.collects = False
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())

        cluster.kube.deaf.add(api.OCR_DEPLOYMENT)
        await cluster.delete()
        assert known(cluster) is not None
        cluster.kube.list_again(api.OCR_DEPLOYMENT)
        await until(lambda: known(cluster) is None)
        assert cluster.controller is not None
        await until(lambda: not list(cluster.controller.pods.all_connected()))  # type: ignore[union-attr]


async def test_resource_in_the_place_of_one_deleted_unseen_waits_for_its_children_to_go() -> None:
    async with stage(resync_seconds=3600.0) as cluster:
        await cluster.apply()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        old = {each["metadata"]["uid"] for each in cluster.objects(api.SERVICE).values()}

        cluster.collects = False
        cluster.kube.deaf.add(api.OCR_DEPLOYMENT)
        await cluster.delete()
        await cluster.apply()
        cluster.kube.list_again(api.OCR_DEPLOYMENT)
        await until(lambda: cluster.condition("Ready").get("reason") == "WaitingForRemoval")
        assert cluster.holds("Stalled", "False")
        assert cluster.holds("Progressing")

        cluster.collects = True
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        assert old.isdisjoint({each["metadata"]["uid"] for each in cluster.objects(api.SERVICE).values()})


async def test_restored_backup_is_the_truth() -> None:
    """Of etcd: what was made since is gone, what was changed since is older, and versions begin again."""
    async with stage() as cluster:
        await cluster.apply(idle={"offloadAfterSeconds": 5})
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        restore = cluster.kube.backup()

        await cluster.apply(idle={"offloadAfterSeconds": 9})
        await cluster.apply("later")
        await until(lambda: cluster.applied() and cluster.holds("Ready", name="later"))
        newest = cluster.status()["liveSettings"]["revision"]

        restore()
        await until(lambda: seconds(cluster) == {5})
        # Pods refuse an older one. They have it before the status, which the backup brought back as applied.
        await until(lambda: cluster.status()["liveSettings"]["revision"] > newest and cluster.applied())
        assert cluster.controller is not None
        assert cluster.controller.cluster.keys() == [KEY]
        assert "later" not in cluster.objects(api.DEPLOYMENT)


def seconds(cluster: Stage) -> set[Any]:
    return {pod.settings["values"]["idle"]["offloadAfterSeconds"] for pod in cluster.pods.values()}


async def test_rotated_admin_token_is_read_when_a_pod_refuses_the_old_one() -> None:
    async with stage(resync_seconds=3600.0) as cluster:
        await cluster.apply(replicas=1)
        await until(lambda: cluster.holds("Ready") and cluster.applied())

        secret = cluster.objects(api.SECRET)["invoices-ocr-admin"]
        data = {names.ADMIN_KEY: base64.b64encode(b"rotated").decode()}
        await cluster.kube.patch(api.ref_of(secret), [{"op": "replace", "path": "/data", "value": data}])
        for pod in cluster.pods.values():
            pod.token = "rotated"
        await cluster.apply(replicas=1, idle={"offloadAfterSeconds": 5})

        await until(lambda: cluster.applied() and seconds(cluster) == {5})


@pytest.mark.parametrize("where", ["at its side", "before the start"])
async def test_resource_that_is_made_to_do_harm_is_told_and_does_none(where: str) -> None:
    hostile: Any = {}
    for _ in range(100):
        hostile = {"a": hostile}

    async with stage(operator=False) as cluster:
        if where == "at its side":
            await cluster.start()
        await cluster.apply("hostile", template={"spec": hostile})
        await cluster.apply()
        if where == "before the start":
            await cluster.start()
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        await until(lambda: cluster.holds("Stalled", name="hostile"))
        assert "spec.template.spec" in cluster.condition("Stalled", "hostile")["message"]
        event = await until(
            lambda: next(
                (e for e in cluster.objects(api.EVENT).values() if e["reason"] == "InvalidSpec"), None
            )
        )
        assert event["involvedObject"]["name"] == "hostile"
