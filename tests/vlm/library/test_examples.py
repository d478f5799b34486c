"""The examples of docs/library.md, as they stand there."""

import io
import re
from contextlib import redirect_stdout
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from aiohttp.test_utils import TestClient, TestServer

from ocr_inference import GPUResourceManager, SharedGPU
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

EXAMPLES = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text(encoding="utf-8"), re.DOTALL
)


def execute(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "docs/library.md", "exec"), names)
    return names


def test_the_first_example_is_short_and_runs() -> None:
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 15
    out = io.StringIO()
    with redirect_stdout(out):
        names = execute(EXAMPLES[0])
    shape, location = out.getvalue().splitlines()
    assert shape == "torch.Size([1, 3])"
    assert location == ("gpu" if torch.cuda.is_available() else "cpu")
    assert names["manager"].idle_timeout == 5
    names["manager"].close()


def test_managers_share_a_gpu_as_written() -> None:
    code = EXAMPLES[1].replace('"cuda:0"', '"simulated"')
    assert code != EXAMPLES[1]
    names = execute(
        code, load_reader=lambda: torch.nn.Linear(2, 2), load_painter=lambda: torch.nn.Linear(2, 2)
    )
    with names["reader"].lease(), names["painter"].lease():
        pass
    names["gpu"].close(PATIENCE)


class Shouter(torch.nn.Module):
    def forward(self, text: str) -> str:
        return text.upper()


async def test_a_service_serves_as_written() -> None:
    gpu = SharedGPU("simulated")
    manager = GPUResourceManager(gpu=gpu, load_func=Shouter)
    async with TestClient(TestServer(execute(EXAMPLES[2])["make_app"](manager))) as client:
        asked = await client.post("/ask", data="a page")
        assert await asked.json() == {"answer": "A PAGE"}
        assert (await (await client.post("/gpu/offload")).json())["success"]
        assert (await (await client.get("/gpu/status")).json())["loads"] == 1
    gpu.close(PATIENCE)
