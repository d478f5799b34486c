"""What pages of other sites, and pages under foreign names, can do with the server: nothing, unless they are listed."""

from pathlib import Path

import aiohttp
import pytest

from ocr_wire.live_settings import MAX_STEP
from tests.support import inference, pages

EVIL = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
APP = "https://app.example.com"
WRITES = [
    *(("POST", "/ocr"), ("POST", "/v1/chat/completions"), ("POST", "/gpu/load"), ("POST", "/gpu/offload")),
    *(("POST", "/gpu/release"), ("POST", "/gpu/timeout"), ("POST", "/cleanup"), ("PUT", "/v1/settings")),
    ("POST", "/nothing"),
]


async def test_a_page_of_another_site_neither_reads_nor_controls() -> None:
    async with inference.server() as server:
        for method, path in WRITES:
            for headers in (EVIL, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
                status, body = await server.json(method, path, headers=headers)
                assert (status, inference.refusal(body)["code"]) == (403, "cross_origin"), path
                assert "OCR_CORS_ORIGINS" in inference.refusal(body)["message"]
        # What a form or `fetch` of any page can send without asking first.
        assert (await server.read(pages.blank(), headers=EVIL))[0] == 403
        assert (await server.model("quick"))["state"] == "unloaded"
        async with server.http.get("/v1/state", headers=EVIL) as response:
            assert response.status == 200
            assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_programs_and_our_own_page_are_served() -> None:
    async with inference.server() as server:
        own = {"Origin": server.running.url, "Sec-Fetch-Site": "same-origin"}
        for headers in ({}, own, {"Origin": server.running.url}, {"Sec-Fetch-Site": "none"}):
            assert (await server.read(pages.blank(), headers=headers))[0] == 200
            assert (await server.json("POST", "/gpu/offload", json={"model": "quick"}, headers=headers))[
                0
            ] == 200


async def test_a_page_under_a_foreign_name_neither_looks_nor_declares() -> None:
    async with inference.server() as server:
        rebound = {"Host": "evil.example:8001", "Origin": "http://evil.example:8001"}
        for method, path in (("GET", "/"), ("GET", "/v1/state"), ("GET", "/v1/state?watch=true"), *WRITES):
            async with server.http.request(method, path, headers=rebound) as response:
                body = await response.json()
                assert (response.status, inference.refusal(body)["code"]) == (403, "unknown_host"), path
                assert "OCR_ALLOWED_HOSTS" in inference.refusal(body)["message"]
        for host in ("localhost:8001", "ocr", "ocr.team.svc.cluster.local", "[::1]:9000"):
            assert (await server.json("GET", "/v1/state", headers={"Host": host}))[0] == 200


async def test_listed_names_are_answered() -> None:
    async with inference.server(allowed_hosts=("ocr.example.com",)) as server:
        assert (await server.json("GET", "/health", headers={"Host": "ocr.example.com"}))[0] == 200
        assert (await server.json("GET", "/health", headers={"Host": "evil.example"}))[0] == 403


async def test_with_a_token_an_ingress_needs_no_setting(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    async with inference.server(admin_token_file=tmp_path / "token") as server:
        public = {"Host": "ocr.example.com", "Origin": "https://ocr.example.com"}
        assert (await server.read(pages.blank(), headers=public))[0] == 200


@pytest.mark.parametrize(("origins", "answered"), [((APP,), APP), (("*",), "*")])
async def test_a_listed_page_reads_answers_errors_and_streams(
    origins: tuple[str, ...], answered: str, caplog: pytest.LogCaptureFixture
) -> None:
    page = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
    question = {
        **page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with inference.server(cors_origins=origins) as server:
        assert ("every web page may use and control" in caplog.text) == (answered == "*")

        async def asked(
            method: str, path: str, headers: dict[str, str], data: object = None
        ) -> aiohttp.ClientResponse:
            async with server.http.request(method, path, headers=headers, data=data) as response:
                assert "Access-Control-Allow-Credentials" not in response.headers
                return response

        preflight = await asked("OPTIONS", "/ocr", question)
        assert preflight.status == 204
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        for name in ("Authorization", "Content-Type", "X-Client-ID"):
            assert name in preflight.headers["Access-Control-Allow-Headers"]
        answers = [
            preflight,
            await asked("POST", "/ocr", page, inference.form(pages.blank())),
            await asked("POST", "/ocr", page),
            await asked("GET", "/nothing", page),
            await asked("GET", "/v1/state?watch=true", page),
        ]
        assert [each.status for each in answers] == [204, 200, 415, 404, 200]
        for each in answers:
            assert each.headers["Access-Control-Allow-Origin"] == answered
            assert (each.headers.get("Vary") == "Origin") == (answered != "*")


async def test_other_pages_stay_out_where_one_is_listed() -> None:
    async with inference.server(cors_origins=(APP,)) as server:
        question = {**EVIL, "Access-Control-Request-Method": "POST"}
        for method, headers in (("OPTIONS", question), ("POST", EVIL)):
            async with server.http.request(method, "/ocr", headers=headers) as response:
                assert response.status == 403
                assert "Access-Control-Allow-Origin" not in response.headers


async def test_api_keys_without_an_admin_token_close_the_controls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "keys").write_text("key-a")
    async with inference.server(api_keys_file=tmp_path / "keys") as server:
        for method, path in WRITES[2:8]:
            for headers in ({}, {"Authorization": "Bearer key-a"}):
                status, body = await server.json(method, path, headers=headers)
                assert (status, inference.refusal(body)["code"]) == (403, "controls_closed"), path
                assert "OCR_ADMIN_TOKEN_FILE" in inference.refusal(body)["message"]
        assert (await server.json("GET", "/v1/state"))[0] == 200
    assert "controls are closed" in caplog.text


async def test_the_last_revision_is_out_of_reach() -> None:
    async with inference.server() as server:
        for revision in (2**63 - 1, 2**53 + 1, 2**53, MAX_STEP + 1):
            status, body = await server.json("PUT", "/v1/settings", json=declared(revision))
            assert (status, body["error"]["param"]) == (422, "revision")
        for revision in (1, MAX_STEP + 1, 2 * MAX_STEP + 1):
            assert (await server.json("PUT", "/v1/settings", json=declared(revision)))[0] == 200


def declared(revision: int) -> dict[str, object]:
    return {"generation": 1, "revision": revision, "values": {}}
