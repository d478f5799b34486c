"""The real command: a process that serves, drains on SIGTERM, and says clearly why it can't start."""

import asyncio
import json
import re
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support import inference, pages
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
        (["serve", "--port", "99999"], {}, "a port is a number"),
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


async def test_read_prints_markdown_of_every_page_of_a_pdf(tmp_path: Path) -> None:
    document = tmp_path / "invoices.pdf"
    document.write_bytes(pages.pdf(2))
    async with inference.process("read", str(document)) as process:
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    first, second = out.decode().split("\n\n---\n\n")
    assert "Invoice number 4711" in first
    assert "| Coffee beans | 120.50 |" in first
    assert first.strip() == second.strip()
    assert "page 2 of 2" in error.decode()
    assert "WARNING" not in error.decode()


async def test_read_finds_a_term_and_prints_json(tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    picture.write_bytes(pages.invoice())
    command = ("read", str(picture), "--task", "find", "--find", "total amount", "--format", "json")
    async with inference.process(*command) as process:
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    (page,) = json.loads(out)["pages"]
    assert page["text"] == "Total amount 134.75"
    (box,) = page["boxes"]
    left, top, right, bottom = box["box"]
    assert 40 < left < 80 < right < 400
    assert 430 < top < 470 < bottom < 500


@pytest.mark.parametrize(
    ("content", "arguments", "code", "says"),
    [
        (None, [], 1, "can't read it: No such file"),
        (b"nonsense", [], 1, "no picture of a known format"),
        (pages.truncated(), [], 1, "truncated"),
        (b"%PDF-1.7\nnonsense", [], 1, "the PDF is damaged"),
        (pages.blank(), ["--task", "describe"], 2, "it can do document, ocr, free, find"),
        (pages.blank(), ["--task", "find"], 2, "--find TERM"),
        (pages.blank(), ["--model", "other"], 2, "there are m"),
    ],
    ids=["missing", "nonsense", "truncated", "broken pdf", "task", "no term", "model"],
)
async def test_read_says_what_is_wrong(
    tmp_path: Path, content: bytes | None, arguments: list[str], code: int, says: str
) -> None:
    document = tmp_path / "page"
    if content is not None:
        document.write_bytes(content)
    async with inference.process("read", str(document), "--config", fake(tmp_path), *arguments) as process:
        out, error = await process.communicate()
    assert (process.returncode, out) == (code, b""), error.decode()
    assert says in error.decode()
    assert "Traceback" not in error.decode()


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
