"""`status -w`: a list and then a watch, which goes on where it was, and is begun anew where that isn't possible."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_ocr.cli import Options
from kubectl_ocr.commands.watch import watch
from kubectl_ocr.errors import Failure
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.watching import Expired, Objects, WatchFailed
from ocr_wire import names
from ocr_wire.checked import Invalid
from tests.support.fakekubectl import Fake
from tests.support.patience import PATIENCE


def pod(name: str, version: int, **labels: str) -> dict[str, Any]:
    meta = {"namespace": "a", "name": name, "resourceVersion": str(version), "labels": labels}
    return {"kind": "Pod", "metadata": meta}


def line(kind: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode()


def listed(version: int, *items: dict[str, Any]) -> bytes:
    return json.dumps({"metadata": {"resourceVersion": str(version)}, "items": items}).encode()


def test_a_list_and_its_changes_are_what_is_there() -> None:
    pods = Objects(Pod)
    assert pods.replace(listed(4, pod("p", 1), pod("q", 3))) == []
    assert pods.version == "4"
    assert pods.apply(line("MODIFIED", pod("q", 6, x="y"))) is True
    assert pods.apply(line("DELETED", pod("p", 7))) is True
    assert pods.apply(line("BOOKMARK", {"metadata": {"resourceVersion": "90"}})) is False
    assert [(each.metadata.name, each.metadata.labels) for each in pods.all()] == [("q", {"x": "y"})]
    assert pods.version == "90"


def test_a_watch_that_cannot_go_on_is_told_from_one_that_failed() -> None:
    pods = Objects(Pod)
    gone = {"kind": "Status", "code": 410, "message": "too old resource version: 1 (9)"}
    assert pods.apply(line("ERROR", gone)) == Expired()
    assert pods.apply(line("ERROR", {"code": 500, "message": "etcd\x1b[2J is busy"})) == WatchFailed(
        "etcd [2J is busy"
    )
    for broken in (b"{", b"null", b'{"type": "ADDED"}', line("ADDED", {"metadata": {"name": 3}})):
        assert isinstance(pods.apply(broken), Invalid), broken
    assert pods.all() == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12), st.integers(0, 12))
def test_a_watch_that_begins_anywhere_ends_with_the_same_objects(
    changes: list[tuple[str, bool]], at: int
) -> None:
    """Listing again is the same as having followed from the start."""
    there: dict[str, dict[str, Any]] = {}
    followed, late = Objects(Pod), Objects(Pod)
    followed.replace(listed(0))
    late.replace(listed(0))
    for version, (name, stays) in enumerate(changes, 1):
        body = pod(name, version, v=str(version))
        event = "DELETED" if not stays else "MODIFIED" if name in there else "ADDED"
        there.pop(name, None)
        if stays:
            there[name] = body
        followed.apply(line(event, body))
        if version == at:
            late.replace(listed(version, *there.values()))
        elif version > at:
            late.apply(line(event, body))
    assert followed.all() == (late.all() if at <= len(changes) else followed.all())
    assert {each.metadata.name for each in followed.all()} == there.keys()


RESOURCES, PODS = f"/apis/{names.API_VERSION}/namespaces/a/{names.PLURAL}", "/api/v1/namespaces/a/pods"
ASKED = f"labelSelector={names.LABEL_DEPLOYMENT.replace('/', '%2F')}"


def resource(version: int, phase: str, since: str = "2026-11-25T07:00:00Z") -> dict[str, Any]:
    models = [{"name": "m", "state": "ready", "location": "gpu", "idleSince": since}]
    return {
        "metadata": {"namespace": "a", "name": "invoices", "resourceVersion": str(version), "generation": 1},
        "spec": {"models": [{"name": "m"}], "idle": {"offloadAfterSeconds": 31_000_000}},
        "status": {"observedGeneration": 1, "phase": phase, "pods": [{"name": "p", "models": models}]},
    }


def watched(path: str, version: int, query: str = "") -> str:
    rest = f"watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=240"
    return f"get --raw {path}?{query}{rest}"


class Following:
    """`status -w` as it runs."""

    def __init__(self, kubectl: Fake, capsys: pytest.CaptureFixture[str]) -> None:
        self._kubectl, self._capsys, self._shown = kubectl, capsys, ""
        kubectl.answers("config view", "a")
        kubectl.answers(f"get --raw {RESOURCES}", listed(5, resource(5, "Ready")).decode())
        kubectl.answers(f"get --raw {PODS}?{ASKED}", listed(7).decode())
        kubectl.answers(watched(RESOURCES, 5), stays=True)
        kubectl.answers(watched(PODS, 7, f"{ASKED}&"), stays=True)

    def says(self, kind: str, body: dict[str, Any], version: int = 5) -> None:
        """The watch of resources that began there goes on."""
        self._kubectl.adds(watched(RESOURCES, version), line(kind, body).decode() + "\n")

    async def until(self, words: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while words not in (shown := self._capsys.readouterr().out):
                self._shown += shown
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def runs(self, *, ticks: bool = False) -> AsyncIterator[asyncio.Task[None]]:
        options = Options(command="status", watch=True)
        running = asyncio.create_task(watch(options, self._kubectl.cluster, ticks=ticks))
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.wait([running])

    def calls(self, path: str) -> list[str]:
        return [each for each in self._kubectl.calls().splitlines() if f"--raw {path}" in each]


@pytest.fixture
def following(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Following:
    return Following(Fake(tmp_path), capsys)


async def test_changes_are_drawn_and_nothing_is_asked_again(following: Following) -> None:
    async with following.runs(ticks=True):
        await following.until("invoices")
        following.says("MODIFIED", resource(8, "Degraded"))
        await following.until("Degraded")
        await following.until("Degraded")  # a second later, since countdowns tick
        following.says("DELETED", resource(9, "Degraded"))
        await following.until("\x1b[2JNAME  STATE")
    assert (len(following.calls(RESOURCES)), len(following.calls(PODS))) == (2, 2), (
        "a list and a watch of each"
    )


async def test_a_version_that_is_too_old_is_followed_by_a_list(following: Following, tmp_path: Path) -> None:
    kubectl = Fake(tmp_path)
    async with following.runs():
        await following.until("Ready")
        kubectl.answers(f"get --raw {RESOURCES}", listed(90, resource(90, "Progressing")).decode())
        kubectl.answers(watched(RESOURCES, 90), stays=True)
        following.says("ERROR", {"kind": "Status", "code": 410, "message": "too old"})
        await following.until("Progressing")
        following.says("MODIFIED", resource(91, "Stalled"), version=90)
        await following.until("Stalled")


async def test_a_watch_that_breaks_goes_on_from_the_last_bookmark(
    following: Following, tmp_path: Path
) -> None:
    kubectl = Fake(tmp_path)
    kubectl.answers(watched(RESOURCES, 5), line("BOOKMARK", resource(60, "")).decode() + "\n", "")
    kubectl.answers(watched(RESOURCES, 60), err="The connection to the server x was refused")
    async with following.runs():
        await following.until("can't be reached now")
        kubectl.answers(watched(RESOURCES, 60), stays=True)
        following.says("MODIFIED", resource(61, "Stalled"), version=60)
        await following.until("Stalled")
        assert len([each for each in following.calls(RESOURCES) if "watch" not in each]) == 1, "listed once"


async def test_what_does_not_pass_by_itself_ends_it(following: Following, tmp_path: Path) -> None:
    denied = 'Error from server (Forbidden): pods is forbidden: User "eve" cannot watch resource "pods" in API group ""'
    Fake(tmp_path).answers(watched(PODS, 7, f"{ASKED}&"), err=denied)
    async with following.runs() as running:
        with pytest.raises(Failure, match=r"you \(eve\) may not watch pods"):
            async with asyncio.timeout(PATIENCE):
                await running
