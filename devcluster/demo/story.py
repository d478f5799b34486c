"""The steps of the demo, in order: each does something, waits for what comes of it, and shows it."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from devcluster.cluster import Cluster
from devcluster.demo.manifests import EXAMPLES, TURNS_MEMORY, TURNS_NODE, resource_of, taking_turns
from devcluster.demo.narrator import Narrator, Row, states, table
from devcluster.errors import DevclusterError
from ocr_wire import addresses, names

NAME: Final = "invoices"
PAGE: Final = EXAMPLES / "invoice.png"
NODES: Final = 3
SPARSE: Final = 2
BURST: Final = 4
"""More than `batching.maxPages` and `maxQueuePerPod` together."""
BUSY_BYTES: Final = 30 * 2**30
PATIENCE: Final = 60.0
"""Seconds that any step may take."""


class Demo:
    def __init__(self, cluster: Cluster, http: aiohttp.ClientSession, story: Narrator, engine: str) -> None:
        self._engine = engine
        self._fields = {"prompt_type": "ocr"} | ({"max_tokens": "32"} if engine == "transformers" else {})
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

    async def resource(self, name: str = NAME) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(await self.kubectl("get", "ocr", name, "-o", "json", show=False))
        return body

    async def until(
        self, what: str, expected: list[str], *, name: str = NAME, awake: int = 0
    ) -> dict[str, Any]:
        """Return the resource once its pods' locations are as expected (in any order), and so many get requests."""
        deadline = time.monotonic() + PATIENCE
        while (
            sorted(states(resource := await self.resource(name))) != sorted(expected)
            or len([pod for pod in resource["status"]["pods"] if pod.get("awake")]) < awake
        ):
            if time.monotonic() > deadline:
                raise DevclusterError(
                    f"{what}: after {PATIENCE:.0f} s the status still says {states(resource)}, not {expected}"
                )
            await asyncio.sleep(0.2)
        return resource

    async def pods(self) -> list[dict[str, Any]]:
        selector = f"{names.LABEL_DEPLOYMENT}={NAME}"
        found = json.loads(await self.kubectl("get", "pods", "-l", selector, "-o", "json", show=False))
        items: list[dict[str, Any]] = found["items"]
        return items

    async def page(self, url: str) -> dict[str, Any]:
        """Return the answer to the example page."""
        form = aiohttp.FormData(self._fields)
        form.add_field("file", PAGE.read_bytes(), filename=PAGE.name, content_type="image/png")
        async with self._http.post(url, data=form) as response:
            answer: dict[str, Any] = await response.json()
        if not answer.get("success"):
            raise DevclusterError(f"{url} answered {response.status}: {answer}")
        return answer

    async def read(self, pod: Row) -> str:
        url = f"{addresses.base_url(pod['status']['podIP'], names.DEFAULT_PORT)}{names.PATH_OCR}"
        asked = "".join(f" -F {name}={value}" for name, value in self._fields.items())
        self._story.say(f"   $ curl -F file=@examples/{PAGE.name}{asked} {url}")
        began = time.monotonic()
        answer = await self.page(url)
        text: str = answer["raw_text"] if self._engine == "transformers" else answer["text"]
        self._story.indent(text)
        if self._engine == "transformers":
            self._story.say("   Random weights write random text: this shows the life of a model, not OCR.")
        self._story.say(
            f"   {len(text)} characters and {len(answer['boxes'])} boxes in {time.monotonic() - began:.2f} s"
        )
        return text

    async def echoed(self, pod: Row, seconds: float) -> float:
        """Return the moment (monotonic) at which the pod reports the offload timeout as its own."""
        url = f"{addresses.base_url(pod['status']['podIP'], names.DEFAULT_PORT)}{names.PATH_STATE}?watch=true"
        async with self._http.get(url) as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    echo = json.loads(line[5:])["settings"]["values"]
                    if echo["idle"]["offloadAfterSeconds"] == seconds:
                        return time.monotonic()
        raise DevclusterError(f"{url} ended before the pod applied the settings")

    async def scrapes(self) -> float:
        """Return how often the operator has read an exporter, by the metrics of its replicas, of which one works."""
        found = json.loads(await self.kubectl("get", "pods", "-n", "ocr-system", "-o", "json", show=False))
        hosts = [each["status"]["podIP"] for each in found["items"] if each["status"].get("podIP")]
        return sum([await self._scrapes_of(host) for host in hosts])

    async def _scrapes_of(self, host: str) -> float:
        async with self._http.get(f"{addresses.base_url(host, 8080)}/metrics") as response:
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
            decision = json.loads(pod["metadata"]["annotations"][names.ANNOTATION_PLACEMENT])
            story.say(f"   {pod['metadata']['name']}: {decision['why']}")

        story.step("The first page wakes one model; the status says where its weights are")
        await self.read(pods[0])
        story.indent(table(await self.until("first page", ["gpu", "unloaded"])))

        story.step("Idle timeouts change live")
        before = {pod["metadata"]["uid"] for pod in pods}
        watches = [asyncio.create_task(self.echoed(pod, 2)) for pod in pods]
        began = time.monotonic()
        patch = json.dumps({"spec": {"idle": {"offloadAfterSeconds": 2, "releaseAfterSeconds": 5}}})
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

        story.step("Idle for 2 s: gpu → cpu. Idle for 5 s: cpu → unloaded")
        story.indent(table(await self.until("offload", ["cpu", "unloaded"])))
        story.indent(table(await self.until("release", ["unloaded", "unloaded"])))
        await self.kubectl("get", "ocr", NAME)

        await self.awake_set()
        await self.preemption(manifest)

    async def awake_set(self) -> None:
        """Show that a page at a time stays on one pod, and that a burst wakes the other one."""
        story = self._story
        story.step("The Service sends pages to as few pods as the queue allows")
        idle = {"offloadAfterSeconds": 60, "releaseAfterSeconds": 600}
        patch = json.dumps(
            {"spec": {"idle": idle, "batching": {"maxPages": 1}, "routing": {"maxQueuePerPod": 1}}}
        )
        await self.kubectl("patch", "ocr", NAME, "--type=merge", "-p", patch)
        url = f"http://{await self.service(NAME)}/ocr"
        for _ in range(SPARSE):
            await self.page(url)
        story.say(f"   {SPARSE} pages, one after the other, to the Service {NAME} at {url}:")
        story.indent(table(await self.until("sparse traffic", ["gpu", "unloaded"])))
        async with asyncio.TaskGroup() as burst:
            for _ in range(BURST):
                burst.create_task(self.page(url))
            resource = await self.until("burst", ["gpu", "gpu"], awake=2)
            story.say(f"   {BURST} pages at once:")
            story.indent(table(resource))
        await self.event(NAME, "AwakeSetChanged", "requests wait")

    async def preemption(self, manifest: Path) -> None:
        """Show two resources on the same GPUs, too large to be there together: the idle one makes way."""
        story = self._story
        story.step("Two models that don't fit together on a GPU take turns")
        for name, replicas in (("receipts", 2), ("contracts", 1)):
            turns = taking_turns(manifest, self._cluster.directory, name, replicas)
            await self.kubectl("apply", "-f", os.path.relpath(turns))  # noqa: ASYNC240 - text, no disk
        for name in ("receipts", "contracts"):
            await self.kubectl(
                "wait", f"ocr/{name}", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s", show=False
            )
        await self.plugin("wake", "receipts")
        story.say(
            f"   Both GPUs of {TURNS_NODE} hold receipts. A page for contracts, which needs {TURNS_MEMORY}:"
        )
        began = time.monotonic()
        await self.page(f"http://{await self.service('contracts')}/ocr")
        story.say(
            f"   answered after {time.monotonic() - began:.2f} s: who is woken stays for 5 s, then makes way; the"
            " load of its model is included."
        )
        await self.until("who made way", ["cpu", "gpu"], name="receipts")
        await self.event("receipts", "GpuMemoryYielded")
        await self.plugin("top")

    async def service(self, name: str) -> str:
        """Return the address at which devcluster serves the Service of that name."""
        async with asyncio.timeout(PATIENCE):
            while not (address := self._cluster.service(name)):  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.2)
        return address

    async def event(self, name: str, reason: str, part: str = "") -> None:
        """Print the Event of that reason with `part` in its message, once there is one."""
        fields = f"involvedObject.name={name},reason={reason}"
        async with asyncio.timeout(PATIENCE):
            while not (found := [m for m in await self.messages(fields) if part in m]):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        self._story.say(f"   Event {reason}: {found[-1]}")

    async def messages(self, fields: str) -> list[str]:
        found = await self.kubectl("get", "events", "--field-selector", fields, "-o", "json", show=False)
        return [item["message"] for item in json.loads(found)["items"]]

    async def plugin(self, *arguments: str) -> None:
        """Run `kubectl ocr`, and print the command and its output."""
        self._story.say(f"   $ kubectl ocr {' '.join(arguments)}")
        self._story.indent(await asyncio.to_thread(self._cluster.plugin, *arguments))


@asynccontextmanager
async def other_jobs(cluster: Cluster) -> AsyncIterator[list[str]]:
    """Take memory on the GPUs of the first node, as other jobs would, so that "least loaded" has a meaning."""
    written = cluster.occupy("gpu-a", BUSY_BYTES)
    try:
        yield [path.parent.name for path in written]
    finally:
        for path in written:
            path.unlink(missing_ok=True)


async def tell(cluster: Cluster, story: Narrator, engine: str) -> None:
    async with aiohttp.ClientSession() as http, other_jobs(cluster) as busy:
        story.say(f"   Other jobs hold {BUSY_BYTES // 2**30} GiB on each GPU of gpu-a: {', '.join(busy)}.")
        demo = Demo(cluster, http, story, engine)
        await demo.scraped(NODES)
        await demo.tell()
