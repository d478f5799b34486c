import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry, Counter

from ocr_operator import logs, probes
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
    assert done.stderr == "ocr-operator: OCR_OPERATOR_PORT='no' is no number\n"


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


async def test_probes_tell_what_is_wrong() -> None:
    wrong, ready, registry = [""], [False], CollectorRegistry()
    Counter("counted", "x", registry=registry).inc()
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
