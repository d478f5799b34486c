"""Inference pods over an upgrade from the first chart: none is replaced or restarted unless its template changed.

The operator's program is this version's in both charts; what differs is all that the charts say: images, settings,
rights and definitions.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocr_wire import names
from tests.support import cluster as support
from tests.support import definitions
from tests.support.operators import PORT, run_helm
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CHART = str(ROOT / "charts" / "ocr-operator")
FIRST = str(ROOT / "tests" / "frozen" / "v0.1.0" / "chart")
OWN, FOLLOWING = "own", ("early", "later")
"""Resources: one that names its image, and those that have the operator's, in the order of their turns."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[support.Place]:
    """A cluster of its own, whose node runs the operator and inference pods as processes."""
    with support.started(tmp_path / "cluster", nodes=1, gpus=1) as cluster:
        yield support.of(cluster)


@pytest.fixture
def helm(place: support.Place, tmp_path: Path) -> Callable[..., str]:
    return lambda *arguments: run_helm(place, tmp_path, *arguments, "--namespace=ocr-system")


def body(name: str) -> dict[str, Any]:
    server = {"port": PORT} | ({"image": "registry.example/ocr-inference:mine"} if name == OWN else {})
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {
            "models": [{"name": "pp-ocr", "engine": "rapidocr"}],
            "gpu": {"sharing": "none"},
            "server": server,
            "template": {"spec": {"terminationGracePeriodSeconds": 2}},
        },
    }


def pods(place: support.Place) -> dict[str, dict[str, Any]]:
    """The one pod of each resource; none of a resource that has another number of them."""
    found: dict[str, list[dict[str, Any]]] = {}
    selector = f"labelSelector={names.LABEL_DEPLOYMENT}"
    for each in place.ask(f"/api/v1/namespaces/default/pods?{selector}")["items"]:
        found.setdefault(each["metadata"]["labels"][names.LABEL_DEPLOYMENT], []).append(each)
    return {name: theirs[0] for name, theirs in found.items() if len(theirs) == 1}


def life(pod: dict[str, Any]) -> tuple[str, int]:
    """What a replacement changes, and what a restart does."""
    return pod["metadata"]["uid"], sum(each["restartCount"] for each in pod["status"]["containerStatuses"])


def ready_since(pod: dict[str, Any]) -> str:
    """The time since which a pod is ready; empty while it isn't."""
    conditions = pod["status"].get("conditions") or ()
    return next(
        (
            each["lastTransitionTime"]
            for each in conditions
            if (each["type"], each["status"]) == ("Ready", "True")
        ),
        "",
    )


def all_ready(place: support.Place, image: str) -> dict[str, dict[str, Any]] | None:
    """The pods, once those that follow the operator's image have it, and each is ready."""
    found = pods(place)
    fresh = [found[name]["spec"]["containers"][0]["image"] for name in FOLLOWING if name in found]
    whole = found.keys() == {OWN, *FOLLOWING} and all(map(ready_since, found.values()))
    return found if whole and all(each.endswith(f":{image}") for each in fresh) else None


def test_pods_are_replaced_in_turns_where_their_template_changed_and_left_alone_elsewhere(
    place: support.Place, helm: Callable[..., str]
) -> None:
    helm("install", "ours", FIRST, "--create-namespace", "--wait", "--timeout=120s")
    definitions.established(place.kubectl)
    for name in (OWN, *FOLLOWING):
        place.kubectl("apply", "-n", "default", "-f", "-", stdin=json.dumps(body(name)))
    before = until(lambda: all_ready(place, "0.1.0"), 120, "the pods of 0.1.0's chart are ready")
    helm("upgrade", "ours", CHART, "--reuse-values", "--set=upgradesAtOnce=1", "--wait", "--timeout=120s")
    today = yaml.safe_load(Path(CHART, "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    after = until(lambda: all_ready(place, today), 120, "the upgrade's pods are ready")

    assert life(after[OWN]) == life(before[OWN])
    assert not {life(after[name])[0] for name in FOLLOWING} & {life(before[name])[0] for name in FOLLOWING}
    early, later = (after[name] for name in FOLLOWING)
    assert ready_since(early) <= later["metadata"]["creationTimestamp"], "one after the other"

    # The same values once more, live settings and the definitions' older schema: all of it costs no pod.
    helm("upgrade", "ours", CHART, "--reuse-values", "--set=logLevel=debug", "--wait", "--timeout=120s")
    place.kubectl("apply", "--server-side", "--force-conflicts", "-f", f"{FIRST}/files")
    patch = json.dumps({"spec": {"idle": {"offloadAfterSeconds": 7}}})
    for name in (OWN, *FOLLOWING):
        place.kubectl("patch", f"ocr/{name}", "-n", "default", "--type=merge", f"--patch={patch}")
        until(partial(applied, place, name), what="the pod works by it")
    now = pods(place)
    assert {name: life(each) for name, each in now.items()} == {
        name: life(each) for name, each in after.items()
    }


def applied(place: support.Place, name: str) -> bool:
    """Whether the pod works by the live settings of the resource as it is now."""
    found = place.ask(f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}/{name}")
    return any(
        (each["type"], each["status"], each["observedGeneration"])
        == ("ConfigApplied", "True", found["metadata"]["generation"])
        for each in found["status"]["conditions"]
    )
