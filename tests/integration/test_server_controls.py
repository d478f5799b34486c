"""Controls act on what they were told, and on nothing where they don't understand it. All tests share one server."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support import inference, pages
from tests.support.inference import Server
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = int("9" * 400)
PATHS = ["/gpu/load", "/gpu/offload", "/gpu/release", "/gpu/timeout", "/cleanup"]
TIME: dict[str, dict[str, int]] = {
    **{path: {} for path in ("/gpu/offload", "/gpu/release", "/cleanup")},
    "/gpu/timeout": {"timeout": 1},
}
"""Controls of all models, with the field that each needs."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with inference.server() as running:
        yield running


async def loaded(server: Server) -> None:
    for name in ("quick", "slow"):
        assert (await server.json("POST", "/gpu/load", json={"model": name}))[0] == 200


async def states(server: Server) -> list[str]:
    return [(await server.model(name))["state"] for name in ("quick", "slow")]


async def timeouts(server: Server) -> list[float]:
    answers = [await server.json("GET", "/gpu/status", params={"model": name}) for name in ("quick", "slow")]
    return [body["timeout"] for _, body in answers]


async def refused(server: Server, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
    """Send what must change nothing: neither states nor timeouts."""
    await loaded(server)
    before = await timeouts(server)
    status, body = await server.json("POST", path, **request)
    assert (await states(server), await timeouts(server)) == (["ready", "ready"], before)
    return status, inference.refusal(body)


TYPES = ["text/plain", "application/octet-stream", "application/vnd.api+json", "application/xml", None]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("path", PATHS)
async def test_a_body_of_another_type_is_a_415_and_does_nothing(
    server: Server, path: str, kind: str | None
) -> None:
    body = json.dumps({"model": "quick", "timeout": 1}).encode()
    sent: dict[str, Any] = {"skip_auto_headers": ["Content-Type"]}
    if kind is not None:
        sent = {"headers": {"Content-Type": kind}}
    status, error = await refused(server, path, data=body, **sent)
    assert (status, error["code"]) == (415, "unsupported_media_type")
    assert "application/json" in error["message"]


@pytest.mark.parametrize(
    ("path", "request_", "param", "says"),
    [
        *[(path, {"params": {"modle": "quick"}}, "modle", "'model'") for path in PATHS],
        *[(path, {"data": {"modle": "quick"}}, "modle", "'model'") for path in PATHS],
        *[(path, {"json": {"modle": "quick"}}, "modle", "'model'") for path in PATHS],
        ("/gpu/timeout", {"json": {"timeout_second": 1}}, "timeout_second", "'timeout_seconds'"),
        ("/gpu/release", {"params": {"model": "quick"}, "json": {"model": "slow"}}, "model", "twice"),
        ("/gpu/release", {"params": [("model", "quick"), ("model", "slow")]}, "model", "twice"),
        ("/gpu/release", {"data": [("model", "quick"), ("model", "slow")]}, "model", "twice"),
        ("/gpu/release", {"data": inference.form(b"x")}, "file", "no field"),
        ("/gpu/timeout", {"params": {"timeout": 1}, "data": {"timeout": "2"}}, "timeout", "twice"),
        ("/gpu/offload", {"params": {"if_idle": "true"}}, "model", "if_idle needs model"),
        ("/gpu/offload", {"json": {"if_idle": True, "all": True}}, "model", "if_idle needs model"),
        ("/gpu/offload", {"json": {"if_idle": 1, "model": "quick"}}, "if_idle", "true or false"),
        ("/gpu/offload", {"params": {"if_idle": "", "model": "quick"}}, "if_idle", "true or false"),
        ("/gpu/offload", {"json": {"if_idle": False}}, "model", "all: true"),
        ("/gpu/load", {"json": {"all": True}}, "all", "no field"),
        *[
            (path, {"json": {**needed, "model": "quick", "all": True}}, "all", "either")
            for path, needed in TIME.items()
        ],
        *[(path, {"json": {**needed, "all": False}}, "model", "all: true") for path, needed in TIME.items()],
        *[
            (path, {"params": {**needed, "all": "perhaps"}}, "all", "true or false")
            for path, needed in TIME.items()
        ],
        ("/gpu/release", {"json": {"model": ""}}, "model", "a model's name"),
        ("/gpu/release", {"json": {"model": None}}, "model", "a model's name"),
        ("/gpu/release", {"json": {"model": []}}, "model", "a model's name"),
        ("/gpu/release", {"params": {"model": ""}}, "model", "a model's name"),
        *[
            ("/gpu/timeout", {"data": {"timeout": text}}, "timeout", "seconds from 0")
            for text in ("1_0", "١٠", "１０", "inf", "nan", "+5", " 5", "9" * 400, "0x10", "-0.5")
        ],
        *[
            ("/gpu/timeout", {"json": {"timeout": value}}, "timeout", "seconds from 0")
            for value in (LONG, -LONG, True, [1], {"a": 1}, "1_0")
        ],
        (
            "/gpu/offload",
            {"json": {"model": "quick", "if_idle": True, "min_resident_seconds": LONG}},
            *("min_resident_seconds", "seconds from 0"),
        ),
    ],
)
async def test_what_is_not_understood_is_named_and_does_nothing(
    server: Server, path: str, request_: dict[str, Any], param: str | None, says: str
) -> None:
    status, error = await refused(server, path, **request_)
    assert (status, says in error["message"]) == (422, True), error
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("application/json", b'{"model": "quick", "model": "slow"}', 422, "invalid_value"),
        ("application/json", b"[]", 422, "invalid_value"),
        ("application/json", b"null", 422, "invalid_value"),
        ("application/json", b'{"model": NaN}', 400, "invalid_json"),
        ("application/json", b'{"model": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
        ("application/json", b'{"\\ud800": "\\udfff"}', 422, "unknown_field"),
        ("application/json", b'{"model": "\\ud800"}', 404, "model_not_found"),
        ("application/json", b'{"a":' * 12_000, 400, "invalid_json"),
        ("application/json", b"\xff\xfe\xfd", 400, "invalid_json"),
        ("application/json", b" " * 70_000, 413, "body_too_large"),
        ("application/x-www-form-urlencoded", b"model=%ff", 400, "malformed_form"),
        ("application/x-www-form-urlencoded", b"\xff", 400, "malformed_form"),
        ("application/x-www-form-urlencoded", b"&".join([b"model=quick"] * 40), 400, "malformed_form"),
        ("application/x-www-form-urlencoded", b'{"model": "quick"}', 422, "unknown_field"),
        ("multipart/form-data; boundary=x", b"--x\r\n", 400, "malformed_multipart"),
    ],
)
async def test_a_broken_body_does_nothing(
    server: Server, kind: str, body: bytes, status: int, code: str
) -> None:
    got, error = await refused(server, "/gpu/release", data=body, headers={"Content-Type": kind})
    assert (got, error["code"]) == (status, code), error


