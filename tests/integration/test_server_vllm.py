"""The real command with a model of engine `vllm`, by a stand-in for its server: pages by HTTP, and every way to end."""

import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from ocr_inference.engines.vllm import keeper, leftovers
from tests.support import inference, vllm_standin
from tests.support.engines import alive, eventually, picture
from tests.support.vllmcontract import checkpoint


def configured(folder: Path) -> str:
    model = {"name": "m", "engine": "vllm", "source": {"path": str(checkpoint(folder))}}
    file = folder / "config.yaml"
    file.write_text(json.dumps({"models": [model]}))
    return str(file)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_of_a_server(tmp_path: Path, how: signal.Signals) -> None:
    python = str(vllm_standin.interpreter(tmp_path))
    async with (
        inference.process("serve", "--config", configured(tmp_path), OCR_VLLM_PYTHON=python) as process,
        aiohttp.ClientSession(await inference.url_of(process)) as http,
    ):
        async with http.post("/ocr", data=inference.form(picture(), prompt_type="document")) as response:
            assert response.status == 200, await response.text()
            answer = await response.json()
        assert answer["text"]
        pids = list(keeper.descendants(process.pid))
        places = {Path(os.readlink(f"/proc/{pid}/cwd")) for pid in pids}
        (folder,) = (place for place in places if place.name.startswith(leftovers.FOLDER))
        process.send_signal(how)
        await process.wait()
        await eventually(lambda: not any(map(alive, pids)))
        assert not folder.exists()


async def test_a_model_without_an_interpreter_keeps_the_command_from_starting(tmp_path: Path) -> None:
    async with inference.process("serve", "--config", configured(tmp_path)) as process:
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 2
    assert "set OCR_VLLM_PYTHON" in said
