import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.exporters import Exporters
from ocr_operator.gpuload.trust import Trust
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.resources.observed import Owner, Pod
from ocr_wire import names
from tests.support import fakepod, webserver
from tests.support.oddsession import OddSession
from tests.support.patience import PATIENCE

PORT = fakepod.free_port()
T0 = datetime(2026, 11, 23, 8, tzinfo=UTC)
LABELS = '{gpu="0",UUID="GPU-1",modelName="NVIDIA L40S"}'


def text(used: int) -> str:
    return f"{dcgm.FB_USED}{LABELS} {used}\n{dcgm.FB_FREE}{LABELS} {46068 - used}\n"


@asynccontextmanager
async def scraping(pods: list[Pod]) -> AsyncIterator[Exporters]:
    async with wire.session() as session:
        yield Exporters(
            session,
            lambda: pods,
            trust=Trust(owners={"DaemonSet"}),
            port=PORT,
            interval=1,
            now=lambda: T0,
            metrics=Metrics(CollectorRegistry()),
            rng=random.Random(1),
        )


def make_pod(ip: str, node: str = "gpu-a") -> Pod:
    return Pod(
        name=f"exporter-{node}", namespace="gpu-operator", uid=node, ip=ip, node=node, phase="Running",
        owner=Owner(kind="DaemonSet", name="nvidia-dcgm-exporter", uid="1"),
    )  # fmt: skip


async def test_readings_bear_the_pods_node_and_the_time() -> None:
    ip = fakepod.address()
    async with scraping([make_pod(ip)]) as exporters, fakepod.serve_metrics(lambda: text(100), ip, PORT):
        await exporters.scrape()

    [reading] = exporters.readings()
    assert (reading.node, reading.uuid, reading.read_at) == ("gpu-a", "GPU-1", T0)
    assert reading.memory_used_bytes == 100 * 2**20


async def test_silent_exporter_keeps_its_last_readings_and_a_gone_one_does_not() -> None:
    ip = fakepod.address()
    pods = [make_pod(ip)]
    async with scraping(pods) as exporters:
        async with fakepod.serve_metrics(lambda: text(100), ip, PORT):
            await exporters.scrape()
        await exporters.scrape()
        assert len(exporters.readings()) == 1

        pods.clear()
        await exporters.scrape()
        assert exporters.readings() == []


async def test_hostile_exporter_costs_nothing_but_its_own_readings() -> None:
    good, flood, redirect = fakepod.address(), fakepod.address(), fakepod.address()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(20):
                await response.write(b"x" * 2**20)
        except ConnectionError:
            pass
        return response

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(location="http://127.0.0.1:1/metrics")

    async with AsyncExitStack() as servers:
        for ip, handler in ((flood, endless), (redirect, away)):
            app = web.Application()
            app.add_routes([web.get("/metrics", handler)])
            await servers.enter_async_context(webserver.serving(app, ip, PORT))
        await servers.enter_async_context(fakepod.serve_metrics(lambda: text(7), good, PORT))
        pods = [make_pod(good), make_pod(flood, "b"), make_pod(redirect, "c"), make_pod("nowhere", "d")]
        async with asyncio.timeout(PATIENCE), scraping(pods) as exporters:
            await exporters.scrape()

    assert [each.node for each in exporters.readings()] == ["gpu-a"]


async def test_failure_of_whatever_kind_is_the_exporters_alone_and_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    session: Any = OddSession()
    exporters = Exporters(
        session,
        lambda: [make_pod("127.0.0.1"), make_pod("127.0.0.2", "gpu-b")],
        trust=Trust(owners={"DaemonSet"}),
        port=PORT,
        interval=1,
        now=lambda: T0,
        metrics=Metrics(registry),
        rng=random.Random(1),
    )
    await exporters.scrape()

    assert registry.get_sample_value("ocr_operator_scrapes_total", {"result": "failed"}) == 2
    assert sum(bool(each.exc_info) for each in caplog.records) == 2


