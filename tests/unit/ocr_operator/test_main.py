import asyncio
import base64
import io
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http_exceptions import BadHttpMessage
from prometheus_client import CollectorRegistry, Counter, Histogram

from ocr_operator import logs, probes
from ocr_operator.controllers import handlers
from ocr_operator.metrics import Metrics
from ocr_wire import tokens
from ocr_wire.redaction import Redactor
from tests.support import marks, prometheus
from tests.support.patience import PATIENCE


def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OCR_", "KUBE"))}
    return subprocess.run(
        [sys.executable, "-m", "ocr_operator", *arguments],
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_version_is_told() -> None:
    done = run("--version")

    assert (done.returncode, done.stdout.split()[0]) == (0, "ocr-operator")


def test_setting_that_cannot_be_meant_ends_it_with_its_name() -> None:
    done = run(OCR_OPERATOR_PORT="no")

    assert done.returncode == 2
    assert done.stderr == "ocr-operator: OCR_OPERATOR_PORT='no' is not a whole number from 0 to 65535\n"


def test_no_api_server_ends_it_with_the_way_out(tmp_path: Path) -> None:
    done = run("run", "--log-format=json", HOME=str(tmp_path))

    assert done.returncode == 1
    [line] = [json.loads(each) for each in done.stderr.splitlines()]
    assert line["level"] == "error"
    assert "set KUBECONFIG" in line["message"]


def written(style: str) -> str:
    stream = io.StringIO()
    root, ours = logging.getLogger(), logging.getLogger("ocr_operator")
    before = (root.handlers[:], root.level, ours.level)
    try:
        logs.configure("info", style, stream)
        logging.getLogger("ocr_operator.test").info("placed pod=%s", "a", extra={"node": "gpu-a"})
        logging.getLogger("somebody.else").info("chatter")
    finally:
        root.handlers[:], root.level = before[0], before[1]
        ours.setLevel(before[2])
    return stream.getvalue()


def test_lines_are_for_people_or_for_machines() -> None:
    assert written("text").endswith("info    placed pod=a node=gpu-a\n")
    line = json.loads(written("json"))
    assert (line["message"], line["node"], line["level"]) == ("placed pod=a", "gpu-a", "info")


@asynccontextmanager
async def probed(host: str = "127.0.0.1", **more: object) -> AsyncIterator[int]:
    """The port of probes that have nothing to say."""
    quiet = {"unhealthy_reason": lambda: "", "ready": lambda: True, "registry": CollectorRegistry()}
    async with probes.serve(host, 0, **quiet, **more) as port:  # type: ignore[arg-type]  # mixed on purpose
        yield port


async def test_connections_that_are_held_open_keep_no_probe_out() -> None:
    async with probed() as port, aiohttp.ClientSession() as http:
        held = []
        try:
            for _ in range(3 * probes.MOST_CONNECTIONS):
                held.append(await asyncio.open_connection("127.0.0.1", port))
                held[-1][1].write(b"GET /livez HTTP/1.1\r\nX: ")
            async with http.get(f"http://127.0.0.1:{port}/livez") as response:
                assert response.status == 200
            assert await held[0][0].read() == b""
        finally:
            for _, writer in held:
                writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /livez HTTP/1.1\r\nX: ", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_a_connection_without_a_request_is_closed(sent: bytes) -> None:
    async with probed(silent_seconds=0.2) as port, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await reader.read()
        writer.close()


async def test_all_addresses_are_those_of_ipv6_and_ipv4() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    async with probed("") as port, aiohttp.ClientSession() as http:
        for host in ("127.0.0.1", "[::1]"):
            async with http.get(f"http://{host}:{port}/readyz") as response:
                assert response.status == 200


async def test_probes_tell_what_is_wrong() -> None:
    wrong, ready, registry = [""], [False], CollectorRegistry()
    Counter("counted", "x", registry=registry).inc()
    Histogram("timed", "x", registry=registry).observe(1)
    async with (
        probes.serve(
            "127.0.0.1", 0, unhealthy_reason=lambda: wrong[0], ready=lambda: ready[0], registry=registry
        ) as port,
        aiohttp.ClientSession() as session,
    ):

        async def get(path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status, await response.text()

        assert await get("/livez") == (200, "ok")
        assert (await get("/readyz"))[0] == 503
        wrong[0], ready[0] = "the owner loop hangs", True
        assert await get("/livez") == (503, "the owner loop hangs")
        assert await get("/readyz") == (200, "ok")
        assert "counted_total 1.0" in (await get("/metrics"))[1]
        for header, media_type in prometheus.ACCEPT.values():
            at = f"http://127.0.0.1:{port}/metrics"
            async with session.get(at, headers={"Accept": header}) as response:
                assert response.headers["Content-Type"] == media_type
                text = await response.text()
                assert prometheus.families(text, media_type) == {"counted", "timed"}
                assert "_created" not in text


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_line_has_a_secret_in_it(style: str) -> None:
    secret, stream = marks.mark(), io.StringIO()
    record = logging.LogRecord("asyncio", logging.ERROR, "f", 1, "to %s", (f"http://u:{secret}@h/",), None)
    try:
        raise ValueError(f"Illegal header value b'Bearer {secret}\\n'")
    except ValueError:
        record.exc_info = sys.exc_info()
    record.node = f"gpu-a {base64.b64encode(secret.encode()).decode()}"
    handler = logging.StreamHandler(stream)
    handler.setFormatter({"text": logs.Text, "json": logs.Json}[style](Redactor([secret])))
    handler.emit(record)
    written = stream.getvalue()
    assert not marks.leaks(written, secret)
    assert "Illegal header value b'Bearer [redacted]" in written
    assert "gpu-a [redacted]" in written
    if style == "json":
        assert json.loads(written)["message"] == "to http://[redacted]@h/"


def test_what_an_http_parser_quotes_is_in_no_line() -> None:
    error = BadHttpMessage("Invalid header value char:\n\n  b'cr3t\\x01x'")
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "f", 1, "Error", (), None)
    record.exc_info = (BadHttpMessage, error, None)
    assert logs.quieten(record)
    assert logs.Text().format(record).endswith("Error: not HTTP: Invalid header value char")


def test_what_ends_it_at_the_start_is_said_without_secrets(tmp_path: Path) -> None:
    secret = marks.mark()
    file = tmp_path / "config"
    file.write_text(
        json.dumps(
            {
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"http://eve:{secret}@127.0.0.1:x"}}],
                "users": [{"name": "u", "user": {"token": secret}}],
            }
        )
    )
    done = run(
        "run", KUBECONFIG=str(file), OCR_OPERATOR_PORT="0", OCR_OPERATOR_HOST="256.0.0.1", MY_PASSWORD=secret
    )
    assert done.returncode == 1
    assert not marks.leaks(done.stdout + done.stderr, secret)
    assert "cannot start" in done.stderr


