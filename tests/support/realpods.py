"""The stage with real inference servers: each pod is a process of its own, on simulated GPUs that they share."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from ocr_operator.kube import api
from ocr_wire import names
from tests.support import inference
from tests.support.fakekube import FakeKube
from tests.support.stage import MIB, PORT, Stage, played

GPU_MIB = 46_068
"""As the stage's exporters tell."""
START_SECONDS = 60.0
PATIENT = {"idle_timeout": 12.0}
"""Real servers say something every 10 s at the least; fake ones more often."""


@dataclass(eq=False)
class RealStage(Stage):
    """Resources say engine `rapidocr`; `options` turn it into the fake engine with these options."""

    folder: Path = Path()
    options: Mapping[str, Any] | None = None
    urls: dict[str, str] = field(default_factory=dict)
    """By pod."""

    def lay_out(self) -> None:
        gpus = [
            {"uuid": uuid, "product": "NVIDIA-L40S", "memory_bytes": GPU_MIB * MIB}
            for node in self.gpus.values()
            for uuid in node
        ]
        (self.folder / "gpus.json").write_text(json.dumps(gpus))

    def held(self, uuid: str) -> int:
        """Bytes that all servers together say they take of a GPU."""
        total = 0
        for file in (self.folder / "usage" / uuid).glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                total += json.loads(file.read_text())["memory_bytes"]
        return total

    def pod_of(self, name: str) -> str:
        """The one pod of a resource."""
        [pod] = [
            pod
            for pod, body in self.objects(api.POD).items()
            if body["metadata"]["labels"].get(names.LABEL_DEPLOYMENT) == name
        ]
        return pod

    def url(self, name: str) -> str:
        """Of the resource's one server."""
        return self.urls[self.pod_of(name)]

    @contextlib.asynccontextmanager
    async def _serve(
        self, name: str, pod: Mapping[str, Any], ip: str, token: str, stamped: str
    ) -> AsyncIterator[None]:
        meta = pod["metadata"]
        config = json.loads(meta["annotations"][names.ANNOTATION_CONFIG])
        if self.options is not None:
            config["models"] = [
                each | {"engine": "fake", "options": dict(self.options)} for each in config["models"]
            ]
        files = {"config": json.dumps(config), "live": stamped, "token": token}
        for suffix, text in files.items():
            (self.folder / f"{name}.{suffix}").write_text(text)
        environ = {
            "OCR_HOST": ip,
            "PORT": str(PORT),
            "OCR_DEVICE": "simulated",
            "OCR_SIMULATED_GPU_DIR": str(self.folder),
            "NVIDIA_VISIBLE_DEVICES": meta["annotations"][names.ANNOTATION_GPU_UUIDS],
            "OCR_LIVE_SETTINGS_FILE": str(self.folder / f"{name}.live"),
            "OCR_ADMIN_TOKEN_FILE": str(self.folder / f"{name}.token"),
            "POD_NAME": name,
            "POD_UID": meta["uid"],
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ocr_inference", "serve"),
                *("--config", str(self.folder / f"{name}.config")),
                env=os.environ | environ,
                stdout=log,
                stderr=log,
            )
        try:
            self.urls[name] = f"http://{ip}:{PORT}"
            await _answers(self.urls[name])
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _answers(url: str) -> None:
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{url}/livez") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


async def read(url: str, picture: bytes) -> tuple[int, dict[str, Any]]:
    """`POST /ocr` of a page."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/ocr", data=inference.form(picture)) as response,
    ):
        body: dict[str, Any] = await response.json()
        return response.status, body


async def states(url: str) -> AsyncIterator[dict[str, Any]]:
    """The first model of each state that a server tells."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/state?watch=true") as response:
        async for state in inference.events(response):
            yield state["models"][0]


@contextlib.asynccontextmanager
async def real_stage(
    folder: Path, *, options: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[RealStage]:
    """One node with one simulated GPU of 45 GiB, and a running operator."""
    ours = RealStage(FakeKube(), {"gpu-a": {"GPU-a0": 0}}, folder=folder, options=options)
    ours.lay_out()
    async with played(ours, operator=True, settings=settings | PATIENT):
        yield ours


async def apply_on_demand(stage: Stage, name: str, gpu_memory: str = "30Gi", **spec: Any) -> None:
    """A resource of one pod that takes turns with others."""
    model = {"name": "pp-ocr", "engine": "rapidocr", "gpuMemory": gpu_memory} | spec.pop("model", {})
    gpu = {"sharing": "shared", "memoryPolicy": "onDemand"}
    await stage.apply(name, replicas=1, models=[model], **({"gpu": gpu} | spec))
