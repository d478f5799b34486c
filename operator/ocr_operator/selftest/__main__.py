"""Whether this installation works: `python3 -m ocr_operator.selftest`, the pod of `helm test`.

As a user would: makes an OcrDeployment on the CPU, reads a page through its Service, changes a timeout, sees that
it counts in the same pods, and deletes the resource. Writes a line for each step; exits with 1 and what the
resource says when one fails or takes too long.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import aiohttp

from ocr_operator import kube
from ocr_operator.kube import api
from ocr_wire import names

PAGE: Final = Path(__file__).with_name("page.png")
WORDS: Final = ("Harbour Paper Company", "2026-0417")
"""What is on the page."""

_POLL_SECONDS: Final = 0.5
_READ_SECONDS: Final = 120.0


class Failed(Exception):
    """A step didn't do what it should."""


def resource(name: str, namespace: str) -> api.Json:
    """Return a resource that any cluster can run: PP-OCR on the CPU."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "models": [{"name": "pages", "engine": "rapidocr", "gpuMemory": "1Gi"}],
            "gpu": {"sharing": "none"},
            "idle": {"offloadAfterSeconds": 600},
        },
    }


class SelfTest:
    """One run against one API server."""

    def __init__(self, client: kube.Client, ref: api.Ref, say: Callable[[str], None]) -> None:
        self._client = client
        self._ref = ref
        self._say = say
        self._step = "becoming ready"

    async def run(self, seconds: float) -> None:
        """Take all steps within a time; the resource is deleted whatever happens."""
        made = await self._client.create(resource(self._ref.name, self._ref.namespace))
        try:
            async with asyncio.timeout(seconds):
                await self._steps()
        except TimeoutError:
            raise Failed(
                f"{self._step} took too long, not done after {seconds:.0f} s\n{await self._reported()}"
            ) from None
        except Failed as error:
            raise Failed(f"{error}\n{await self._reported()}") from None
        finally:
            await self._client.delete(self._ref, uid=made["metadata"]["uid"])
            self._say("resource is deleted")

    async def _steps(self) -> None:
        started = time.monotonic()
        await self._until(lambda status: _holds(status, "Ready"))
        self._say(f"resource is ready after {time.monotonic() - started:.1f} s")
        self._step, asked = "reading a page", time.monotonic()
        await self._read()
        self._say(f"page is read after {time.monotonic() - asked:.1f} s")
        self._step, asked = "applying another timeout", time.monotonic()
        before = await self._pods()
        operation = {"op": "replace", "path": "/spec/idle/offloadAfterSeconds", "value": 7}
        await self._client.patch(self._ref, [operation])
        await self._until(_counts(7))
        if await self._pods() != before:
            raise Failed("a pod was replaced or restarted by a change of a timeout")
        self._say(f"timeout counts in the same pods after {time.monotonic() - asked:.1f} s")

    async def _until(self, holds: Callable[[api.Json], bool]) -> None:
        while True:
            found = await self._client.get(self._ref)
            status = found.get("status") or {}
            if status.get("observedGeneration") == found["metadata"]["generation"] and holds(status):
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _read(self) -> None:
        service = await self._client.get(api.Ref(api.SERVICE, self._ref.namespace, self._ref.name))
        host, port = service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]
        where = f"[{host}]" if ":" in host else host
        form = aiohttp.FormData()
        form.add_field("file", PAGE.read_bytes(), filename=PAGE.name, content_type="image/png")
        timeout = aiohttp.ClientTimeout(total=_READ_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.post(f"http://{where}:{port}/ocr", data=form) as response,
            ):
                if response.status != 200:
                    raise Failed(f"the page is answered with {response.status}: {await response.text()}")
                text = (await response.json())["text"]
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(f"the Service at {where}:{port} gives no answer: {error}") from error
        if absent := [words for words in WORDS if words not in text]:
            raise Failed(f"{absent[0]!r} is on the page and not in its text: {text!r}")

    async def _pods(self) -> Mapping[str, int]:
        """Return the UID of each pod and how often its containers were started again."""
        pods = await self._client.find(
            api.POD, namespace=self._ref.namespace, selector=f"{names.LABEL_DEPLOYMENT}={self._ref.name}"
        )
        return {
            pod["metadata"]["uid"]: sum(
                each["restartCount"] for each in pod["status"].get("containerStatuses") or ()
            )
            for pod in pods
        }

    async def _reported(self) -> str:
        status = (await self._client.get(self._ref)).get("status") or {}
        return "\n".join(
            f"  {each['type']}={each['status']} {each.get('reason', '')}: {each.get('message', '')}"
            for each in status.get("conditions") or ()
        )


def _holds(status: api.Json, condition: str) -> bool:
    return any(
        each["type"] == condition and each["status"] == "True" for each in status.get("conditions") or ()
    )


def _counts(seconds: int) -> Callable[[api.Json], bool]:
    def holds(status: api.Json) -> bool:
        sources = (status.get("liveSettings") or {}).get("sources") or ()
        values = {each["field"]: each["value"] for each in sources}
        return _holds(status, "ConfigApplied") and values.get("idle.offloadAfterSeconds") == str(seconds)

    return holds


async def run(namespace: str, name: str, seconds: float, say: Callable[[str], None]) -> None:
    """Run the test within a time."""
    async with kube.connect(os.environ) as client:
        await SelfTest(client, api.Ref(api.OCR_DEPLOYMENT, namespace, name), say).run(seconds)


def main() -> int:
    """Run the test, and say what became of it."""
    parser = argparse.ArgumentParser(prog="python3 -m ocr_operator.selftest", description=__doc__)
    parser.add_argument(
        "--namespace", required=True, help="where the resource is made; the operator watches it"
    )
    parser.add_argument("--name", default="ocr-selftest", help="name of the resource (default: ocr-selftest)")
    parser.add_argument(
        "--seconds", type=float, default=300.0, help="how long all of it may take (default: 300)"
    )
    options = parser.parse_args()
    try:
        asyncio.run(
            run(options.namespace, options.name, options.seconds, lambda text: print(text, flush=True))
        )
    except (Failed, api.KubeError, kube.ConfigError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
