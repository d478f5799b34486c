"""A page through a real engine, and weights that go where the settings say."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ocr_inference.connections.limits import MOST_WATCHES
from tests.support import inference, pages
from tests.support.patience import PATIENCE

GPU = {"uuid": "GPU-1", "product": "NVIDIA-L40S", "memory_bytes": 46_068 << 20}


def simulated(folder: Path) -> dict[str, Any]:
    (folder / "gpus.json").write_text(json.dumps([GPU]))
    return {"device": "simulated", "simulated_gpu_dir": folder}


async def test_a_real_page_is_read_and_the_weights_go_back(tmp_path: Path) -> None:
    config = "models: [{name: pp-ocr, engine: rapidocr}]"
    async with inference.server(config, **simulated(tmp_path)) as server:
        assert (await server.model("pp-ocr"))["location"] == "unloaded"
        status, body = await server.read(pages.invoice("JPEG"), prompt_type="document")
        assert status == 200
        assert body["metadata"]["backend"] == "simulated"
        assert "Invoice number 4711" in body["text"]
        assert "| Total amount | 134.75 |" in body["text"] or "Total amount 134.75" in body["text"]
        ready = await server.model("pp-ocr")
        assert (ready["state"], ready["location"]) == ("ready", "gpu")
        assert ready["memory_bytes"] > 1 << 20
        _, health = await server.json("GET", "/health")
        assert health["device"] == "simulated:GPU-1"
        assert health["gpu_memory_allocated"] > 1
        assert health["gpu_memory_free"] < 46_068

        wanted = {"generation": 1, "revision": 1, "values": {"idle": {"offloadAfterSeconds": 0}}}
        await server.json("PUT", "/v1/settings", json=wanted)
        await server.until("pp-ocr", state="offloaded", location="cpu", memory_bytes=0)
        wanted = {"generation": 2, "revision": 2, "values": {"idle": {"releaseAfterSeconds": 0}}}
        await server.json("PUT", "/v1/settings", json=wanted)
        await server.until("pp-ocr", state="unloaded", location="unloaded", host_bytes=0)


async def test_a_server_without_the_engines_of_its_models_is_never_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in an image that is built without torch; other models of a server are served on."""
    monkeypatch.setitem(sys.modules, "torch", None)
    needs_torch = "{name: vlm, engine: transformers, source: {path: /nowhere}}"
    async with inference.server(f"models: [{needs_torch}]") as server:
        async with server.http.get("/livez") as alive, server.http.get("/readyz") as ready:
            assert (alive.status, ready.status) == (200, 503)
            assert "engine transformers lacks torch: use an image of target cuda" in await ready.text()
        failure = (await server.model("vlm"))["last_failure"]
        assert failure["reason"] == "EngineMissing"
        async with server.http.post("/ocr", data=inference.form(pages.blank())) as answer:
            assert (answer.status, answer.headers.get("Retry-After")) == (503, None)
            assert (await answer.json())["code"] == "engine_missing"
        assert (await server.model("vlm"))["loads"] == 0
    async with inference.server(f"models: [{needs_torch}, {{name: quick, engine: fake}}]") as server:
        async with server.http.get("/readyz") as ready:
            assert ready.status == 200
        status, _ = await server.read(pages.blank(), model="quick")
        assert status == 200


async def test_many_requests_to_a_sleeping_model_wake_it_once() -> None:
    async with inference.server() as server:
        answers = await asyncio.gather(*(server.read(pages.blank(shade=shade)) for shade in range(12)))
        assert [status for status, _ in answers] == [200] * 12
        assert len({body["text"] for _, body in answers}) == 12
        await server.json("POST", "/gpu/offload")
        answers = await asyncio.gather(*(server.read(pages.blank(shade=shade)) for shade in range(12)))
        assert [status for status, _ in answers] == [200] * 12
        model = await server.model("quick")
        assert (model["loads"], model["wakes"]) == (1, 1)


