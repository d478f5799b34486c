"""What Prometheus makes of the exporters' metrics is read back; what it makes up isn't believed."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from ocr_operator.gpuload import prometheus_answers
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.gpuload.prometheus import Prometheus
from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from tests.support import fakepod, marks, webserver
from tests.support.paths import GOLDEN
from tests.support.patience import PATIENCE

SAMPLES = GOLDEN / "dcgm"
LOAD, TIMES = ((SAMPLES / f"{name}.json").read_bytes() for name in ("prometheus", "prometheus-times"))
NODES = {"gpu-a", "gpu-b"}
EXPORTERS = {"gpu-operator/nvidia-dcgm-exporter-x2x4z"}
MIB = 2**20


NOTHING = b'{"status":"success","data":{"resultType":"vector","result":[]}}'


def read(
    load: bytes, times: bytes, nodes: set[str], exporters: set[str] | None = None, targets: bytes = NOTHING
) -> list[GpuReading]:
    return list(prometheus_answers.read(load, times, targets, nodes, exporters or set()).readings)


def uuid(last: str) -> str:
    return f"GPU-8f2c1d30-0000-4000-8000-{last.zfill(12)}"


class TestAnswers:
    def test_labels_that_were_pushed_aside_are_read(self) -> None:
        busy, idle, broken = read(LOAD, TIMES, NODES, EXPORTERS)
        assert (busy.node, busy.uuid, busy.product) == ("gpu-a", uuid("1"), "NVIDIA-L40S")
        assert (busy.memory_used_bytes, busy.utilization) == (12468 * MIB, 0.87)
        assert (busy.holders, busy.source) == (("team-a/invoices-0",), Source.PROMETHEUS)
        assert idle.holders == (), "the exporter's own pod holds nothing"
        assert (broken.node, broken.product) == ("gpu-b", "NVIDIA-L4")
        assert (broken.memory_used_bytes, broken.memory_total_bytes) == (None, None)

    def test_the_time_is_that_of_the_sample(self) -> None:
        busy, stale, broken = read(LOAD, TIMES, NODES)
        assert busy.read_at == datetime.fromtimestamp(1795593590.5, UTC)
        assert stale.read_at == datetime.fromtimestamp(1795593310, UTC)
        assert broken.read_at is None
        assert {each.read_at for each in read(LOAD, NOTHING, NODES)} == {None}

    def test_gpus_of_other_clusters_are_left_out(self) -> None:
        assert read(LOAD, TIMES, {"gpu-b"})[0].node == "gpu-b"
        assert read(LOAD, TIMES, set()) == []

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"<html>", "no answer of Prometheus"),
            (b"[" * 100_000, "no answer of Prometheus"),
            (b'{"status":"error","errorType":"bad_data","error":"parse error"}', "parse error"),
            (b'{"status":"success"}', "refuses the query: success"),
            (b'{"status":"success","data":{"resultType":"scalar","result":[1795593600,"1"]}}', "no answer"),
        ],
    )
    def test_other_answers_are_refused_by_name(self, body: bytes, words: str) -> None:
        with pytest.raises(prometheus_answers.InvalidAnswer, match=words):
            read(body, TIMES, NODES)

    @pytest.mark.parametrize("value", ["", "x", "NaN", "+Inf", "-1", "1e999", "9.2e18"])
    def test_values_that_no_gpu_has_count_as_absent(self, value: str) -> None:
        body = json.loads(LOAD)
        for series in body["data"]["result"]:
            series["value"][1] = value
        found = read(json.dumps(body).encode(), TIMES, NODES)
        assert all(each.memory_used_bytes is None for each in found)
        times = json.loads(TIMES)
        for series in times["data"]["result"]:
            series["value"][1] = value
        read(LOAD, json.dumps(times).encode(), NODES)


@asynccontextmanager
async def asking(
    answer: Callable[[web.Request, str], web.Response], token: Path | None = None
) -> AsyncIterator[tuple[Prometheus, Metrics]]:
    async def query(request: web.Request) -> web.Response:
        return answer(request, str((await request.post())["query"]))

    app = web.Application()
    app.add_routes([web.post("/api/v1/query", query)])
    metrics = Metrics(CollectorRegistry())
    async with webserver.serving(app, fakepod.address()) as url, wire.session() as session:
        yield (
            Prometheus(
                session,
                f"{url}/",
                token_file=str(token) if token else "",
                nodes=lambda: NODES,
                exporters=lambda: EXPORTERS,
                interval=0.01,
                metrics=metrics,
                rng=random.Random(1),
                on_first=lambda: None,
                on_round=lambda: None,
            ),
            metrics,
        )


def respond(body: bytes, **more: Any) -> web.Response:
    return web.Response(body=body, content_type="application/json", **more)


async def test_three_questions_make_readings(tmp_path: Path) -> None:
    seen = []

    def answer(request: web.Request, query: str) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return respond(TIMES if query.startswith("timestamp(") else LOAD)

    token = tmp_path / "token"
    token.write_text("secret\n")
    async with asking(answer, token) as (prometheus, _):
        await prometheus.ask()
        assert len(prometheus.readings()) == 3
    assert seen == ["Bearer secret"] * 3


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (lambda: respond(b"{}", status=401), "PROMETHEUS_TOKEN_FILE"),
        (lambda: respond(b"{}", status=500), "answered 500"),
        (lambda: respond(b'{"status":"error","error":"no such thing"}', status=400), "no such thing"),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "answered 302"),
    ],
)
async def test_trouble_is_logged_once_and_the_last_readings_stay(
    response: Callable[[], web.Response], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = False

    def answer(_: web.Request, query: str) -> web.Response:
        return response() if broken else respond(TIMES if query.startswith("timestamp(") else LOAD)

    async with asking(answer) as (prometheus, metrics):
        await prometheus.ask()
        broken = True
        await prometheus.ask()
        await prometheus.ask()
        assert len(prometheus.readings()) == 3
        assert (
            metrics.registry.get_sample_value("ocr_operator_prometheus_queries_total", {"result": "failed"})
            == 2
        )
    warnings = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1
    assert words in warnings[0]


async def test_it_asks_again_and_again_until_it_is_ended() -> None:
    enough = asyncio.Event()
    asked = 0

    def answer(_: web.Request, query: str) -> web.Response:
        nonlocal asked
        asked += 1
        if asked >= 6:
            enough.set()
        return respond(TIMES if query.startswith("timestamp(") else LOAD)

    async with asking(answer) as (prometheus, _), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(prometheus.run())
        async with asyncio.timeout(PATIENCE):
            await enough.wait()
        running.cancel()


@pytest.mark.parametrize("raw", [b"\xef\xbb\xbf%s\r\n", b"\n %s"])
async def test_a_token_that_is_repeated_is_in_no_line(
    tmp_path: Path, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    secret = marks.mark()

    def answer(request: web.Request, query: str) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {secret}"
        return respond(b'{"status":"error","errorType":"x","error":"no %s"}' % secret.encode())

    token = tmp_path / "token"
    token.write_bytes(raw % secret.encode())
    async with asking(answer, token) as (prometheus, _):
        await prometheus.ask()
    assert "doesn't help placement" in caplog.text
    assert not marks.leaks(caplog.text, secret)


async def test_a_token_that_no_header_takes_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = marks.mark()
    token = tmp_path / "token"
    token.write_text(f"{secret}é")
    async with asking(lambda request, query: respond(LOAD), token) as (prometheus, _):
        await prometheus.ask()
    assert f"the token in {token} has a character that can't be in a header" in caplog.text
    assert not marks.leaks(caplog.text, secret)


def test_matchers_are_in_every_question() -> None:
    asked = prometheus_answers.queries('cluster="eu",env!="test"')
    assert asked.load.endswith(',cluster="eu",env!="test"}')
    assert asked.times.count('{cluster="eu",env!="test"}') == asked.times.count("timestamp(")
    assert asked.targets.startswith('up{cluster="eu",env!="test"} and on (job, instance) {__name__=~')
    assert "{}" not in "".join(vars_of(prometheus_answers.queries()))


def vars_of(asked: prometheus_answers.Queries) -> tuple[str, str, str]:
    return asked.load, asked.times, asked.targets
