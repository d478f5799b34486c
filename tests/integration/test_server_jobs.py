"""Jobs: documents that are read in the background, followed, fetched and cancelled."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.paths import ROOT
from tests.support.pdfs import PdfPage, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS = """
models:
  - {{name: quick, engine: fake, options: {{faults_file: {faults}}}}}
  - {{name: other, engine: fake}}
server: {{limits: {{maxUploadBytes: 100000}}}}
"""
THREE = pdf([PdfPage("one"), PdfPage("two"), PdfPage("three")])
FIVE = pdf([PdfPage(word) for word in ("one", "two", "three", "four", "five")])


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults") / "faults.json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(faults: Path) -> AsyncIterator[Server]:
    async with inference.server(MODELS.format(faults=faults), job_memory_bytes=1) as running:
        yield running


async def submitted(server: Server, document: bytes = THREE, **fields: str) -> dict[str, Any]:
    async with server.http.post("/v1/jobs", data=inference.form(document, **fields)) as response:
        assert response.status == 202, await response.text()
        job: dict[str, Any] = await response.json()
        assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
        return job


async def until(server: Server, job: dict[str, Any], **wanted: object) -> dict[str, Any]:
    """The job once its fields have these values; fields of `pages` count, too."""
    async with server.http.get(f"/v1/jobs/{job['id']}?watch=true") as response:
        assert response.content_type == "text/event-stream"
        async for each in inference.events(response):
            if wanted.items() <= {**each, **each["pages"]}.items():
                return each
    raise AssertionError(f"the watch ended before {wanted}")


async def results(server: Server, job: dict[str, Any], query: str = "") -> tuple[int, Any]:
    return await server.json("GET", f"/v1/jobs/{job['id']}/result{query}")


@contextmanager
def faulty(file: Path, faults: dict[str, str]) -> Iterator[None]:
    """Write the faults file for the block."""
    file.write_text(json.dumps(faults))
    try:
        yield
    finally:
        file.unlink()


async def key(server: Server, page: int) -> str:
    """By which the faults file names a page of `THREE`."""
    _, read = await server.read(THREE, pages=str(page), model="other")
    found: str = read["text"].split()[4]
    return found


async def test_a_job_has_the_results_that_the_request_would_have(server: Server) -> None:
    job = await submitted(server)
    assert (job["object"], job["model"], job["pod"], job["pages"]["total"]) == ("job", "quick", "pod-a", 3)
    done = await until(server, job, state="done")
    assert (done["pages"], done["queued_ahead"], done["error"]) == (
        {"total": 3, "done": 3, "failed": 0},
        None,
        None,
    )
    assert done["created_at"] <= done["started_at"] <= done["ended_at"] < done["expires_at"]
    assert done["pages_per_second"] > 0
    status, got = await results(server, job)
    _, whole = await server.read(THREE)
    assert (status, got["from"], got["job"]["state"]) == (200, 0, "done")
    assert [page["text"] for page in got["pages"]] == [page["text"] for page in whole["pages"]]
    assert got["pages"][0].keys() == {*whole["pages"][0].keys(), "lines"}


async def test_a_watch_says_everything_once(server: Server) -> None:
    await submitted(server, FIVE)
    job = await submitted(server)  # which waits, whatever becomes of pages before it
    async with server.http.get(f"/v1/jobs/{job['id']}?watch=true") as response:
        events = [json.dumps(each) async for each in inference.events(response)]
    assert len(events) == len(set(events))
    assert json.loads(events[-1])["state"] == "done"


async def test_a_job_takes_the_fields_of_ocr(server: Server) -> None:
    job = await submitted(server, model="other", prompt_type="ocr", pages="3", dpi="72")
    await until(server, job, state="done")
    _, got = await results(server, job)
    (page,) = got["pages"]
    assert (page["index"], page["dpi"], page["metadata"]["mode"]) == (2, 72, "ocr")


async def test_one_picture_can_be_a_job(server: Server) -> None:
    job = await submitted(server, pages.blank())
    assert (await until(server, job, state="done"))["pages"]["total"] == 1


async def test_results_come_page_by_page_and_a_cancelled_job_keeps_them(server: Server, faults: Path) -> None:
    held = await key(server, 2)
    with faulty(faults, {f"page {held}": "hold"}):
        job = await submitted(server, FIVE)
        behind = await submitted(server)
        running = await until(server, job, state="running", done=1)
        assert running["estimated_end_at"] is not None
        _, got = await results(server, job)
        assert [page["index"] for page in got["pages"]] == [0]
        _, rest = await results(server, job, "?from=1")
        assert (rest["from"], rest["pages"]) == (1, [])
        _, waits = await server.json("GET", f"/v1/jobs/{behind['id']}")
        assert (waits["state"], waits["queued_ahead"]) == ("queued", 1)
        assert await server.metric('ocr_jobs{state="queued"}') == 1

        status, cancelled = await server.json("DELETE", f"/v1/jobs/{job['id']}")
        assert (status, cancelled["state"], cancelled["estimated_end_at"]) == (200, "cancelled", None)
        await until(server, job, state="cancelled")  # whose watch ends at once
    await until(server, behind, state="done")
    status, got = await results(server, job)
    assert (status, [page["index"] for page in got["pages"]]) == (200, [0])


async def test_a_job_that_has_ended_can_be_dropped(server: Server) -> None:
    job = await submitted(server)
    await until(server, job, state="done")
    for _ in range(2):
        status, dropped = await server.json("DELETE", f"/v1/jobs/{job['id']}")
        assert (status, dropped["state"], dropped["expires_at"]) == (200, "expired", None)
    status, error = await results(server, job)
    assert (status, error["error"]["code"]) == (410, "job_expired")


async def test_a_page_that_kills_workers_costs_that_page_alone(server: Server, faults: Path) -> None:
    deadly = await key(server, 2)
    with faulty(faults, {f"page {deadly}": "crash"}):
        job = await submitted(server)
        done = await until(server, job, state="done")
    assert done["pages"] == {"total": 3, "done": 3, "failed": 1}
    _, got = await results(server, job)
    codes = [page["error"] and page["error"]["code"] for page in got["pages"]]
    assert codes == [None, "page_kills_worker", None]
    assert await server.metric('ocr_job_pages_total{outcome="failed"}') == 1


@pytest.mark.parametrize(
    ("id_", "says"),
    [
        ("job-0000abcd-000000000000000000000000", "don't survive a restart"),
        ("nonsense", "never was"),
    ],
)
@pytest.mark.parametrize("call", ["GET", "DELETE", "GET result"])
async def test_an_unknown_job_is_a_404_that_says_why(server: Server, id_: str, says: str, call: str) -> None:
    method, _, rest = call.partition(" ")
    status, error = await server.json(method, f"/v1/jobs/{id_}/{rest}".rstrip("/"))
    assert (status, error["error"]["code"]) == (404, "job_not_found")
    assert says in error["error"]["message"]


@pytest.mark.parametrize(
    ("document", "fields", "status", "code"),
    [
        (b"%PDF-1.7 ...", {}, 422, "invalid_pdf"),
        (THREE, {"pages": "4"}, 422, "no_such_page"),
        (THREE, {"dpi": "1"}, 422, "invalid_value"),
        (THREE, {"model": "quik"}, 404, "model_not_found"),
        (None, {}, 400, "missing_file"),
    ],
)
async def test_what_cannot_be_read_is_refused_at_once(
    server: Server, document: bytes | None, fields: dict[str, Any], status: int, code: str
) -> None:
    got, error = await server.json("POST", "/v1/jobs", data=inference.form(document, **fields))
    assert (got, error["error"]["code"]) == (status, code)


@pytest.mark.parametrize("query", ["?watch=maybe", "/result?from=-1", "/result?from=4"])
async def test_bad_queries_are_refused(server: Server, query: str) -> None:
    job = await submitted(server)
    status, error = await server.json("GET", f"/v1/jobs/{job['id']}{query}")
    assert (status, error["error"]["code"]) == (422, "invalid_value")


@pytest.mark.parametrize("query", ["", "?watch=true", "/result"])
async def test_a_head_is_answered_without_a_body(server: Server, query: str) -> None:
    job = await submitted(server)
    await until(server, job, state="done")
    async with server.http.head(f"/v1/jobs/{job['id']}{query}") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_documents_that_wait_take_no_more_memory_than_allowed(server: Server, faults: Path) -> None:
    large = THREE + b"\n" * 80_000  # two of them fit
    with faulty(faults, {"infer": "hold"}):
        jobs = [await submitted(server, large) for _ in range(2)]
        status, error = await server.json("POST", "/v1/jobs", data=inference.form(large))
        assert (status, error["error"]["code"]) == (429, "jobs_full")
        assert error["error"]["message"].startswith("queue full")
    for job in jobs:
        await until(server, job, state="done")
    kept = await server.metric('ocr_kept_bytes{of="documents"}')
    await submitted(server, large)  # for which those of jobs that have ended make way
    assert await server.metric('ocr_kept_bytes{of="documents"}') <= kept
    assert await server.metric('ocr_kept_bytes{of="results"}') > 0


async def test_the_commands_of_the_documentation_work(server: Server, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "jobs.md").read_text()
    block = page.split("```console\n")[1].split("```")[0]
    submit, watch, *others = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    (tmp_path / "contract.pdf").write_bytes(THREE)
    steps = [f"JOB=$({submit} | grep -o 'job-[0-9a-f-]*' | head -1)", watch, *others]
    script = "\n".join(steps).replace("localhost:8001", server.running.url.removeprefix("http://"))
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-e", "-c", script), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await shell.communicate()
    assert shell.returncode == 0
    said = out.decode()
    assert said.count("event: job") >= 2
    assert '"from":0,"pages":[{' in said
    assert said.endswith('"error":null}')
    assert '"state":"expired"' in said.rpartition("]}")[2]  # what has ended is dropped by the last command


async def test_jobs_need_a_key_where_there_are_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    async with inference.server(api_keys_file=keys) as server:
        for method, path in (
            ("POST", ""),
            ("GET", "/x"),
            ("HEAD", "/x"),
            ("GET", "/x/result"),
            ("DELETE", "/x"),
        ):
            async with server.http.request(method, f"/v1/jobs{path}") as response:
                assert response.status == 401, (method, path)


async def test_jobs_end_with_the_server_and_say_so(faults: Path) -> None:
    with faulty(faults, {"infer": "hold"}):
        async with aiohttp.ClientSession() as http:
            async with inference.server(MODELS.format(faults=faults), drain_seconds=0.0) as server:
                job = await submitted(server)
                watch = inference.events(
                    await http.get(f"{server.running.url}/v1/jobs/{job['id']}?watch=true")
                )
                await anext(watch)
            last = [each async for each in watch][-1]
    assert (last["state"], last["error"]["code"]) == ("failed", "draining")
