"""Two servers behind nginx and behind Caddy, as examples/standalone configures them."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from PIL import Image
from yarl import URL

from ocr_inference.check.server import asking, verdict
from tests.support import front, inference, pages
from tests.support.engines import Faults
from tests.support.front import Front
from tests.support.inference import Server
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.pdfs import PdfPage, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """
models:
  - {{name: quick, engine: fake}}
  - {{name: held, engine: fake, options: {{faults_file: {faults}}}}}
  - {{name: absent, engine: fake, options: {{faults_file: {absent}}}}}
  - {{name: endless, engine: fake, options: {{step_seconds: 0.2, repeat: 1000}}}}
"""
KINDS = ("nginx", "caddy")
KEY = {"Authorization": "Bearer sk-test"}
ADMIN = {"Authorization": "Bearer admin"}
PAGES_READ = 'ocr_pages_total{model="quick",task="document"}'
ORIGIN = "https://app.example.com"


@dataclass(frozen=True)
class Rig:
    """A proxy, and the two servers behind it."""

    front: Front
    servers: dict[str, Server]
    faults: Faults
    """Of the model `held`, at both."""

    def client(self, address: str = "127.0.0.1") -> aiohttp.ClientSession:
        """A client at an address of loopback, with a key."""
        return self.front.client(address, headers=KEY)


def server(folder: Path, name: str, faults: Faults) -> AbstractAsyncContextManager[Server]:
    (folder / "keys").write_text("sk-test\n")
    (folder / "admin").write_text("admin\n")
    (folder / "absent").write_text('{"load": "fail"}')
    return inference.server(
        CONFIG.format(faults=faults.file, absent=folder / "absent"),
        pod_name=name,
        api_keys_file=folder / "keys",
        admin_token_file=folder / "admin",
        cors_origins=(ORIGIN,),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(faults: Faults) -> AsyncIterator[dict[str, Server]]:
    folder = faults.file.parent
    async with server(folder, "a", faults) as first, server(folder, "b", faults) as second:
        yield {"a": first, "b": second}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def rig(
    request: pytest.FixtureRequest,
    servers: dict[str, Server],
    faults: Faults,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp(request.param)
    async with before(request.param, servers, folder) as found:
        yield Rig(found, servers, faults)


def before(
    kind: str, servers: dict[str, Server], folder: Path, changes: dict[str, str] | None = None
) -> AbstractAsyncContextManager[Front]:
    return front.before(kind, [each.running.url for each in servers.values()], folder, changes)


async def pod(http: aiohttp.ClientSession) -> str:
    async with http.get("/v1/state") as response:
        name: str = (await response.json())["pod"]["name"]
        return name


async def read(http: aiohttp.ClientSession, picture: bytes | None = None, **fields: str) -> tuple[int, Any]:
    async with http.post("/ocr", data=inference.form(picture or pages.blank(), **fields)) as response:
        return response.status, await response.json()


async def test_a_page_of_45_megabytes_passes_as_a_form_and_as_json(rig: Rig) -> None:
    data = io.BytesIO()
    Image.new("RGB", (5000, 3000), "white").save(data, "BMP")
    assert len(data.getvalue()) > 45_000_000
    async with rig.client() as http:
        status, answer = await read(http, data.getvalue())
        assert (status, answer["image_dims"]) == (200, {"w": 5000, "h": 3000})
        body = msgspec.json.encode({"image": inference.data_url(data.getvalue(), "image/bmp")})
        kind = {"Content-Type": "application/json"}
        async with http.post("/ocr-base64", data=io.BytesIO(body), headers=kind) as response:
            assert response.status == 200, await response.text()


async def test_keys_and_refusals_pass(rig: Rig) -> None:
    async with rig.front.client() as http:
        status, answer = await read(http)
        assert (status, answer["code"]) == (401, "missing_token")
        async with http.post("/gpu/offload", headers=KEY) as response:
            assert response.status == 403
        async with http.post("/gpu/offload", headers=ADMIN) as response:
            assert response.status == 200


async def test_events_arrive_while_the_state_is_watched(rig: Rig) -> None:
    async with rig.client() as http, http.get("/v1/state?watch=true") as response:
        states = inference.events(response)
        async with asyncio.timeout(PATIENCE):
            name = (await anext(states))["pod"]["name"]
            assert (await rig.servers[name].read(pages.blank(), KEY))[0] == 200
            assert await anext(states), "of a change"


async def test_a_streamed_answer_arrives_word_by_word_and_ends_with_its_client(rig: Rig) -> None:
    """The whole answer would take 23 minutes."""
    asked = {"model": "endless", "messages": [inference.turn(pages.blank())], "stream": True}
    async with rig.client() as http, asyncio.timeout(PATIENCE):
        async with http.post("/v1/chat/completions", json=asked) as response:
            await response.content.readuntil(b"fake")
            response.close()
        for each in rig.servers.values():
            await each.until("endless", in_flight=0)


async def test_pages_go_to_the_server_with_the_fewest(rig: Rig) -> None:
    rig.faults.set(infer="hold")
    async with rig.client() as http:
        reading = [asyncio.create_task(read(http, model="held")) for _ in range(2)]
        for each in rig.servers.values():
            await each.until("held", in_flight=1)
        rig.faults.set()
        assert [status for status, _ in await asyncio.gather(*reading)] == [200, 200]


async def test_clients_are_shared_among_the_servers_and_keep_theirs(rig: Rig) -> None:
    found = {}
    for number in range(2, 30):
        async with rig.client(f"127.0.0.{number}") as http:
            found[number] = await pod(http)
    assert set(found.values()) == set(rig.servers)
    for number in (2, 3, 4, 5):
        async with rig.client(f"127.0.0.{number}") as http:
            assert await pod(http) == found[number]


async def test_a_client_finds_its_job_again_without_a_cookie(rig: Rig) -> None:
    form = inference.form(pdf([PdfPage("one"), PdfPage("two")]))
    async with rig.client("127.0.0.6") as http, http.post("/v1/jobs", data=form) as response:
        assert response.status == 202, await response.text()
        job = await response.json()
    async with rig.client("127.0.0.6") as http, asyncio.timeout(PATIENCE):
        async with http.get(f"/v1/jobs/{job['id']}?watch=true") as response:
            assert response.status == 200
            assert [each["state"] async for each in inference.events(response)][-1] == "done"
        async with http.get(f"/v1/jobs/{job['id']}/result") as response:
            assert response.status == 200
        assert await pod(http) == job["pod"]


async def test_a_file_is_read_by_its_id(rig: Rig) -> None:
    form = inference.form(pages.blank(), purpose="ocr")
    async with rig.client("127.0.0.7") as http:
        async with http.post("/v1/files", data=form) as response:
            assert response.status == 200, await response.text()
            file = (await response.json())["id"]
        for _ in range(3):
            asked = {"model": "quick", "document": {"type": "file", "file_id": file}}
            async with http.post("/v1/ocr", json=asked) as response:
                assert response.status == 200, await response.text()


async def test_what_the_page_reads_is_read_where_the_page_looks(rig: Rig) -> None:
    async with rig.client("127.0.0.9") as http:
        name = await pod(http)
        before = await rig.servers[name].metric(PAGES_READ)
        for _ in range(4):
            headers = {"Sec-Fetch-Site": "same-origin", "Origin": rig.front.url}
            async with http.post("/ocr", data=inference.form(pages.blank()), headers=headers) as response:
                assert response.status == 200
        assert await rig.servers[name].metric(PAGES_READ) == before + 4


@pytest.mark.parametrize(
    ("origin", "status"), [(None, 200), (ORIGIN, 200), ("https://evil.example", 403)], ids=str
)
async def test_the_origin_is_compared_with_the_public_name_and_its_port(
    rig: Rig, origin: str | None, status: int
) -> None:
    """Of browsers that don't send Sec-Fetch-Site."""
    headers = {"Origin": origin or rig.front.url}
    async with rig.client() as http:
        async with http.post("/ocr", data=inference.form(pages.blank()), headers=headers) as response:
            assert response.status == status, await response.text()
            if origin == ORIGIN:
                assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        accept = {"Accept": "application/json, text/event-stream"}
        async with http.post("/mcp", json=ping, headers={**headers, **accept}) as response:
            assert (response.status == 403) == (status == 403), await response.text()