@pytest.mark.parametrize(
    ("owner", "owners", "answer"),
    [
        (None, {"DaemonSet"}, False),
        (Owner(kind="ReplicaSet", name="mine", uid="1"), {"DaemonSet"}, False),
        (Owner(kind="DaemonSet", name="dcgm", uid="1"), {"DaemonSet"}, True),
        (Owner(kind="DaemonSet", name="dcgm", uid="1"), {"DaemonSet/other"}, False),
        (Owner(kind="StaticSet", name="dcgm", uid="1"), {"StaticSet/dcgm"}, True),
        (None, {"*"}, True),
    ],
)
def test_an_exporter_is_known_by_its_owner(owner: Owner | None, owners: set[str], answer: bool) -> None:
    objection = Trust(owners=owners).objection(replace(make_pod("10.0.0.1"), owner=owner))
    assert ("EXPORTER_OWNERS" in objection) is not answer


@pytest.mark.parametrize(
    ("namespace", "configured", "answer"),
    [
        ("gpu-operator", set(), True),
        ("default", set(), True),
        ("ocr-system", set(), True),
        ("metrics", set(), True),
        ("invoices", set(), False),
        ("", set(), False),
        ("invoices", {"invoices"}, True),
        ("gpu-operator", {"invoices"}, False),
        ("invoices", {"*"}, True),
    ],
)
def test_an_exporter_is_known_by_its_namespace(namespace: str, configured: set[str], answer: bool) -> None:
    """Users have rights in some, and may run a DaemonSet there; labels of namespaces they can't set."""
    labels = {
        "metrics": {names.LABEL_GPU_EXPORTERS: "trusted"},
        "invoices": {names.LABEL_GPU_EXPORTERS: "no"},
    }
    trust = Trust(
        owners={"DaemonSet"},
        namespaces=configured,
        home="ocr-system",
        labels=lambda name: labels.get(name, {}),
    )
    objection = trust.objection(replace(make_pod("10.0.0.1"), namespace=namespace))
    assert (objection == "") is answer
    assert answer or f"kubectl label namespace {namespace} ocr-operator.io/gpu-exporters=trusted" in objection


async def test_a_namespace_that_gets_the_label_is_believed_from_then_on() -> None:
    ip = fakepod.address()
    labels: dict[str, str] = {}
    async with wire.session() as session, fakepod.serve_metrics(lambda: text(100), ip, PORT):
        exporters = Exporters(
            session,
            lambda: [replace(make_pod(ip), namespace="invoices")],
            trust=Trust(owners={"DaemonSet"}, labels=lambda _: labels),
            port=PORT,
            interval=1,
            now=lambda: T0,
            metrics=Metrics(CollectorRegistry()),
            rng=random.Random(1),
        )
        await exporters.scrape()
        assert exporters.readings() == []
        labels[names.LABEL_GPU_EXPORTERS] = names.TRUSTED
        await exporters.scrape()
        assert len(exporters.readings()) == 1


async def test_a_pod_that_only_has_the_labels_is_not_asked(caplog: pytest.LogCaptureFixture) -> None:
    ip = fakepod.address()
    pods = [replace(make_pod(ip), owner=None)]
    async with scraping(pods) as exporters, fakepod.serve_metrics(lambda: text(100), ip, PORT):
        await exporters.scrape()
        await exporters.scrape()
    assert exporters.readings() == []
    assert [each.message for each in caplog.records if "EXPORTER_OWNERS" in each.message] == [
        "not believed as an exporter pod=gpu-operator/exporter-gpu-a: by its owner; see OCR_OPERATOR_EXPORTER_OWNERS"
    ]


async def test_an_answer_that_takes_long_to_read_holds_nothing_up() -> None:
    """The loop turns thousands of times meanwhile; when it reads by itself, as often as bytes come."""
    ip, sent, turns = fakepod.address(), asyncio.Event(), 0
    line = 'DCGM_FI_DEV_FB_USED{UUID="GPU-1",a="' + '\\"' * 1000 + '"} 1\n'

    def answer() -> str:
        sent.set()
        return line * (dcgm.MAX_BYTES // len(line))

    async def turning() -> None:
        nonlocal turns
        await sent.wait()
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with scraping([make_pod(ip)]) as exporters, fakepod.serve_metrics(answer, ip, PORT):
        task = asyncio.create_task(turning())
        await exporters.scrape()
        task.cancel()
    assert len(exporters.readings()) == 1
    assert turns > 2000
