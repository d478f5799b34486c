"""What people see of a cluster, compared with stored texts, and what programs get."""

import json
import os
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_ocr import objects, text
from kubectl_ocr.objects import Node, Pod, Resource
from kubectl_ocr.views import status, top
from kubectl_ocr.views import why as why_view
from tests.support import paths

GOLDEN = paths.GOLDEN / "kubectl"
NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)


def stored(name: str, type_: type[objects.T]) -> list[objects.T]:
    found, unreadable = objects.many((GOLDEN / f"{name}.json").read_bytes(), type_)
    assert not unreadable
    return found


RESOURCES, PODS, NODES = (
    stored("ocrdeployments", Resource),
    stored("pods", Pod),
    stored("nodes", Node),
)


def views(resources: list[Resource], pods: list[Pod]) -> list[status.View]:
    spaces = status.pods_by_namespace(pods)
    return [status.view(each, spaces.get(each.metadata.namespace, []), NOW) for each in resources]


def why(name: str) -> str:
    pod = next(each for each in PODS if each.metadata.name == name)
    resource = next(each for each in RESOURCES if each.metadata.name == pod.deployment)
    return why_view.render(why_view.why(pod, resource), NOW)


def shown(name: str) -> str:
    match name:
        case "status":
            return status.render(views(RESOURCES, PODS), namespaces=True)
        case "top":
            return top.render(top.view(RESOURCES, PODS, NODES))
        case "top-without-nodes":
            return top.render(top.view(RESOURCES, PODS, None))
        case _:
            return "\n\n".join(why(each.metadata.name) for each in PODS)


@pytest.mark.parametrize("name", ["status", "top", "top-without-nodes", "why"])
def test_table_is_the_stored_one(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown(name) + "\n")
    assert shown(name) + "\n" == path.read_text()


def test_the_page_shows_the_stored_tables() -> None:
    page = (paths.DOCS / "kubectl-plugin.md").read_text()
    for each in (shown("status"), shown("top"), why("invoices-59d8b84b99-5ztl9")):
        assert f"\n{each}\n```" in page


@given(st.randoms(use_true_random=False))
def test_the_order_in_which_kubectl_lists_is_irrelevant(chance: random.Random) -> None:
    resources, pods, nodes = list(RESOURCES), list(PODS), list(NODES)
    for each in (resources, pods, nodes):
        chance.shuffle(each)
    assert top.view(resources, pods, nodes) == top.view(RESOURCES, PODS, NODES)
    assert sorted(views(resources, pods), key=lambda each: each.name) == sorted(
        views(RESOURCES, PODS), key=lambda each: each.name
    )


def test_programs_get_the_same_in_camel_case() -> None:
    [invoices, *_] = msgspec.to_builtins(views(RESOURCES, PODS))
    assert invoices["readyReplicas"] == 2
    assert invoices["pods"][0]["models"][0] == {
        "name": "deepseek-ocr",
        "state": "ready",
        "location": "gpu",
        "idleSeconds": 11,
        "next": "offload",
        "afterSeconds": 60,  # what the pod was told, a policy's for example, and not what the resource says
        "nextSeconds": 49,
    }
    [first, *_] = msgspec.to_builtins(top.view(RESOURCES, PODS, NODES))
    assert first["gpus"][0]["freeBytes"] == (46068 - 13 * 1024) * 2**20


def test_colours_change_no_column() -> None:
    painted = status.render(views(RESOURCES, PODS), text.coloured, namespaces=True)
    assert "\x1b[32m" in painted
    bare = painted
    for code in (text.GOOD, text.BAD, text.DIM, text.BOLD, text.WARM, "0"):
        bare = bare.replace(f"\x1b[{code}m", "")
    assert bare == shown("status")


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n" + "x" * 5000


def test_nothing_from_the_cluster_reaches_the_terminal_raw() -> None:
    body = json.loads((GOLDEN / "ocrdeployments.json").read_text())["items"]
    pods = json.loads((GOLDEN / "pods.json").read_text())["items"]
    hostile = [replaced(each, HOSTILE) for each in (*body, *pods)]
    resources = [msgspec.convert(each, Resource) for each in hostile if each["kind"] == "OcrDeployment"]
    read = [msgspec.convert(each, Pod) for each in hostile if each["kind"] == "Pod"]
    told = [
        status.render(views(resources, read), namespaces=True),
        top.render(top.view(resources, read, NODES)),
        *(why_view.render(why_view.why(each, resources[0]), NOW) for each in read),
    ]
    for each in told:
        assert not [char for char in each if char != "\n" and not char.isprintable()]
        assert all(len(line) < 5000 for line in each.splitlines())


def replaced(value: Any, text_: str, key: str = "") -> Any:
    """The object with hostile text in each field that is one."""
    if isinstance(value, dict):
        return {name: replaced(each, text_, name) for name, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, text_, key) for each in value]
    kept = {"kind", "type", "creationTimestamp", "idleSince", "memory"}
    return text_ if isinstance(value, str) and key not in kept and "/" not in key else value


def test_nothing_at_all_is_a_table_too() -> None:
    empty = Resource(metadata=objects.Metadata(name="new"))
    assert "hasn't looked at it yet" in status.render([status.view(empty, [], NOW)])
    assert "no node has GPUs" in top.render(top.view([empty], [], []))
