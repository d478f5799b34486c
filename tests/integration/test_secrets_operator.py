"""An operator with marked secrets, pods and servers that repeat what they are sent, and no mark in what comes out."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import generate_latest

from ocr_operator import logs
from ocr_operator.kube import api
from ocr_wire import names
from tests.support import fakepod, marks
from tests.support.patience import PATIENCE
from tests.support.stage import Stage, stage, until

SIGNS = (b"watch lost", b"doesn't help placement", b"who is ")
"""Of what goes wrong with the API server and with Prometheus, and of what they say."""
HUB, KUBE, PROMETHEUS, PROXY = (marks.mark() for _ in range(4))


@contextlib.contextmanager
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged in this process meanwhile, at debug level, as the operator writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Text())
    handler.addFilter(logs.quieten)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def repeat(request: web.Request) -> web.StreamResponse:
    """Answer with all that was sent, in several writings."""
    sent = request.headers.get("Authorization", "")
    token = sent.partition(" ")[2]
    words = [f"who is {token}?", sent, base64.b64encode(token.encode()).decode(), f"x?token={token}"]
    said = " ".join(words)
    return web.json_response({"error": {"message": said}, "message": said}, status=422)


def admin_token(cluster: Stage) -> str:
    secret = cluster.objects(api.SECRET)["invoices-ocr-admin"]
    return base64.b64decode(secret["data"][names.ADMIN_KEY]).decode()


def visible(cluster: Stage) -> str:
    """What people may read who may read no Secret."""
    kinds = (api.OCR_DEPLOYMENT, api.EVENT, api.POD, api.DEPLOYMENT, api.SERVICE)
    return json.dumps([list(cluster.objects(kind).values()) for kind in kinds])


async def test_no_status_event_metric_or_line_has_a_mark() -> None:
    with logged() as log:
        async with stage() as cluster:
            await cluster.apply()
            await until(lambda: cluster.holds("Ready") and cluster.applied())
            token = admin_token(cluster)
            for pod in cluster.pods.values():
                pod.answer_push = pod.answer_offload = repeat
                failure = (
                    f"Illegal header value b'Bearer {HUB}' for http://eve:{HUB}@hub/?X-Amz-Signature={HUB}"
                )
                pod.more = {
                    "last_failure": {
                        "reason": "Failed",
                        "message": failure,
                        "time": "2026-11-28T08:00:00.000Z",
                    }
                }
                pod.change(pp_ocr=("failed", "unloaded"))
            await cluster.apply(idle={"offloadAfterSeconds": 5})
            refused = "the pod refuses the values (422): "
            await until(lambda: refused in cluster.condition("ConfigApplied").get("message", ""))
            await until(lambda: "Illegal header value" in json.dumps(cluster.status()))

            def fail(verb: str, ref: api.Ref) -> None:
                if verb == "apply" and ref.kind is api.SERVICE:
                    raise api.Refused(ref, 422, f"denied: {{'Authorization': 'Bearer {KUBE}'}}")

            cluster.kube.fail = fail
            await cluster.apply(server={"port": 8123})
            await until(lambda: cluster.holds("Stalled") or "denied" in json.dumps(cluster.status()))
            said = visible(cluster) + generate_latest(cluster.registry).decode()
    assert "[redacted]" in said
    assert not marks.leaks(said, token, HUB, KUBE)
    assert refused in log.getvalue()
    assert not marks.leaks(log.getvalue(), token, HUB, KUBE)


@pytest.mark.parametrize("style", ["text", "json"])
async def test_a_process_whose_servers_repeat_its_tokens_writes_no_mark(tmp_path: Path, style: str) -> None:
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        await request.read()
        response = await repeat(request)
        # kopf ends the operator at once where it isn't told which kinds there are.
        if request.path in {"/api", "/apis"}:
            return web.json_response({"versions": [], "groups": []})
        # Lists are answered: without them the operator asks nothing else. Their watches aren't.
        if request.method == "GET" and "limit" in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        response.set_status([401, 403, 500, 503, 422, 429][len(asked) % 6])
        return response

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    ip, port = fakepod.address(), fakepod.free_port()
    await web.TCPSite(runner, ip, port).start()
    (tmp_path / "token").write_text(f"{PROMETHEUS}\n")
    (tmp_path / "kubeconfig").write_text(
        json.dumps(
            {
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"http://{ip}:{port}"}}],
                "users": [{"name": "u", "user": {"token": f"{KUBE}\n"}}],
            }
        )
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OCR_", "KUBE"))}
    environ = clean | {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "OCR_OPERATOR_LOG_LEVEL": "debug",
        "OCR_OPERATOR_LOG_FORMAT": style,
        "OCR_OPERATOR_HOST": "127.0.0.1",
        "OCR_OPERATOR_PORT": "0",
        "OCR_OPERATOR_PROMETHEUS_URL": f"http://eve:{PROXY}@{ip}:{port}",
        "OCR_OPERATOR_SCRAPE_SECONDS": "0.1",
        "OCR_OPERATOR_PROMETHEUS_TOKEN_FILE": str(tmp_path / "token"),
        "HTTPS_PROXY": f"http://eve:{PROXY}@127.0.0.1:9",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ocr_operator", "run"),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = b""
    try:
        async with asyncio.timeout(PATIENCE):
            # It may end by itself; until then its watches and the question for load go wrong.
            while line := await process.stdout.readline():
                said += line
                if all(sign in said for sign in SIGNS) and len(asked) > 60:
                    break
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            said += await process.stdout.read()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await runner.cleanup()
    found = (KUBE, PROMETHEUS, PROXY)
    for sign in (*SIGNS, b"[redacted]"):
        assert sign in said
    assert not marks.leaks(said, *found), [each for each in said.splitlines() if marks.leaks(each, *found)]
