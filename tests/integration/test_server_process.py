"""The real command: a process that serves, drains on SIGTERM, and says clearly why it can't start."""

import asyncio
import json
import logging
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from ocr_inference import __main__ as program
from tests.support import inference, marks, pages
from tests.support.engines import Faults
from tests.support.patience import PATIENCE


def fake(folder: Path, **options: float | str) -> str:
    file = folder / "config.yaml"
    file.write_text(json.dumps({"models": [{"name": "m", "engine": "fake", "options": options}]}))
    return str(file)


async def test_sigterm_lets_the_running_request_end(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    faults.set(infer="hold")
    config = fake(tmp_path, faults_file=str(faults.file))
    async with (
        inference.process("serve", "--config", config) as process,
        aiohttp.ClientSession(await inference.url_of(process)) as http,
        http.get("/v1/state?watch=true") as watch,
    ):
        states = inference.events(watch)
        reading = asyncio.create_task(answer(http))
        async with asyncio.timeout(PATIENCE):
            while not (await anext(states))["queue"]["in_flight"]:
                pass
            process.send_signal(signal.SIGTERM)
            while not (await anext(states))["draining"]:
                pass
            assert await answer(http) == 503
            async with http.get("/readyz") as response:
                assert response.status == 503
            async with http.get("/livez") as response:
                assert response.status == 200
            faults.set()
            assert await reading == 200
            assert [state async for state in states][-1]["models"][0]["state"] == "unloaded"
            assert await process.wait() == 0


async def test_a_check_beside_a_server_says_that_it_serves(tmp_path: Path) -> None:
    async with inference.process("serve", "--config", fake(tmp_path)) as process:
        port = str(URL(await inference.url_of(process)).port)
        async with inference.process("check", "--json", "--config", fake(tmp_path), PORT=port) as check:
            out, _ = await check.communicate()
            assert check.returncode == 0, out
            assert json.loads(out)["facts"]["port"] == {
                "host": "127.0.0.1",
                "port": int(port),
                "served": True,
                "problem": None,
            }


async def test_a_restarted_process_keeps_what_it_knows_of_a_newer_operators_settings(tmp_path: Path) -> None:
    """Kubernetes restarts it with the annotation of its pod: "never offload" must not become the default of 60 s."""
    values = {"idle": {"offloadAfterSeconds": -1, "napAfterSeconds": 5}, "weather": {"rain": True}}
    file = tmp_path / "live-settings"
    file.write_text(json.dumps({"generation": 9, "revision": 4, "values": values, "issuer": "newer"}))
    for _ in range(2):
        command = inference.process("serve", "--config", fake(tmp_path), OCR_LIVE_SETTINGS_FILE=str(file))
        async with command as process, aiohttp.ClientSession(await inference.url_of(process)) as http:
            async with http.get("/gpu/status") as response:
                assert (await response.json())["timeout"] == -1
            async with http.get("/v1/state") as response:
                settings = (await response.json())["settings"]
        assert (settings["revision"], settings["values"]) == (4, values)
        assert settings["ignored"] == ["issuer", "values.idle.napAfterSeconds", "values.weather"]


async def answer(http: aiohttp.ClientSession) -> int:
    async with http.post("/ocr", data=inference.form(pages.blank())) as response:
        return response.status


async def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with inference.process("serve", "--port", port) as process:
            _, error = await process.communicate()
    assert process.returncode == 2
    assert error.decode() == (
        f"ocr-inference: PORT: can't listen at 127.0.0.1:{port}: Address already in use; "
        "choose another with --port or PORT\n"
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["serve", "--config", "/nowhere.yaml"], {}, "/nowhere.yaml: can't read it"),
        (["serve"], {"PORT": "eighty"}, "PORT: expected a whole number"),
        (["serve"], {"GPU_IDLE_TIMEOUT": "-7"}, "GPU_IDLE_TIMEOUT: expected"),
        (["serve"], {"OCR_DEVICE": "tpu"}, "OCR_DEVICE: expected auto | cuda | cpu | simulated"),
        (["serve"], {"OCR_DEVICE": "simulated"}, "OCR_SIMULATED_GPU_DIR"),
        (["serve", "--model", "DeepSeek-OCR"], {}, "--model: expected a repository such as"),
        (["serve", "--engine", "rapidocr"], {}, "--engine: it is of --model"),
        (["serve", "--model", "a/b", "--config", "c"], {}, "not allowed with argument"),
        (["serve", "--port", "99999"], {}, "expected a whole number from 0 to 65535; got '99999'"),
        (
            ["serve"],
            {"MODEL_NAME": "owner/model", "OCR_CACHE_DIR": "/proc/cache"},
            "/proc/cache can't be written by user",
        ),
    ],
)
async def test_bad_settings_end_the_process_with_their_name(
    arguments: list[str], environ: dict[str, str], says: str
) -> None:
    async with inference.process(*arguments, **environ) as process:
        _, error = await process.communicate()
    assert process.returncode == 2
    assert says in error.decode()
    assert "Traceback" not in error.decode()


async def test_a_config_file_error_names_the_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("modles: []")
    async with inference.process("serve", "--config", str(file)) as process:
        _, error = await process.communicate()
    assert process.returncode == 2
    assert "modles: unknown key; did you mean 'models'?" in error.decode()


async def test_a_server_needs_no_file() -> None:
    command = (
        "serve",
        "--engine",
        "fake",
        "--model",
        "any",
        "--idle-timeout",
        "never",
        "--host",
        "127.0.0.1",
    )
    async with (
        inference.process(*command, GPU_IDLE_TIMEOUT="5") as process,
        aiohttp.ClientSession(await inference.url_of(process)) as http,
        http.get("/gpu/status") as response,
    ):
        status = await response.json()
    assert (status["model"], status["timeout"]) == ("fake", -1)


async def test_version() -> None:
    async with inference.process("--version") as process:
        out, _ = await process.communicate()
    assert re.fullmatch(r"ocr-inference \d+\.\d+\.\d+\n", out.decode())


async def test_the_server_process_loads_no_inference_library() -> None:
    libraries = "{'torch', 'onnxruntime', 'rapidocr', 'pypdfium2'}"
    code = f"import sys, ocr_inference.__main__; print({libraries} & {{*sys.modules}})"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode() == "set()\n"


class Environ(dict[str, str]):
    """Environment that fails as a library might."""

    def get(self, key: str, default: object = None) -> Any:
        raise ValueError(f"Illegal header value b'Bearer {self['HF_TOKEN']}'")


def test_a_fault_of_ours_ends_the_process_with_a_traceback_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = marks.mark()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    root.handlers[:] = []
    try:
        assert program.run(["serve"], Environ(HF_TOKEN=secret)) == program.FAILED
    finally:
        root.handlers[:], root.level = before
    told = capsys.readouterr()
    assert "ended by a fault of this program" in told.err
    assert "ValueError: Illegal header value b'Bearer [redacted]'" in told.err
    assert not marks.leaks(told.out + told.err, secret)