def test_lines_with_a_traceback_are_counted_by_their_module() -> None:
    registry = CollectorRegistry()
    log = logging.getLogger("ocr_operator.pods.wire")
    with logs.counted(Metrics(registry).faults):
        log.warning("a warning is no fault")
        for each in (log, logging.getLogger("asyncio")):
            try:
                raise LookupError("odd")
            except LookupError:
                each.exception("failed")
    log.error("after the end", exc_info=LookupError("odd"))

    def count(module: str) -> float | None:
        return registry.get_sample_value("ocr_operator_faults_total", {"module": module})

    assert (count("pods.wire"), count("other")) == (1, 1)
    assert count("probes") == 0, "there from the start"
    assert count("pods") is None, "a package that writes no lines"


async def test_metrics_are_told_to_who_has_the_token_and_probes_to_all(tmp_path: Path) -> None:
    file = tmp_path / "token"

    def token() -> str:
        return tokens.parse(file.read_bytes())

    async with probed(metrics_token=token) as port, aiohttp.ClientSession() as http:

        async def get(path: str, authorization: str = "") -> int:
            headers = {"Authorization": authorization} if authorization else {}
            async with http.get(f"http://127.0.0.1:{port}{path}", headers=headers) as response:
                return response.status

        assert await get("/metrics", "Bearer ") == 401, "there is no file yet"
        file.write_text("\n")
        assert await get("/metrics", "Bearer ") == 401, "an empty token is none"
        file.write_text("a-token\n")
        assert await get("/metrics", "Bearer a-token") == await get("/metrics", "bearer a-token") == 200
        for wrong in ("", "Bearer another", "Basic a-token", "Bearer a-tokenx", "Bearer ä"):
            assert await get("/metrics", wrong) == 401
        file.write_text("another")
        assert await get("/metrics", "Bearer another") == 200, "it can be rotated"
        assert await get("/livez") == await get("/readyz") == 200


async def until_cancelled(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("controller")


async def test_work_ends_when_it_is_stopped_and_says_if_it_ended_by_itself() -> None:
    ended: list[str] = []
    stopping = asyncio.Event()
    work = handlers.Work(lambda: until_cancelled(ended), stopping)
    await work.start()
    await asyncio.sleep(0)
    await work.stop()
    assert (ended, work.over.is_set(), work.ended_by_itself()) == (["controller"], True, False)

    async def fails() -> None:
        raise LookupError("a fault of ours")

    stopping = asyncio.Event()
    work = handlers.Work(fails, stopping)
    await work.start()
    await asyncio.wait_for(stopping.wait(), PATIENCE)
    await work.stop()
    with pytest.raises(LookupError):
        work.ended_by_itself()