async def test_a_compressed_body_does_nothing(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    status, error = await refused(server, "/gpu/release", data=b'{"model": "quick"}', headers=headers)
    assert (status, error["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize("kind", [*TYPES, "application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("framing", ["", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_nothing_sent_means_all_whatever_type_nothing_has(
    server: Server, kind: str | None, framing: str
) -> None:
    """curl, fetch and XMLHttpRequest differ in the headers of a POST without a body."""
    await loaded(server)
    content_type = "" if kind is None else f"Content-Type: {kind}\r\n"
    end = "0\r\n\r\n" if "chunked" in framing else ""
    head = f"POST /gpu/offload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{content_type}{framing}\r\n{end}"
    assert (await server.raw(head.encode()))[0].startswith("HTTP/1.1 200 ")
    assert await states(server) == ["offloaded", "offloaded"]


@pytest.mark.parametrize(
    "request_",
    [{"json": {}}, {"json": {"all": True}}, {"params": {"all": "true"}}, {"data": {"all": "1"}}],
)
async def test_all_models_are_meant_by_an_empty_object_or_all(
    server: Server, request_: dict[str, Any]
) -> None:
    await loaded(server)
    assert (await server.json("POST", "/gpu/release", **request_))[0] == 200
    assert await states(server) == ["unloaded", "unloaded"]


MODEL: dict[str, Any] = {"model": "slow"}


@pytest.mark.parametrize(
    "request_",
    [
        *({"params": MODEL}, {"json": MODEL}, {"data": MODEL}, {"data": inference.form(None, **MODEL)}),
        {"params": MODEL, "json": {**MODEL, "all": False}},
    ],
)
async def test_a_model_is_named_in_the_query_as_in_the_body(server: Server, request_: dict[str, Any]) -> None:
    await loaded(server)
    status, body = await server.json("POST", "/gpu/release", **request_)
    assert (status, body["model"], body["state"]) == (200, "slow", "unloaded")
    assert await states(server) == ["ready", "unloaded"]


async def test_every_field_counts_in_the_query(server: Server) -> None:
    await loaded(server)
    asked = {"model": "quick", "if_idle": "yes", "min_resident_seconds": "3600"}
    status, body = await server.json("POST", "/gpu/offload", params=asked)
    assert (status, body["code"]) == (409, "model_busy")
    await server.json("POST", "/gpu/timeout", params={"timeout": "12.5", "model": "quick"})
    await server.json("POST", "/gpu/timeout", params={"model": "slow"}, json={"timeout": -1})
    assert await timeouts(server) == [12.5, -1]
    await server.json("POST", "/gpu/timeout", data={"timeout": "60"})
    assert await timeouts(server) == [60, 60]


async def test_the_state_says_which_idle_times_count_and_which_were_set_here(server: Server) -> None:
    _, before = await server.json("GET", "/v1/state")
    revision = before["settings"]["revision"] + 1
    declared = {"idle": {"offloadAfterSeconds": 40, "releaseAfterSeconds": -1}}
    body = {"generation": 1, "revision": revision, "values": declared}
    await server.json("PUT", "/v1/settings", json=body)
    await server.until("quick", idle=idle_times(40))
    assert (await server.json("GET", "/v1/state"))[1]["local_timeouts"] == []

    await server.json("POST", "/gpu/timeout", json={"model": "slow", "timeout": 40})
    async with asyncio.timeout(PATIENCE), server.http.get("/v1/state?watch=true") as response:
        async for state in inference.events(response):
            if state["local_timeouts"]:
                break
    assert state["local_timeouts"] == ["slow"], "also where it is the time that was declared"
    assert await server.json("POST", "/gpu/timeout", json={"model": "slow", "timeout": -1})
    await server.until("slow", idle=idle_times(-1))

    await server.json("PUT", "/v1/settings", json={**body, "revision": revision + 1})
    await server.until("slow", idle=idle_times(40))
    assert (await server.json("GET", "/v1/state"))[1]["local_timeouts"] == [], "newer settings arrived"


def idle_times(offload: float) -> dict[str, float]:
    return {
        "offload_after_seconds": offload,
        "exit_after_seconds": 300,
        "release_after_seconds": -1,
        "drop_standby_after_seconds": 900,
    }


async def test_settings_take_nothing_from_the_query(server: Server) -> None:
    _, before = await server.json("GET", "/v1/state")
    body = {"generation": 1, "revision": 9, "values": {"idle": {"offloadAfterSeconds": 1}}}
    status, answer = await server.json("PUT", "/v1/settings", params={"model": "quick"}, json=body)
    assert (status, answer["error"]["param"]) == (422, "model")
    _, after = await server.json("GET", "/v1/state")
    assert after["settings"] == before["settings"]


@pytest.mark.parametrize("kind", [*TYPES, "application/x-www-form-urlencoded"])
async def test_settings_of_another_type_do_nothing(server: Server, kind: str | None) -> None:
    _, before = await server.json("GET", "/v1/state")
    body = {"generation": 1, "revision": 9, "values": {"idle": {"offloadAfterSeconds": 1}}}
    sent: dict[str, Any] = {"skip_auto_headers": ["Content-Type"]}
    if kind is not None:
        sent = {"headers": {"Content-Type": kind}}
    status, answer = await server.json("PUT", "/v1/settings", data=json.dumps(body).encode(), **sent)
    assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
    _, after = await server.json("GET", "/v1/state")
    assert after["settings"] == before["settings"]


async def test_settings_with_a_key_twice_do_nothing(server: Server) -> None:
    _, before = await server.json("GET", "/v1/state")
    body = b'{"generation": 1, "revision": 9, "values": {"idle": {}, "idle": {"offloadAfterSeconds": 1}}}'
    headers = {"Content-Type": "application/json"}
    status, answer = await server.json("PUT", "/v1/settings", data=body, headers=headers)
    assert (status, answer["error"]["code"]) == (422, "invalid_settings")
    assert "'idle' twice" in answer["error"]["message"]
    _, after = await server.json("GET", "/v1/state")
    assert after["settings"] == before["settings"]


async def test_the_fields_of_a_page_count_in_the_query_once(server: Server) -> None:
    async def read(form: aiohttp.FormData, **query: str) -> tuple[int, Any]:
        return await server.json("POST", "/ocr", data=form, params=query)

    status, body = await read(inference.form(pages.blank(), prompt_type="ocr"), model="slow", t="1")
    assert (status, body["prompt_type"], body["metadata"]["model"]) == (200, "ocr", "slow")
    assert body["metadata"]["ignored_fields"] == ["t"]
    twice = inference.form(pages.blank(), model="quick")
    twice.add_field("model", "slow")
    for answer in (await read(twice), await read(inference.form(pages.blank(), model="quick"), model="slow")):
        assert (answer[0], answer[1]["param"]) == (422, "model")