@pytest.mark.parametrize(
    ("content", "revision", "seconds"),
    [
        (None, 0, 60),
        ("", 0, 60),
        ("  \n", 0, 60),
        ("{garbage", 0, 60),
        ('{"generation": 4, "revision": 7, "values": {"idle": {"offloadAfterSeconds": "soon"}}}', 0, 60),
        ('{"generation": 4, "revision": 7, "values": {"models": {"elsewhere": {}}}}', 7, 60),
        ('{"generation": 4, "revision": 7, "values": {"idle": {"offloadAfterSeconds": 33}}}', 7, 33),
    ],
)
async def test_live_settings_are_read_at_the_start(
    tmp_path: Path, content: str | None, revision: int, seconds: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "live-settings"
    if content is not None:
        file.write_text(content)
    async with inference.server(live_settings_file=file) as server:
        _, held = await server.json("GET", "/v1/state")
        assert held["settings"]["revision"] == revision
        _, health = await server.json("GET", "/health")
        assert health["timeout"] == seconds
    refused = content is not None and content.strip() != "" and revision == 0
    assert ("live settings invalid" in caplog.text) == refused


@pytest.mark.parametrize(
    ("bad", "param"),
    [
        ({"idle": {"exitAfterSeconds": -0.5}}, "values.idle.exitAfterSeconds"),
        ({"batching": {"maxPages": 0}}, "values.batching.maxPages"),
        ({"models": {"quick": {"priority": "high"}}}, "values.models.quick.priority"),
    ],
)
async def test_partly_bad_settings_change_nothing(bad: dict[str, Any], param: str) -> None:
    async with inference.server() as server:
        good = {"logLevel": "debug", "queue": {"limit": 3}}
        await server.json("PUT", "/v1/settings", json={"generation": 1, "revision": 1, "values": good})
        _, before = await server.json("GET", "/v1/state")

        fine = {"logLevel": "error", "queue": {"limit": 9}}
        sent = {"generation": 2, "revision": 2, "values": fine | bad}
        status, refusal = await server.json("PUT", "/v1/settings", json=sent)
        assert (status, refusal["error"]["param"]) == (422, param)
        _, after = await server.json("GET", "/v1/state")
        assert after["settings"] == before["settings"]
        assert after["queue"]["limit"] == 3

        again = {"generation": 2, "revision": 2, "values": fine}
        assert (await server.json("PUT", "/v1/settings", json=again))[0] == 200, "the revision is not used up"


async def test_the_environments_timeout_gives_way_to_the_file_and_to_live_settings() -> None:
    async with inference.server(gpu_idle_timeout=12.0) as server:
        _, health = await server.json("GET", "/health")
        assert health["timeout"] == 12
    async with inference.server(
        inference.FAKE + "idle: {offloadAfterSeconds: 34}", gpu_idle_timeout=12.0
    ) as server:
        _, health = await server.json("GET", "/health")
        assert health["timeout"] == 34


async def test_watchers_are_bounded() -> None:
    async with inference.server() as server:
        watches = [await server.http.get("/v1/state?watch=true") for _ in range(MOST_WATCHES)]
        async with server.http.get("/v1/state?watch=true") as refused:
            assert refused.status == 429
            assert refused.headers["Retry-After"]
        for each in watches:
            each.close()
        async with asyncio.timeout(PATIENCE):
            while await _refused(server):
                pass


async def _refused(server: inference.Server) -> bool:
    async with server.http.get("/v1/state?watch=true") as response:
        return response.status == 429


async def test_the_web_page_needs_nothing_from_elsewhere() -> None:
    as_browsers = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    async with inference.server() as server, server.http.get("/", headers=as_browsers) as response:
        text = await response.text()
        assert response.content_type == "text/html"
        assert response.headers["Vary"] == "Accept, Accept-Encoding"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "http://" not in text
        assert "https://" not in text


async def test_a_program_is_told_what_this_is_where_a_browser_gets_the_page() -> None:
    async with inference.server() as server:
        status, told = await server.json("GET", "/", headers={"Accept": "application/json"})
        assert (status, told["status"], told["model"]) == (200, "running", "quick")
        assert (await server.json("GET", "/"))[1] == told, "as client libraries ask, */*"
        for path in told["endpoints"].values():
            async with server.http.options(path) as response:
                assert response.status != 404, path


async def test_files_of_the_web_page_are_sent_once_and_by_their_names_alone() -> None:
    async with inference.server() as server:
        async with server.http.get("/ui/main.js") as response:
            assert (response.status, response.content_type) == (200, "text/javascript")
            assert response.headers["Content-Encoding"] == "gzip"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            known = {"If-None-Match": response.headers["ETag"]}
        async with server.http.get("/ui/main.js", headers=known) as response:
            assert (response.status, await response.read()) == (304, b"")
        async with server.http.get("/ui/main.js", headers={"Accept-Encoding": "gzip;q=0"}) as response:
            assert "Content-Encoding" not in response.headers
        async with server.http.head("/ui/locales/ja.json") as response:
            assert (response.status, response.content_type) == (200, "application/json")
        for path in (
            "nothing.js",
            "../page.py",
            "%2e%2e/page.py",
            "..%2fpage.py",
            "css",
            "css/",
            "/etc/passwd",
        ):
            request = f"GET /ui/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            head, _ = await server.raw(request.encode())
            assert head.startswith("HTTP/1.1 404 "), path
