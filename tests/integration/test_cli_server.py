"""Commands that use a server: `read --server`, `gpu`; a real one, and one that misbehaves."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from ocr_inference.cli.read import remote
from ocr_inference.cli.read.asked import Asked
from ocr_inference.cli.read.reading import Reading
from ocr_inference.cli.server import client
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.protocol.page_file import PageFile
from tests.support import inference, marks, pages
from tests.support.engines import Faults, eventually
from tests.support.inference import Server
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

KEY, ADMIN = marks.mark(), marks.mark()


@dataclass
class Running:
    server: Server
    folder: Path
    faults: Faults

    async def ended(self, *arguments: str, **environ: str) -> tuple[int | None, str, str]:
        """Run the real command against the server."""
        command = (*arguments, "--server", self.server.running.url)
        async with inference.process(*command, **environ) as process:
            async with asyncio.timeout(PATIENCE):
                out, error = await process.communicate()
        said = out.decode(errors="replace") + error.decode()
        assert not marks.leaks(said, KEY)
        assert not marks.leaks(said, ADMIN)
        return process.returncode, out.decode(errors="replace"), error.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    faults = Faults(folder)
    (folder / "keys").write_text(KEY)
    (folder / "admin").write_text(ADMIN)
    models = f"models: [{{name: deepseek-ocr, engine: fake, options: {{faults_file: {faults.file}}}}}]"
    async with inference.server(
        models, api_keys_file=folder / "keys", admin_token_file=folder / "admin"
    ) as server:
        yield Running(server, folder, faults)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pages.pdf(2))
    (folder / "b.pdf").write_bytes(b"%PDF-1.7\nnonsense")
    (folder / "c.png").write_bytes(pages.blank())
    return folder


@pytest.mark.asyncio(loop_scope="module")
async def test_a_folder_is_read_by_a_server(running: Running, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, said = await running.ended("read", str(scans), "--output", str(out), OCR_API_KEY=KEY)
    assert (code, printed) == (3, ""), said
    assert "read 2 documents (3 pages) in " in said
    assert f"failed:\n  {scans}/b.pdf: the PDF is damaged" in said
    assert sorted(each.name for each in out.iterdir()) == [".ocr-inference.jsonl", "a.pdf.md", "c.png.md"]
    assert (out / "a.pdf.md").read_text().count("fake document of page") == 2
    assert await running.server.metric('ocr_kept_bytes{of="results"}') == 0, "jobs are dropped"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("format_", ["docx", "pdf"])
async def test_files_of_other_programs(running: Running, scans: Path, format_: str) -> None:
    key = str(running.folder / "keys")
    command = ("read", str(scans / "a.pdf"), "--format", format_, "--api-key-file", key)
    code, printed, said = await running.ended(*command)
    assert (code, said) == (0, "")
    assert printed.startswith({"docx": "PK", "pdf": "%PDF-"}[format_])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        ((), {}, 2, "this call needs an API key"),
        ((), {"OCR_API_KEY": "wrong-key"}, 2, "this isn't an API key of this server"),
        (("--model", "other"), {"OCR_API_KEY": KEY}, 2, "no model 'other' here; there are deepseek-ocr"),
        (("--task", "describe"), {"OCR_API_KEY": KEY}, 2, "it can do document, ocr, free, find"),
        (("--pages", "7"), {"OCR_API_KEY": KEY}, 1, "there is no page 7"),
        ((), {"OCR_API_KEY": "two\nkeys"}, 2, "OCR_API_KEY: has a character"),
        (("--api-key-file", "/nowhere"), {}, 2, "--api-key-file: can't read it: No such file"),
        (("--config", "x.yaml"), {}, 2, "--config: it is the server's own"),
    ],
    ids=["no key", "wrong key", "model", "task", "pages", "bad key", "no file", "config"],
)
async def test_what_a_server_refuses_ends_the_run(
    running: Running, scans: Path, arguments: tuple[str, ...], environ: dict[str, str], code: int, says: str
) -> None:
    ended, printed, said = await running.ended("read", str(scans / "a.pdf"), *arguments, **environ)
    assert (ended, printed) == (code, ""), said
    assert says in said
    assert "Traceback" not in said


@pytest.mark.asyncio(loop_scope="module")
async def test_ctrl_c_cancels_jobs_at_the_server(running: Running, scans: Path) -> None:
    running.faults.set(infer="hold")
    try:
        command = ("read", str(scans / "a.pdf"), "--server", running.server.running.url, "--verbose")
        async with inference.process(*command, OCR_API_KEY=KEY) as process:
            assert process.stderr is not None
            async with asyncio.timeout(PATIENCE):
                said = await process.stderr.readuntil(b" 2 pages\n")
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 130
        job = said.decode().split("job ")[1].split(",")[0]
        bearer = {"Authorization": f"Bearer {KEY}"}
        _, found = await running.server.json("GET", f"/v1/jobs/{job}", headers=bearer)
        assert found["state"] == "cancelled"
    finally:
        running.faults.set()


@pytest.mark.asyncio(loop_scope="module")
async def test_controls_say_what_they_did(running: Running) -> None:
    async def gpu(*words: str, code: int = 0, **environ: str) -> str:
        ended, out, error = await running.ended("gpu", *words, **environ)
        assert ended == code, error
        return out or error

    assert (await gpu("load", OCR_ADMIN_TOKEN=ADMIN)).startswith(
        "model deepseek-ocr is ready (deepseek-ocr is ready"
    )
    table = await gpu("status")
    assert table.splitlines()[1].split() == ["MODEL", "STATE", "LOCATION", "GPU", "HOST", "IDLE", "NEXT"]
    assert table.splitlines()[2].startswith("deepseek-ocr  ready")
    token = str(running.folder / "admin")
    answer = json.loads(await gpu("timeout", "5m", "--token-file", token, "-o", "json"))
    assert answer["timeout"] == 300
    assert (await gpu("release", "--model", "deepseek-ocr", "--force", OCR_ADMIN_TOKEN=ADMIN)).startswith(
        "unloaded: model deepseek-ocr"
    )
    assert "set OCR_ADMIN_TOKEN or --token-file" in await gpu("offload", code=2)
    assert json.loads(await gpu("status", "-o", "json"))["models"][0]["state"] == "unloaded"


CONTROLS = re.findall(
    r"^\$ ocr-inference (gpu (?!.*--server).*)$",
    (ROOT / "docs/cli.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.mark.asyncio(loop_scope="module")
async def test_controls_of_the_documentation_run(running: Running) -> None:
    assert len(CONTROLS) >= 5
    ends = await asyncio.gather(*(running.ended(*line.split(), OCR_ADMIN_TOKEN=ADMIN) for line in CONTROLS))
    assert [code for code, _, _ in ends] == [0] * len(CONTROLS), ends


# --- a server that misbehaves ---------------------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DONE = {"id": "job-1", "state": "done", "pages": {"total": 1, "done": 1}}
PAGE = {"index": 0, "text": "words", "raw_text": "", "boxes": []}


@dataclass
class Odd:
    """What comes before the right answers, by call; and what was sent."""

    before: dict[str, list[Handler]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        call = f"{request.method} {request.path}"
        self.sent.append(call)
        if handlers := self.before.get(call):
            return await handlers.pop(0)(request)
        if request.path.endswith("/result"):
            return web.json_response({"job": DONE, "from": 0, "pages": [PAGE]})
        if "watch" in request.query:
            return web.Response(text=f"event: job\ndata: {json.dumps(DONE)}\n\n")
        return web.json_response({**DONE, "state": "queued"} if request.method == "POST" else DONE)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@asynccontextmanager
async def odd(**before: Handler) -> AsyncIterator[tuple[Odd, URL]]:
    server = Odd()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    async with TestServer(application) as running:
        yield server, running.make_url("/")


async def read(server: Odd, url: URL, key: str = KEY) -> Reading:
    async with client.connected(url, key, os.environ, sleep=server.sleep) as connected:
        with PageFile.of(pages.blank()) as file:
            return await remote.Remote(connected, Asked(format=Format.JSON), lambda _: None).read(
                file, "a.png", lambda *_: None
            )


def refuses(status: int, code: str, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        error = {"message": f"no: Bearer {KEY}", "code": code}
        return web.json_response({"error": error}, status=status, headers=headers)

    return answer


def says(text: str, status: int = 200, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers=headers)

    return answer


async def breaks(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_busy_server_is_asked_again_when_it_says() -> None:
    async with odd() as (server, url):
        busy = refuses(429, "jobs_full", **{"Retry-After": "30"})
        server.before["POST /v1/jobs"] = [busy, busy, breaks]
        reading = await read(server, url)
        assert [page.text for page in reading.pages] == ["words"]
        assert server.slept == [30, 30, 4]
        assert server.sent[-1] == "DELETE /v1/jobs/job-1"


async def test_a_watch_that_breaks_is_taken_up_again() -> None:
    async with odd() as (server, url):
        server.before["GET /v1/jobs/job-1"] = [
            breaks,
            says(": nothing\n\n"),
            refuses(429, "too_many_watchers"),
        ]
        assert len((await read(server, url)).pages) == 1
        assert server.sent.count("POST /v1/jobs") == 1


async def test_a_job_that_is_forgotten_is_sent_again() -> None:
    async with odd() as (server, url):
        forgotten = refuses(404, "job_not_found")
        server.before["GET /v1/jobs/job-1"] = [forgotten]
        assert len((await read(server, url)).pages) == 1
        server.before["GET /v1/jobs/job-1"] = [forgotten] * 9
        reading = await read(server, url)
        assert (reading.pages, reading.errors[0].code, reading.ends_run) == ((), "job_not_found", False)
        assert server.sent.count("POST /v1/jobs") == 2 + remote.MOST_SENT


@pytest.mark.parametrize(
    ("call", "handler", "code"),
    [
        ("POST /v1/jobs", refuses(403, "wrong_token"), "wrong_token"),
        ("POST /v1/jobs", says("<html>nginx", 404), "strange_answer"),
        ("POST /v1/jobs", says("<html>hello"), "strange_answer"),
        ("POST /v1/jobs", says('{"id": "../../x?", "state": "done"}'), "strange_answer"),
        ("POST /v1/jobs", says("[" * 100_000), "strange_answer"),
        ("POST /v1/jobs", says("", 302, Location="https://elsewhere.example/"), "strange_answer"),
        ("GET /v1/jobs/job-1", says(f"data: {'x' * 200_000}\n\n"), "strange_answer"),
        ("GET /v1/jobs/job-1", says("data: {}\n\n"), "strange_answer"),
        ("GET /v1/jobs/job-1/result", says('{"job": 3}'), "strange_answer"),
    ],
)
async def test_what_a_strange_server_says_ends_the_run_without_the_key(
    call: str, handler: Handler, code: str
) -> None:
    async with odd() as (server, url):
        server.before[call] = [handler]
        reading = await read(server, url)
    assert (reading.pages, reading.ends_run, reading.errors[0].code) == ((), True, code)
    assert not marks.leaks(reading.errors[0].message, KEY)
    assert len(reading.errors[0].message) < 700


async def test_the_key_goes_to_no_other_server() -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Authorization", ""))
        return web.json_response(DONE)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", elsewhere)
    async with TestServer(application) as other, odd() as (server, url):
        server.before["POST /v1/jobs"] = [says("", 307, Location=str(other.make_url("/v1/jobs")))]
        reading = await read(server, url)
    assert asked == []
    assert "redirects to" in reading.errors[0].message


async def test_a_server_that_isnt_there_is_one_clear_failure() -> None:
    server = Odd()
    reading = await read(server, URL("http://127.0.0.1:9/"))
    assert (reading.ends_run, reading.errors[0].code) == (True, client.UNREACHABLE)
    assert reading.errors[0].message == "http://127.0.0.1:9/ can't be reached: nothing listens there"
    assert server.slept == [1, 2, 4]


@pytest.mark.parametrize("call", ["POST /v1/jobs", "GET /v1/jobs/job-1"])
async def test_cancelling_drops_the_job(call: str) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        begun.set()
        await may_end.wait()
        return web.json_response({**DONE, "state": "queued"})

    async with odd() as (server, url):
        server.before[call] = [held]
        task = asyncio.create_task(read(server, url))
        await begun.wait()
        task.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.sent[-1] == "DELETE /v1/jobs/job-1")
        assert server.sent.count("POST /v1/jobs") == 1


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://ocr.example.com", {}, None),
        ("http://ocr.example.com", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://ocr.example.com", {"http_proxy": "http://p:1"}, None),
        ("https://ocr.example.com", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("http://ocr.example.com", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "example.com"}, None),
        ("http://localhost:8001", {"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_proxies(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert client.proxy(URL(url), environ) == proxy