async def test_a_preflight_passes(rig: Rig) -> None:
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    async with rig.front.client() as http, http.options("/ocr", headers=asks) as response:
        assert response.status < 300
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_a_model_that_cannot_be_loaded_closes_no_other(rig: Rig) -> None:
    async with rig.client() as http:
        assert {(await read(http, model="absent"))[0] for _ in range(4)} == {503}
        assert {(await read(http, model="quick"))[0] for _ in range(4)} == {200}


@pytest.mark.parametrize("kind", KINDS)
async def test_where_nobody_listens_another_is_asked(kind: str, tmp_path: Path) -> None:
    """Before Caddy looks again. Debian's Caddy 2.6 can't send a body twice, so a page may fail until it has."""
    rarely = {"health_interval 1s": "health_interval 1h"} if kind == "caddy" else {}
    async with AsyncExitStack() as going, server(tmp_path, "b", Faults(tmp_path)) as staying:
        first = await going.enter_async_context(server(tmp_path, "a", Faults(tmp_path)))
        servers = {"a": first, "b": staying}
        async with before(kind, servers, tmp_path, rarely) as found:
            await going.aclose()
            for number in range(2, 12):
                async with found.client(f"127.0.0.{number}") as http:
                    assert await pod(http) == "b"
            async with found.client(headers=KEY) as http:
                answers = [(await read_plainly(http)) for _ in range(4)]
            assert kind == "caddy" or set(answers) == {200}


