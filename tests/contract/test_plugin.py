"""The plugin shares `ocr_wire` with the operator and the server, and no other code: here it reads what they write."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
import pytest_asyncio

from kubectl_ocr import podhttp
from kubectl_ocr.commands.follow import by_job
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects import reading
from kubectl_ocr.objects.cluster import Event
from kubectl_ocr.objects.part import Metadata
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import ModelStatus, PodStatus, Resource, Status
from kubectl_ocr.views import status as status_view
from kubectl_ocr.views import why as why_view
from kubectl_ocr.views.progress import Reading
from ocr_operator.decide import preemption, routing, status
from ocr_operator.decide.placement import types
from ocr_operator.decide.preemption import messages
from ocr_operator.decide.status import PodSeen, Seen
from ocr_operator.resources import live_settings, observed, spec
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.live_settings import envelope
from tests.support import inference, pages, resources
from tests.support.observations import raw_pod, raw_state
from tests.support.pdfs import PdfPage, pdf

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)


def test_every_basis_of_a_placement_is_explained() -> None:
    assert why_view.BASES.keys() == set(types.Basis)


def test_pods_that_have_a_gpu_as_a_whole_are_known() -> None:
    assert why_view.WHOLE.keys() < set(get_args(spec.Sharing))


def test_decision_live_settings_and_status_are_read() -> None:
    """A pod as the operator annotates it, and its entry in the status."""
    deployment = resources.make_deployment(idle={"offloadAfterSeconds": 42})
    values = live_settings.values(deployment.spec)
    live = envelope(3, 2, values)
    placed = types.Placement(
        pod="default/a",
        uid="uid-a",
        deployment="default/invoices",
        sharing="shared",
        node="gpu-a",
        gpus=(types.Gpu(uuid="GPU-1", product="NVIDIA-L40S"),),
        memory_bytes=2**30,
        score=0.5,
        basis=types.Basis.METRICS,
        data_age_seconds=4,
        runners_up=(types.RunnerUp(node="gpu-b", uuid="GPU-2", score=0.25),),
        why="gpu-a/GPU-1 is the only one that fits 1Gi",
    )
    annotations = {
        names.ANNOTATION_PLACEMENT: placed.to_json(NOW),
        names.ANNOTATION_LIVE_SETTINGS: live.to_json(),
    }
    raw = raw_pod("a", annotations=annotations)
    name = deployment.spec.models[0].name
    state = podstate.parse(raw_state("a", models={name: ("ready", "gpu")}))
    assert isinstance(state, podstate.PodState)
    seen = Seen(pods=(PodSeen(pod=observed.pod(raw), state=state),), live=live)
    written = status.aggregate(deployment, seen, NOW)

    pod = reading.one(json.dumps(raw).encode(), Pod)
    body = {"metadata": {"name": "invoices"}, "status": written}
    resource = reading.one(json.dumps(body).encode(), Resource)
    assert isinstance(pod, Pod)
    assert isinstance(resource, Resource)
    view = status_view.view(resource, [pod], NOW)
    [told] = view.pods
    assert view.phase == written["phase"]
    assert any(": Creating" in note for note in view.notes)
    [model] = told.models
    assert (told.state, told.gpus[0].uuid, model.state, model.location) == ("ready", "GPU-1", "ready", "gpu")
    assert (model.next, model.after_seconds) == ("offload", 42)
    why = why_view.why(pod, resource, (), NOW)
    assert (why.why, why.node, why.gpus, why.memory_bytes) == (placed.why, "gpu-a", ("GPU-1",), 2**30)
    assert (why.score, why.basis, why.data_age_seconds, why.placed_at) == (0.5, "metrics", 4, NOW)
    assert [(each.node, each.uuid, each.score) for each in why.runners_up] == [("gpu-b", "GPU-2", 0.25)]


def test_reasons_of_routing_and_preemption_are_read() -> None:
    """A pod that got no requests any more, and whose model made way, as the operator words it."""
    placed = raw_pod("a", annotations={names.ANNOTATION_LIVE_SETTINGS: "{}"})
    for operation in routing.patch(observed.pod(placed), ("b joins in place of a",), NOW, awake=False)[1:]:
        _, _, kind, key = operation["path"].split("/")
        placed["metadata"][kind][key.replace("~1", "/")] = operation["value"]
    copies = [preemption.Copy(key=("default", "r"), pod=pod, uid="", model="ocr") for pod in ("a", "x-1")]
    waiter = preemption.Waiter(
        copy=copies[1], gpu="GPU-1", lack_bytes=2**30, since=NOW, priority=0, reserved=False
    )
    victim = preemption.Resident(
        copy=copies[0],
        gpu="GPU-1",
        held_bytes=2**31,
        priority=0,
        preload=False,
        reserved=False,
        ready_since=NOW,
        idle_since=NOW,
    )
    told = Event(
        reason="GpuMemoryYielded", message=messages.why(victim, waiter, "the idlest"), last_timestamp=NOW
    )
    pod = reading.one(json.dumps(placed).encode(), Pod)
    left = PodStatus(
        name="a", models=[ModelStatus(name="ocr", state="offloaded", location="cpu", idle_since=NOW)]
    )
    resource = Resource(metadata=Metadata(name="r"), status=Status(pods=[left]))
    assert isinstance(pod, Pod)
    why = why_view.why(pod, resource, [told], NOW)
    assert why.requests is not None
    assert (why.requests.awake, why.requests.why, why.requests.since) == (False, "b joins in place of a", NOW)
    [model] = why.models
    assert model.why == "made way 0s ago for ocr of default/x-1, which lacks 1Gi: the idlest"
    assert [each.reason for each in why.memory] == ["GpuMemoryYielded"]


async def test_controls_and_pages_of_the_real_server(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    async with inference.server(admin_token_file=token) as running:
        pod = podhttp.Server(running.http, "a")
        with pytest.raises(Failure, match="refuses the token") as failed:
            await pod.control("/gpu/load", "")
        assert failed.value.status is Exit.NOT_ALLOWED

        running.http.headers["Authorization"] = "Bearer s3cret"
        for path, state, where in (
            ("/gpu/load", "ready", "cpu"),
            ("/gpu/offload", "offloaded", "cpu"),
            ("/gpu/release", "unloaded", "unloaded"),
        ):
            done = await pod.control(path, "slow")
            assert (done.model, done.state, done.model_location) == ("slow", state, where)
        answer = await pod.read(pages.blank(), "page", {"prompt_type": "document"})
        assert isinstance(answer["text"], str)
        with pytest.raises(Failure, match="is no picture") as failed:
            await pod.read(b"text", "page", {})
        assert failed.value.status is Exit.USAGE


THREE = pdf([PdfPage("one"), PdfPage("two"), PdfPage("three")])


class Road:
    """Connections to a server, of which the first ones break."""

    def __init__(self, running: inference.Server, breaks: int = 0) -> None:
        self.pod = podhttp.Server(running.http, "a")
        self.breaks, self.opened = breaks, 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[podhttp.Server]:
        self.opened += 1
        if 1 < self.opened <= 1 + self.breaks:  # the first one submits the job
            raise Failure("the port-forward ended", Exit.LATER)
        yield self.pod


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[inference.Server]:
    async with inference.server(inference.FAKE) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_a_document_is_read_by_a_job_of_the_real_server(server: inference.Server) -> None:
    told: list[Reading] = []
    road = Road(server, breaks=1)
    fields = {"prompt_type": "document", "model": "quick", "pages": "1-2"}
    found = await by_job(THREE, "a.pdf", fields, connect=road.connect, within=60, progress=told.append)
    _, whole = await server.read(THREE, pages="1-2")
    assert found.pages == tuple(page["text"] for page in whole["pages"])
    assert (found.errors, told[-1].total, told[-1].done) == ((), 2, 2)
    assert road.opened == 5, "submitted, broken, followed, fetched, dropped"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("kind", "begins"), [("docx", b"PK"), ("pdf", b"%PDF-")])
async def test_a_document_is_made_by_the_real_server(
    server: inference.Server, kind: str, begins: bytes
) -> None:
    found = await by_job(
        THREE,
        "a.pdf",
        {"model": "quick"},
        connect=Road(server).connect,
        within=60,
        progress=lambda _: None,
        made_as=kind,
    )
    assert found.encoded(kind, "a.pdf").startswith(begins)
    assert len(found.pages) == 3


@pytest.mark.asyncio(loop_scope="module")
async def test_a_document_that_the_server_refuses_says_why(server: inference.Server) -> None:
    road = Road(server)
    with pytest.raises(Failure, match="pod a refuses: ") as failed:
        await by_job(
            b"%PDF-1.7 of nothing", "a.pdf", {}, connect=road.connect, within=60, progress=lambda _: None
        )
    assert failed.value.status is Exit.USAGE


@pytest.mark.asyncio(loop_scope="module")
async def test_an_end_of_the_command_cancels_the_job(server: inference.Server) -> None:
    begun = asyncio.Event()
    road = Road(server)
    reading = asyncio.create_task(
        by_job(
            THREE, "a.pdf", {"model": "slow"}, connect=road.connect, within=60, progress=lambda _: begun.set()
        )
    )
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await server.metric('ocr_jobs_ended_total{state="cancelled"}') == 1
