"""An operator of a newer version: resources without an image of their own are rolled out a few at a time."""

import asyncio
import copy
from functools import partial
from typing import Any

import yaml

from ocr_operator.kube import api
from ocr_wire import names
from tests.support.paths import ROOT
from tests.support.stage import Stage, stage, until

ALL = ("a", "b", "c", "d", "e")


def on(cluster: Stage, image: str) -> str:
    """The resources whose pods are made with that image."""
    found = cluster.objects(api.DEPLOYMENT).items()
    return "".join(name for name, each in sorted(found) if image_of(each) == image)


def everywhere(cluster: Stage, image: str) -> bool:
    return on(cluster, image) == "".join(ALL)


def image_of(deployment: api.Json) -> str:
    found: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def waiting(cluster: Stage) -> str:
    return "".join(
        name for name in ALL if cluster.condition("Progressing", name).get("reason") == "WaitingForTurn"
    )


def count(cluster: Stage, state: str) -> float | None:
    return cluster.registry.get_sample_value("ocr_operator_wave_resources", {"state": state})


async def test_upgrade_goes_on_where_it_was_and_a_persons_change_needs_no_turn() -> None:
    async with stage(inference_image="image:1") as cluster:
        for name in reversed(ALL):
            await cluster.apply(name, replicas=1, gpu={"sharing": "none"})
        await until(lambda: all(cluster.holds("Ready", name=name) for name in ALL))
        await cluster.kill()
        cluster.rolling = {"a", "b", "d"}

        await cluster.start(inference_image="image:2", upgrades_at_once=2)
        await until(lambda: (on(cluster, "image:2"), waiting(cluster)) == ("ab", "cde"))
        assert (count(cluster, "waiting"), count(cluster, "rolling")) == (3, 2)
        assert all(cluster.holds("Ready", name=name) for name in "cde"), "their pods are as they were"

        await cluster.apply("c", replicas=2, gpu={"sharing": "none"}, logLevel="debug")
        await until(lambda: cluster.status("c").get("readyReplicas") == 2)
        assert on(cluster, "image:2") == "ab", "more replicas, and live settings, are no change of pods"
        await cluster.apply(
            "e", replicas=1, gpu={"sharing": "none"}, template={"spec": {"priorityClassName": "x"}}
        )
        await until(lambda: on(cluster, "image:2") == "abe")

        await cluster.kill()
        await cluster.start(inference_image="image:2", upgrades_at_once=2)
        await until(lambda: count(cluster, "waiting") == 2)
        await asyncio.sleep(0.3)
        assert on(cluster, "image:2") == "abe", "another process knows who has the places"

        cluster.rolling = {"a", "d"}
        await until(lambda: on(cluster, "image:2") == "abce")
        await until(lambda: on(cluster, "image:2") == "abcde")
        marks = cluster.objects(api.DEPLOYMENT)["e"]["metadata"]["annotations"]
        assert marks[names.ANNOTATION_ROLLED_BY] == names.RESOURCE_CHANGED
        cluster.rolling = set()
        await until(lambda: (count(cluster, "waiting"), count(cluster, "rolling")) == (0, 0))
        await until(lambda: not waiting(cluster))


async def test_upgrade_can_be_all_at_once() -> None:
    async with stage(inference_image="image:1") as cluster:
        for name in ALL:
            await cluster.apply(name, replicas=1, gpu={"sharing": "none"})
        await until(lambda: on(cluster, "image:1") == "abcde")
        await cluster.kill()
        cluster.rolling = set(ALL)
        await cluster.start(inference_image="image:2", upgrades_at_once=0)
        await until(lambda: on(cluster, "image:2") == "abcde")


async def test_resource_that_was_broken_before_keeps_no_place_for_ever() -> None:
    """Its failure says nothing of the new version, so neither this wave nor that of the next version waits for it."""
    async with stage(inference_image="image:1") as cluster:
        cluster.failing = {"a", "b"}
        for name in ALL:
            await cluster.apply(name, replicas=1, gpu={"sharing": "none"})
        await until(lambda: all(cluster.holds("Ready", name=name) for name in "cde"))
        for image in ("image:2", "image:3"):
            await cluster.kill()
            await cluster.start(inference_image=image, upgrades_at_once=1)
            await until(partial(everywhere, cluster, image))
        await until(lambda: (count(cluster, "waiting"), count(cluster, "failing")) == (0, 0))

        await cluster.kill()
        cluster.rolling = {"c"}
        await cluster.start(inference_image="image:4", upgrades_at_once=1)
        await until(lambda: on(cluster, "image:4") == "c")
        cluster.failing.add("c")
        await until(lambda: count(cluster, "failing") == 1)
        await asyncio.sleep(0.3)
        assert on(cluster, "image:4") == "c", "it worked before: the version may be what broke it"


async def test_children_of_the_first_version_keep_their_pods_until_their_turn() -> None:
    """As they are found after an upgrade: stored resources, and children that no wave has ever seen."""
    frozen = ROOT / "tests" / "frozen" / "v0.1.0"
    children = [*yaml.safe_load_all((frozen / "children.yaml").read_text(encoding="utf-8"))]
    names_of = {each["metadata"]["name"] for each in children if each["kind"] == "Deployment"}
    async with stage(operator=False) as cluster:
        cluster.rolling = set(names_of)
        uids = {}
        for resource in yaml.safe_load_all((frozen / "resources.yaml").read_text(encoding="utf-8")):
            name = resource["metadata"]["name"]
            if name in names_of:
                resource["metadata"]["namespace"] = "default"
                resource["status"] = {"observedGeneration": 1}
                uids[name] = (await cluster.kube.create(resource))["metadata"]["uid"]
        assert uids.keys() == names_of
        for child in children:
            child["metadata"]["namespace"] = "default"
            [owner] = child["metadata"]["ownerReferences"]
            owner["uid"] = uids[owner["name"]]
            await cluster.kube.create(child)

        def templates() -> dict[str, Any]:
            found = cluster.objects(api.DEPLOYMENT)
            return {name: found[name]["spec"]["template"] for name in sorted(names_of)}

        before = copy.deepcopy(templates())
        await cluster.start(inference_image="image:2", upgrades_at_once=1)

        def changed() -> list[str]:
            return [name for name, template in templates().items() if template != before[name]]

        others = len(names_of) - 1
        await until(
            lambda: (len(changed()), count(cluster, "waiting")) == (1, others), what="each had a pass"
        )
        assert count(cluster, "rolling") == 1
        [first] = changed()
        [ours] = templates()[first]["spec"]["containers"]
        assert ours["resources"]["requests"]["memory"], "what later versions add comes with its turn"
        cluster.rolling -= {first}
        await until(
            lambda: (len(changed()), count(cluster, "waiting")) == (2, others - 1), what="the next one"
        )
        kept = cluster.objects(api.SERVICE)
        assert {f"{name}{part}" for name in names_of for part in ("", "-all")} <= kept.keys()