async def read_plainly(http: aiohttp.ClientSession) -> int:
    """The status of a page; a proxy's own refusal isn't JSON."""
    async with http.post("/ocr", data=inference.form(pages.blank(), model="quick")) as response:
        return response.status


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_goes_down_is_taken_out(kind: str, tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    async with AsyncExitStack() as going, server(tmp_path, "b", faults) as staying:
        first = await going.enter_async_context(server(tmp_path, "a", faults))
        async with (
            before(kind, {"a": first, "b": staying}, tmp_path) as found,
            found.client(headers=KEY) as http,
            aiohttp.ClientSession(first.running.url, headers=KEY) as direct,
        ):
            faults.set(infer="hold")
            reading = asyncio.create_task(read(direct, model="held"))
            await first.until("held", in_flight=1)
            async with direct.get("/v1/state?watch=true") as watch:
                down = asyncio.create_task(going.aclose())
                await draining(watch)
            assert await statuses(http, kind) == {200}, "nginx asks the other; Caddy has looked by now"
            faults.set()
            assert (await reading)[0] == 200, "what has begun ends"
            await down
            assert await statuses(http, kind) == {200}, "nobody listens there any more"
            assert await pod(http) == "b"


async def draining(watch: aiohttp.ClientResponse) -> None:
    async with asyncio.timeout(PATIENCE):
        async for state in inference.events(watch):
            if state["draining"]:
                return
    raise AssertionError("the watch ended before")


async def statuses(http: aiohttp.ClientSession, kind: str) -> set[int]:
    """Statuses of pages in a row. Caddy looks after its servers once a second; until then a page may be refused."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {await read_plainly(http) for _ in range(12)}
            if kind == "nginx" or found == {200}:
                return found


HELD_BACK = {
    "client_max_body_size 80m;": "",
    "proxy_buffering off;": "proxy_ignore_headers X-Accel-Buffering;",
}


@pytest.mark.parametrize(
    ("changes", "problems"),
    [({}, set()), (HELD_BACK, {"body", "first_event_seconds"})],
    ids=["as it is", "as nginx is by itself"],
)
async def test_a_check_finds_what_a_proxy_does(
    changes: dict[str, str],
    problems: set[str],
    servers: dict[str, Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with before("nginx", servers, tmp_path, changes) as found:
        url = URL(f"https://127.0.0.1:{found.port}")
        with pytest.MonkeyPatch.context() as unknown:
            unknown.delenv("SSL_CERT_FILE", raising=False)
            facts = await asyncio.to_thread(asking.read, url, "", reads_page=False)
            assert "the certificate isn't valid for 127.0.0.1: self-signed" in (facts.problem or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(found.certificate))
        facts = await asyncio.to_thread(asking.read, url, "sk-test", reads_page=True)
        assert {each.subject for each in verdict.judge(facts) if each.level == "problem"} == problems
        assert (facts.controls, facts.reading, facts.outside) == ("token", "token", False)
        assert 1 < (facts.certificate_days or 0) < 3
        assert facts.page is not None
        assert facts.page.problem is None


async def test_a_check_says_what_answers_where_no_server_does(
    servers: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = dict.fromkeys(("127.0.0.1:8001", "127.0.0.1:8002"), "127.0.0.1:1")
    async with before("nginx", servers, tmp_path, nowhere) as found:
        monkeypatch.setenv("SSL_CERT_FILE", str(found.certificate))
        url = URL(f"https://127.0.0.1:{found.port}")
        facts = await asyncio.to_thread(asking.read, url, "", reads_page=False)
        assert "what answers is no server of this program: 502" in (facts.problem or "")


@pytest.mark.parametrize(
    ("kind", "rule", "before_what"),
    [
        ("nginx", "location = /metrics { deny all; }", "    location / {"),
        ("caddy", "respond /metrics 403", "\t# Any server may read a page;"),
    ],
)
async def test_metrics_are_kept_from_outside_as_the_docs_say(
    kind: str, rule: str, before_what: str, servers: dict[str, Server], tmp_path: Path
) -> None:
    assert f"`{rule}`" in (ROOT / "docs" / "standalone.md").read_text(encoding="utf-8")
    changes = {before_what: f"{rule}\n{before_what}"}
    async with before(kind, servers, tmp_path, changes) as found, found.client() as http:
        for path, status in (("/metrics", 403), ("/readyz", 200)):
            async with http.get(path) as response:
                assert response.status == status
