"""The dashboard against what programs really expose: an operator, a server that reads pages, a GPU exporter. Each query
of each panel finds something, by Prometheus' own engine.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ocr_inference.config.settings import Settings
from ocr_inference.device import gpu_exporter
from tests.support import charts, inference, pages
from tests.support.chart_docs import CHART
from tests.support.patience import PATIENCE
from tests.support.stage import stage, until

DASHBOARD: Final = json.loads((CHART / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
GPU: Final = {"uuid": "GPU-1", "product": "NVIDIA-L40S", "memory_bytes": 46_068 << 20}
OPERATOR: Final = {"namespace": "ocr-system", "job": "ocr-operator-metrics", "pod": "ocr-operator-1"}
POD: Final = {"namespace": "default", "job": "ocr-operator-inference", "pod": "invoices-1"}
EXPORTER: Final = {"namespace": "gpu-operator", "job": "exporter", "pod": "exporter-1"}
"""What Prometheus adds to the series of each, as the chart's monitors have it."""

Series = dict[str, float]


def scraped(text: str, target: Mapping[str, str]) -> Series:
    """The samples of an exposition, by name and labels as PromQL writes them."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sorted({**sample.labels, **target}.items())
            found[f"{sample.name}{{{', '.join(f'{key}={json.dumps(value)}' for key, value in labels)}}}"] = (
                sample.value
            )
    return found


async def of_an_operator() -> Iterator[Series]:
    """Scrapes of an operator at work: after a resource is ready, and after a change of it."""
    async with stage() as cluster:
        await cluster.apply(replicas=1, gpu={"sharing": "shared"})
        await until(lambda: cluster.holds("Ready") and cluster.applied())
        first = scraped(generate_latest(cluster.registry).decode(), OPERATOR)
        await cluster.apply(replicas=1, gpu={"sharing": "shared"}, idle={"offloadAfterSeconds": 7})
        await until(lambda: cluster.resource()["metadata"]["generation"] == 2 and cluster.applied())
        return iter((first, scraped(generate_latest(cluster.registry).decode(), OPERATOR)))


async def of_a_server(folder: Path) -> Iterator[Series]:
    """Scrapes of a server that has read a page, gave the GPU back and woke for the next one; with an exporter's."""
    (folder / "gpus.json").write_text(json.dumps([GPU]))
    device: dict[str, Any] = {"device": "simulated", "simulated_gpu_dir": folder}
    where = Settings(host="127.0.0.1", port=0, **device)
    async with (
        inference.server("models: [{name: quick, engine: fake}]", **device) as server,
        gpu_exporter.serving(where, {"NODE_NAME": "gpu-a"}) as exporter,
        aiohttp.ClientSession() as http,
    ):

        async def scrape() -> Series:
            async with server.http.get("/metrics") as pod, http.get(exporter) as gpus:
                return scraped(await pod.text(), POD) | scraped(await gpus.text(), EXPORTER)

        found = []
        for _ in range(2):
            status, _ = await server.read(pages.blank())
            assert status == 200
            await server.json("POST", "/gpu/offload")
            await server.until("quick", location="cpu")
            found.append(await scrape())
        return iter(found)


def queries() -> Iterator[tuple[str, str]]:
    """Title and query of each target, as Grafana asks with all namespaces chosen."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$namespace", ".*").replace("$__rate_interval", "5m")


async def test_every_query_of_every_panel_finds_something(tmp_path: Path) -> None:
    tool = charts.promtool()
    first, second = (
        operator | server
        for operator, server in zip(await of_an_operator(), await of_a_server(tmp_path), strict=True)
    )
    values = {key: f"{first.get(key, 0)} {value}x5" for key, value in second.items()}
    assert any(re.match(r"ocr_build_info\{.*namespace=", key) for key in values), "the variable's choices"
    tests = [
        {
            "name": title,
            "interval": "1m",
            "input_series": [{"series": key, "values": each} for key, each in values.items()],
            "promql_expr_test": [
                # A number that isn't one equals nothing, itself included: Grafana draws none of it.
                {
                    "expr": f"count(({query}) == ({query})) > bool 0",
                    "eval_time": "3m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        }
        for title, query in queries()
    ]
    assert len(tests) > 30
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    command = (str(tool), "test", "rules", "panels.yaml")
    pipe = asyncio.subprocess.PIPE
    played = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await played.communicate()
    assert played.returncode == 0, said.decode()
