"""The product's story on a throwaway Kubernetes: `python -m devcluster.demo [--engine transformers] [--keep]`.

All of it is real (API server, scheduler, Helm chart, operator, HTTP, OCR) but the GPUs: they are simulated, and
say so.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError

EXAMPLES: Final = Path(__file__).parent.parent / "examples"
NAME: Final = "invoices"
NODES: Final = 3
BUSY_BYTES: Final = 30 * 2**30
PATIENCE: Final = 60.0
"""Seconds that any step may take."""

Row = Mapping[str, Any]


class Story:
    """What the reader sees: numbered steps, commands as one would type them, their output indented."""

    def __init__(self) -> None:
        self._step = 0
        self._start = time.monotonic()

    def step(self, text: str) -> None:
        self._step += 1
        self.say(f"\n{self._step}. {text}  [{time.monotonic() - self._start:.0f} s]")

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def indent(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self.say(f"     {line}")


def states(resource: Row) -> list[str]:
    """`location` of each pod's first model, in pod order; pods that haven't reported yet are missing."""
    return [
        model["location"]
        for pod in resource.get("status", {}).get("pods", [])
        for model in pod.get("models", [])[:1]
    ]


def table(resource: Row) -> str:
    rows = [("POD", "NODE", "GPU", "STATE", "LOCATION", "SETTINGS")]
    for pod in resource["status"]["pods"]:
        gpus = ",".join(gpu["uuid"] for gpu in pod.get("gpus", [])) or "-"
        for model in pod.get("models", []):
            applied = f"generation {pod.get('appliedGeneration', '-')}"
            rows.append((pod["name"], pod.get("node", "-"), gpus, model["state"], model["location"], applied))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def resource_of(engine: str, folder: Path) -> Path:
    """The manifest to apply. For transformers: the example with a tiny checkpoint, made now, as its model."""
    example = EXAMPLES / "shared-gpu.yaml"
    if engine == "rapidocr":
        return example
    from tests.support.checkpoints import make_deepseek_ocr  # noqa: PLC0415 - torch, which the other engine lacks

    checkpoint = folder / "checkpoints" / "tiny"
    checkpoint.mkdir(parents=True)
    make_deepseek_ocr(checkpoint)
    manifest = yaml.safe_load(example.read_text(encoding="utf-8"))
    model = {
        "name": "tiny",
        "engine": "transformers",
        "source": {"path": str(checkpoint)},
        "gpuMemory": "1Gi",
    }
    manifest["spec"]["models"] = [model]
    written = folder / "invoices.yaml"
    written.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    return written


class Demo:
    def __init__(self, cluster: Cluster, http: aiohttp.ClientSession, story: Story, engine: str) -> None:
        self._engine = engine
        self._cluster = cluster
        self._http = http
        self._story = story

    async def kubectl(self, *arguments: str, show: bool = True) -> str:
        if show:
            shown = (a if a and not set(a) & set("{} '\"") else f"'{a}'" for a in arguments)
            self._story.say(f"   $ kubectl {' '.join(shown)}")
        output = await asyncio.to_thread(self._cluster.kubectl, *arguments)
        if show:
            self._story.indent(output)
        return output

    async def resource(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(await self.kubectl("get", "ocr", NAME, "-o", "json", show=False))
        return body

    async def until(self, what: str, expected: list[str]) -> dict[str, Any]:
        """The resource once its pods' locations are as expected (in any order)."""
        deadline = time.monotonic() + PATIENCE
        while sorted(states(resource := await self.resource())) != sorted(expected):
            if time.monotonic() > deadline:
                raise DevclusterError(
                    f"{what}: after {PATIENCE:.0f} s the status still says {states(resource)}, not {expected}"
                )
            await asyncio.sleep(0.2)
        return resource

    async def pods(self) -> list[dict[str, Any]]:
        selector = f"ocr-operator.io/deployment={NAME}"
        found = json.loads(await self.kubectl("get", "pods", "-l", selector, "-o", "json", show=False))
        items: list[dict[str, Any]] = found["items"]
        return items

    async def read(self, pod: Row) -> str:
        url = f"http://{pod['status']['podIP']}:8001/ocr"
        page = EXAMPLES / "invoice.png"
        fields = {"prompt_type": "ocr"} | ({"max_tokens": "32"} if self._engine == "transformers" else {})
        asked = "".join(f" -F {name}={value}" for name, value in fields.items())
        self._story.say(f"   $ curl -F file=@examples/{page.name}{asked} {url}")
        form = aiohttp.FormData(fields)
        form.add_field("file", page.read_bytes(), filename=page.name, content_type="image/png")
        began = time.monotonic()
        async with self._http.post(url, data=form) as response:
            answer = await response.json()
        if not answer.get("success"):
            raise DevclusterError(f"{url} answered {response.status}: {answer}")
        text: str = answer["raw_text"] if self._engine == "transformers" else answer["text"]
        self._story.indent(text)
        if self._engine == "transformers":
            self._story.say("   Random weights write random text: this shows the life of a model, not OCR.")
        self._story.say(
            f"   {len(text)} characters and {len(answer['boxes'])} boxes in {time.monotonic() - began:.2f} s"
        )
        return text

    async def echoed(self, pod: Row, seconds: float) -> float:
        """The moment (monotonic) at which the pod reports the offload timeout as its own."""
        url = f"http://{pod['status']['podIP']}:8001/v1/state?watch=true"
        async with self._http.get(url) as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    echo = json.loads(line[5:])["settings"]["values"]
                    if echo["idle"]["offloadAfterSeconds"] == seconds:
                        return time.monotonic()
        raise DevclusterError(f"{url} ended before the pod applied the settings")

    async def scrapes(self) -> float:
        """How often the operator has read an exporter, by its own metrics."""
        found = json.loads(await self.kubectl("get", "pods", "-n", "ocr-system", "-o", "json", show=False))
        url = f"http://{found['items'][0]['status']['podIP']}:8080/metrics"
        async with self._http.get(url) as response:
            for line in (await response.text()).splitlines():
                if line.startswith('ocr_operator_scrapes_total{result="read"}'):
                    return float(line.split()[1])
        return 0.0

    async def scraped(self, nodes: int) -> None:
        """Return when the operator has read each node's exporter once more."""
        wanted = await self.scrapes() + nodes
        async with asyncio.timeout(PATIENCE):
            while await self.scrapes() < wanted:  # noqa: ASYNC110 - a counter in another process
                await asyncio.sleep(0.2)

    async def tell(self) -> None:
        story = self._story
        story.step("A resource becomes pods on the least-loaded GPUs")
        manifest = await asyncio.to_thread(resource_of, self._engine, self._cluster.directory)
        await self.kubectl("apply", "-f", os.path.relpath(manifest))  # noqa: ASYNC240 - text, no disk
        await self.kubectl("wait", f"ocr/{NAME}", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
        story.indent(table(await self.until("start", ["unloaded", "unloaded"])))
        pods = await self.pods()
        for pod in pods:
            decision = json.loads(pod["metadata"]["annotations"]["ocr-operator.io/placement"])
            story.say(f"   {pod['metadata']['name']}: {decision['why']}")

        story.step("The first page wakes one model; the status says where its weights are")
        await self.read(pods[0])
        story.indent(table(await self.until("first page", ["gpu", "unloaded"])))

        story.step("Idle timeouts change live")
        before = {pod["metadata"]["uid"] for pod in pods}
        watches = [asyncio.create_task(self.echoed(pod, 2)) for pod in pods]
        began = time.monotonic()
        patch = json.dumps({"spec": {"idle": {"offloadAfterSeconds": 2, "releaseAfterSeconds": 6}}})
        await self.kubectl("patch", "ocr", NAME, "--type=merge", "-p", patch)
        applied = max(await asyncio.wait_for(asyncio.gather(*watches), PATIENCE)) - began
        await self.kubectl(
            "wait", f"ocr/{NAME}", "--for=condition=ConfigApplied", f"--timeout={PATIENCE:.0f}s", show=False
        )
        after = {pod["metadata"]["uid"] for pod in await self.pods()}
        story.say(
            f"   Both pods work by it {applied * 1000:.0f} ms after the command was typed, kubectl's start included."
        )
        story.say(f"   Pod UIDs before: {', '.join(sorted(before))}")
        story.say(f"   Pod UIDs after:  {', '.join(sorted(after))}")
        if before != after:
            raise DevclusterError("changing a timeout replaced pods")

        story.step("Idle for 2 s: gpu → cpu. Idle for 6 s: cpu → unloaded")
        story.indent(table(await self.until("offload", ["cpu", "unloaded"])))
        story.indent(table(await self.until("release", ["unloaded", "unloaded"])))
        await self.kubectl("get", "ocr", NAME)


@asynccontextmanager
async def strangers(cluster: Cluster) -> AsyncIterator[list[str]]:
    """Somebody else's work on the GPUs of the first node, so that "least loaded" has a meaning."""
    written = cluster.occupy("gpu-a", BUSY_BYTES)
    try:
        yield [path.parent.name for path in written]
    finally:
        for path in written:
            path.unlink(missing_ok=True)


async def tell(cluster: Cluster, story: Story, engine: str) -> None:
    async with aiohttp.ClientSession() as http, strangers(cluster) as busy:
        story.say(f"   Other jobs hold {BUSY_BYTES // 2**30} GiB on each GPU of gpu-a: {', '.join(busy)}.")
        demo = Demo(cluster, http, story, engine)
        await demo.scraped(NODES)
        await demo.tell()


def run(directory: Path, *, engine: str, keep: bool) -> None:
    """A cluster that isn't kept ends with this process, however that ends."""
    story = Story()
    story.step("A throwaway Kubernetes: real control plane, Helm-installed operator, simulated GPUs")
    begin = Cluster.up if keep else Cluster.start
    cluster = begin(directory, nodes=NODES, gpus=2, operator=True, say=lambda text: story.say(f"   {text}"))
    try:
        asyncio.run(tell(cluster, story, engine))
    finally:
        if keep:
            story.step("The cluster stays. Try")
            story.indent(
                f"export KUBECONFIG={cluster.kubeconfig}\nkubectl get ocr -w\n"
                "kubectl explain ocr.spec.idle\nmake cluster-down"
            )
        else:
            story.step("Clean up")
            cluster.stop()
            story.say("   Nothing is left: no process, no file.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="devcluster.demo", description=__doc__)
    parser.add_argument(
        "--engine",
        choices=("rapidocr", "transformers"),
        default="rapidocr",
        help="transformers: a tiny checkpoint that the demo makes itself, with random weights",
    )
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--dir", type=Path, default=Path(".devcluster"), help="the cluster's folder")
    arguments = parser.parse_args()
    try:
        run(arguments.dir.resolve(), engine=arguments.engine, keep=arguments.keep)
    except DevclusterError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
