"""The wire: what clients, probes, dashboards and the operator rely on, byte for byte where they do."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from ocr_inference import families
from ocr_inference.connections.phases import Ending
from ocr_inference.jobs.job import ENDED
from ocr_inference.scheduling import memory_ladder
from ocr_wire import live_settings
from ocr_wire import state as podstate
from tests.support import inference, pages, prometheus
from tests.support.inference import Server
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOLDEN = ROOT / "tests" / "golden" / "state"

VALUES = {
    "idle": {"offloadAfterSeconds": 60, "exitAfterSeconds": 300, "releaseAfterSeconds": 1800},
    "batching": {"maxPages": 8, "maxWaitMilliseconds": 10},
    "queue": {"limit": 64, "patienceSeconds": 10, "deadlineSeconds": 300},
    "logLevel": "info",
    "models": {
        "quick": {
            "idle": {"offloadAfterSeconds": 300, "exitAfterSeconds": 300, "releaseAfterSeconds": 1800},
            "priority": 0,
            "preload": False,
        }
    },
}
HEALTH = [
    *("status", "backend", "platform", "gpu_manager", "model_location", "idle_time", "device", "timeout"),
    *("gpu_memory_allocated", "gpu_memory_reserved", "gpu_memory_free", "gpu_memory_allocated_gb"),
]
OTHER_HEALTH = [
    *("machine", "model_loaded", "tokenizer_loaded", "model_version", "mode", "gpu_name", "gpu_memory_total"),
    "ocr_queue",
]
"""Keys of later versions and of other servers."""
MODEL = ["id", "object", "created", "owned_by", "engine", "state", "location", "scripts", "tasks"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with inference.server() as running:
        yield running


def envelope(revision: int, values: dict[str, Any] | None = None, **more: object) -> dict[str, Any]:
    return {"generation": 4, "revision": revision, "values": VALUES if values is None else values, **more}


async def revision(server: Server) -> int:
    _, state = await server.json("GET", "/v1/state")
    held: int = state["settings"]["revision"]
    return held


async def test_ocr_answers_in_the_compatible_shape(server: Server) -> None:
    status, body = await server.read(pages.blank(64, 48), prompt_type="ocr", base_size="1024")
    assert status == 200
    assert list(body) == [*("success", "text", "raw_text", "boxes", "image_dims", "prompt_type", "metadata")]
    assert body["success"] is True
    assert body["prompt_type"] == "ocr"
    assert body["image_dims"] == {"w": 64, "h": 48}
    assert body["boxes"] == [{"label": body["text"], "box": [0, 0, 64, 48]}]
    assert {"mode", "backend", "has_boxes", "gpu_managed", "model", "engine"} <= set(body["metadata"])
    assert body["metadata"]["ignored_fields"] == ["base_size"]


async def test_the_picture_may_be_called_image_and_the_task_left_out(server: Server) -> None:
    status, body = await server.json("POST", "/ocr", data=inference.form(pages.blank(), field="image"))
    assert (status, body["prompt_type"]) == (200, "document")


async def test_health_has_exactly_the_compatible_keys(server: Server) -> None:
    status, body = await server.json("GET", "/health")
    assert (status, list(body)) == (200, HEALTH + OTHER_HEALTH)
    assert body["gpu_manager"] is True
    assert body["timeout"] == 60
    assert body["status"] == "healthy"
    assert (body["model_version"], body["mode"]) == ("quick", "fake on cpu")
    assert body["ocr_queue"] == {"depth": 0, "max_size": 64, "is_full": False}
    assert (body["gpu_name"], body["gpu_memory_total"]) == (None, 0)
    for path, loaded in (("/gpu/load", True), ("/gpu/offload", True), ("/gpu/release", False)):
        await server.json("POST", path)
        _, body = await server.json("GET", "/health")
        assert (body["model_loaded"], body["tokenizer_loaded"]) == (loaded, loaded), path


async def test_gpu_status_has_the_compatible_keys(server: Server) -> None:
    status, body = await server.json("GET", "/gpu/status", params={"model": "slow"})
    assert status == 200
    assert set(HEALTH[4:]) <= set(body)
    assert body["model"] == "slow"
    status, body = await server.json("GET", "/gpu/status", params={"model": "none"})
    assert (status, body["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_answer_ok_with_nothing_loaded(server: Server, path: str) -> None:
    async with server.http.get(path) as response:
        assert (response.status, await response.text()) == (200, "ok\n")


async def test_models_are_listed_in_openai_shape(server: Server) -> None:
    _, body = await server.json("GET", "/v1/models")
    assert body["object"] == "list"
    assert [list(model) for model in body["data"]] == [MODEL] * 2
    assert body["data"][0]["tasks"] == ["document", "ocr", "free", "find"]
    assert [model["id"] for model in body["data"]] == ["quick", "slow"]
    assert await server.json("GET", "/v1/models/slow") == (200, body["data"][1])
    status, body = await server.json("GET", "/v1/models/none")
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("GET", "/ocr", 405, "method_not_allowed"),
        ("DELETE", "/v1/settings", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/gpu/offload", 405, "method_not_allowed"),
        ("POST", "/ocr", 415, "unsupported_media_type"),
        ("GET", "/v1/state?watch=perhaps", 422, "invalid_value"),
        ("PUT", "/v1/settings", 422, "invalid_settings"),
    ],
)
async def test_errors_have_the_shape_of_their_path(
    server: Server, method: str, path: str, status: int, code: str
) -> None:
    async with server.http.request(method, path) as response:
        body = await response.json()
        assert response.status == status
        if path.startswith("/v1/"):
            assert list(body) == ["error"]
            assert list(body["error"]) == ["message", "type", "code", "param"]
        else:
            assert list(body) == ["success", "error", "detail", "type", "code", "param"]
            assert body["success"] is False
            assert body["error"] == body["detail"] != ""
        assert inference.refusal(body)["code"] == code
        assert response.headers["X-Request-ID"]
        if status == 405:
            assert response.headers["Allow"]


async def test_a_decent_request_id_is_kept_and_another_one_replaced(server: Server) -> None:
    async with server.http.get("/livez", headers={"X-Request-ID": "trace-1:2"}) as response:
        assert response.headers["X-Request-ID"] == "trace-1:2"
    async with server.http.get("/livez", headers={"X-Request-ID": "a b" * 50}) as response:
        assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-ID"])


async def test_the_operator_understands_the_state(server: Server) -> None:
    async with server.http.get("/v1/state") as response:
        state = podstate.parse(await response.read())
    assert isinstance(state, podstate.PodState), state
    assert [model.name for model in state.models] == ["quick", "slow"]


GOLDEN_STATES = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.json"))}


@pytest.mark.parametrize("name", GOLDEN_STATES)
async def test_the_operator_understands_the_golden_states(name: str) -> None:
    assert isinstance(podstate.parse(GOLDEN_STATES[name]), podstate.PodState)


async def test_the_golden_states_have_the_fields_of_the_real_one(server: Server) -> None:
    _, real = await server.json("GET", "/v1/state")
    assert len(GOLDEN_STATES) >= 5
    for name, data in GOLDEN_STATES.items():
        assert shape(msgspec.json.decode(data)) == shape(real), name


def shape(state: dict[str, Any]) -> dict[str, list[str]]:
    """Keys in their order, one level deep, of the models' first."""
    parts = {name: state[name] for name in ("pod", "device", "queue", "settings")}
    return {"": list(state), "model": list(state["models"][0])} | {name: list(parts[name]) for name in parts}


async def test_settings_are_applied_and_echoed(server: Server) -> None:
    wanted = envelope(await revision(server) + 1)
    status, echo = await server.json("PUT", "/v1/settings", json=wanted)
    assert status == 200
    assert echo == {**wanted, "hash": live_settings.digest(VALUES)}
    _, state = await server.json("GET", "/v1/state")
    assert state["settings"] == echo
    _, gpu = await server.json("GET", "/gpu/status")
    assert gpu["timeout"] == 300


async def test_the_same_settings_again_are_fine_and_a_newer_generation_is_echoed(server: Server) -> None:
    wanted = envelope(await revision(server) + 1)
    await server.json("PUT", "/v1/settings", json=wanted)
    assert (await server.json("PUT", "/v1/settings", json=wanted))[0] == 200
    status, echo = await server.json("PUT", "/v1/settings", json={**wanted, "generation": 5})
    assert (status, echo["generation"]) == (200, 5)
    status, echo = await server.json("PUT", "/v1/settings", json={**wanted, "generation": 3})
    assert (status, echo["generation"]) == (200, 5)


async def test_older_or_conflicting_revisions_are_refused(server: Server) -> None:
    now = await revision(server) + 2
    _, held = await server.json("PUT", "/v1/settings", json=envelope(now))
    for wanted, code in (
        (envelope(now - 1), "stale_revision"),
        (envelope(now, {**VALUES, "logLevel": "debug"}), "revision_conflict"),
    ):
        status, body = await server.json("PUT", "/v1/settings", json=wanted)
        assert (status, body["error"]["code"], body["error"]["param"]) == (409, code, "revision")
    _, state = await server.json("GET", "/v1/state")
    assert state["settings"] == held


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"idle": {"offloadAfterSeconds": -2}}, "values.idle.offloadAfterSeconds"),
        ({"idle": {"offloadAfterSeconds": -0.5}}, "values.idle.offloadAfterSeconds"),
        ({"idle": {"offloadAfterSeconds": "60"}}, "values.idle.offloadAfterSeconds"),
        ({"idle": {"offloadAfterSeconds": 31_536_001}}, "values.idle.offloadAfterSeconds"),
        ({"queue": {"limit": 0}}, "values.queue.limit"),
        ({"logLevel": "loud"}, "values.logLevel"),
        ({"models": {"quick": {"preload": 1}}}, "values.models.quick.preload"),
    ],
)
async def test_bad_settings_name_their_place_and_apply_nothing(
    server: Server, values: dict[str, Any], param: str
) -> None:
    _, before = await server.json("GET", "/v1/state")
    wanted = envelope(before["settings"]["revision"] + 1, {"batching": {"maxPages": 1}, **values})
    status, body = await server.json("PUT", "/v1/settings", json=wanted)
    assert (status, body["error"]["param"]) == (422, param), body
    _, after = await server.json("GET", "/v1/state")
    assert after["settings"] == before["settings"]


async def test_settings_that_this_version_does_not_know_are_ignored_and_named(server: Server) -> None:
    """A newer operator may send them; the rest applies, and the hash of the echo is that of all that was sent."""
    values = {
        "idle": {"offloadAfterSeconds": 43, "napAfterSeconds": 60},
        "models": {"quick": {"preload": False, "tint": "red"}, "other": {}},
        "routing": {"policy": "all"},
    }
    wanted = {**envelope(await revision(server) + 1, values), "signature": "x"}
    status, echo = await server.json("PUT", "/v1/settings", json=wanted)
    assert status == 200, echo
    assert echo["ignored"] == [
        *("signature", "values.idle.napAfterSeconds", "values.models.other", "values.models.quick.tint"),
        "values.routing",
    ]
    assert (echo["hash"], echo["values"]) == (live_settings.digest(values), values)
    _, state = await server.json("GET", "/v1/state")
    assert state["settings"] == echo
    _, gpu = await server.json("GET", "/gpu/status")
    assert gpu["timeout"] == 43


async def test_a_wrong_hash_is_refused_and_a_right_one_taken(server: Server) -> None:
    now = await revision(server) + 1
    status, body = await server.json("PUT", "/v1/settings", json=envelope(now, hash="0" * 16))
    assert (status, body["error"]["param"]) == (422, "hash")
    wanted = envelope(now, hash=live_settings.digest(VALUES))
    assert (await server.json("PUT", "/v1/settings", json=wanted))[0] == 200


async def test_a_local_timeout_lasts_until_newer_settings(server: Server) -> None:
    _, before = await server.json("GET", "/v1/state")
    status, body = await server.json("POST", "/gpu/timeout", data={"timeout": "-1"})
    assert (status, body["success"], body["timeout"]) == (200, True, -1)
    _, state = await server.json("GET", "/v1/state")
    assert state["settings"] == before["settings"]
    await server.json("PUT", "/v1/settings", json=envelope(await revision(server) + 1))
    _, health = await server.json("GET", "/health")
    assert health["timeout"] == 300


@pytest.mark.parametrize(
    "request_",
    [
        {"data": {"timeout": "45", "model": "slow"}},
        {"json": {"timeout": 45, "model": "slow"}},
        {"json": {"timeout_seconds": 45, "model": "slow"}},
        {"data": {"timeout": "45", "timeout_seconds": "45.0", "model": "slow"}},
    ],
)
async def test_controls_take_forms_and_json(server: Server, request_: dict[str, Any]) -> None:
    status, body = await server.json("POST", "/gpu/timeout", **request_)
    assert (status, body["model"], body["timeout"]) == (200, "slow", 45)
    assert body["message"] == "idle time until offload of model slow: 45 s"


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/gpu/timeout", {}, 422, "timeout"),
        ("/gpu/timeout", {"timeout": "soon"}, 422, "timeout"),
        ("/gpu/timeout", {"timeout": -5}, 422, "timeout"),
        ("/gpu/timeout", {"timeout": True}, 422, "timeout"),
        ("/gpu/timeout", {"timeout": 1e12}, 422, "timeout"),
        ("/gpu/timeout", {"timeout": 1, "model": "none"}, 404, "model"),
        ("/gpu/timeout", {"timeout_seconds": -5}, 422, "timeout_seconds"),
        ("/gpu/timeout", {"timeout": 1, "timeout_seconds": 2}, 422, "timeout_seconds"),
        ("/gpu/load", {"model": "none"}, 404, "model"),
        ("/gpu/load", {"timeout": 1}, 422, "timeout"),
        ("/gpu/offload", {"modle": "slow"}, 422, "modle"),
        ("/gpu/offload", {"if_idle": True}, 422, "model"),
        ("/gpu/offload", {"if_idle": "perhaps", "model": "slow"}, 422, "if_idle"),
        ("/gpu/offload", {"if_idle": 1.5, "model": "slow"}, 422, "if_idle"),
        ("/gpu/offload", {"if_idle": [], "model": "slow"}, 422, "if_idle"),
        ("/gpu/offload", {"if_idle": True, "model": "none"}, 404, "model"),
        ("/gpu/offload", {"min_resident_seconds": 5, "model": "slow"}, 422, "min_resident_seconds"),
        (
            "/gpu/offload",
            {"if_idle": True, "model": "slow", "min_resident_seconds": -1},
            *(422, "min_resident_seconds"),
        ),
        ("/gpu/release", {"model": 3}, 422, "model"),
        ("/gpu/release", [], 422, None),
    ],
)
async def test_bad_controls_name_the_field(
    server: Server, path: str, body: object, status: int, param: str | None
) -> None:
    got, answer = await server.json("POST", path, json=body)
    assert (got, answer["param"]) == (status, param), answer


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b" "),
        ("application/x-www-form-urlencoded", b"&"),
        ("multipart/form-data; boundary=cut", b"--cut--\r\n"),
        ("multipart/form-data; boundary=cut", b"model=slow\r\n--cut--\r\n"),
        # What comes after the last boundary isn't part of the form.
        (
            "multipart/form-data; boundary=cut",
            b'--cut--\r\n--cut\r\nContent-Disposition: form-data; name="model"\r\n\r\nslow\r\n--cut--\r\n',
        ),
    ],
)
async def test_a_body_without_a_field_does_nothing(server: Server, kind: str, body: bytes) -> None:
    await server.read(pages.blank())
    status, answer = await server.json("POST", "/gpu/release", data=body, headers={"Content-Type": kind})
    assert (status, answer["type"]) == (400, "invalid_request_error"), answer
    assert (await server.json("GET", "/gpu/status"))[1]["state"] == "ready"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data; boundary=cut"])
async def test_nothing_in_chunks_is_nothing(server: Server, kind: str) -> None:
    status, answer = await server.json(
        "POST", "/gpu/release", data=io.BytesIO(), headers={"Content-Type": kind}
    )
    assert (status, answer.get("state")) == (200, "unloaded"), answer


async def test_controls_move_the_model(server: Server) -> None:
    await server.read(pages.blank())
    for path, state, message in (
        ("/gpu/load", "ready", "model quick is ready"),
        ("/gpu/offload", "offloaded", "off the GPU: all models"),
        ("/gpu/release", "unloaded", "unloaded: all models"),
    ):
        status, body = await server.json("POST", path)
        assert (status, body["success"], body["state"], body["message"]) == (200, True, state, message)


async def test_a_cleanup_leaves_models_where_they_are(server: Server) -> None:
    await server.json("POST", "/gpu/release")
    status, body = await server.json("POST", "/cleanup")
    assert (status, body["state"], body["workers"]) == (200, "unloaded", [])
    assert body["message"] == "no worker is running, so there is nothing to free"
    await server.read(pages.blank())
    await server.until("quick", in_flight=0)
    before = await server.model("quick")
    status, body = await server.json("POST", "/cleanup")
    assert (status, body["success"], body["state"]) == (200, True, "ready")
    assert body["message"].startswith("caches of 1 worker emptied: 0.0 MiB of GPU memory and ")
    (worker,) = body["workers"]
    assert (worker["model"], worker["cleaned"]) == ("quick", True)
    assert worker["before"]["rss_bytes"] > 1 << 20
    assert worker["after"]["device"] is None
    assert await server.model("quick") == before, "nothing moved, and it counts as no activity"
    status, body = await server.json("POST", "/cleanup", json={"model": "slow"})
    assert (status, body["workers"]) == (200, []), "no model is woken"
    status, body = await server.json("POST", "/cleanup", json={"model": "quick", "force": True})
    assert (status, body["param"]) == (422, "force")


async def test_idle_models_say_since_when_and_what_they_wait_for(server: Server) -> None:
    await server.read(pages.blank())
    await server.until("quick", in_flight=0)
    model = await server.model("quick")
    assert model["idle_since"] >= model["since"]
    assert model["waits_for"] is None


async def test_an_offload_of_an_idle_model_happens_at_once_or_not_at_all(server: Server) -> None:
    await server.read(pages.blank())
    async with server.http.post(
        "/gpu/offload", json={"model": "quick", "if_idle": True, "min_resident_seconds": 3600}
    ) as response:
        body = await response.json()
        assert (response.status, body["code"]) == (409, "model_busy"), body
        assert 0 < int(response.headers["Retry-After"]) <= 3600
    for _ in range(2):
        status, body = await server.json(
            "POST", "/gpu/offload", data={"model": "quick", "if_idle": "true", "min_resident_seconds": "0"}
        )
        assert (status, body["success"], body["state"]) == (200, True, "offloaded")


async def test_load_wakes_one_model_and_keeps_no_lease(server: Server) -> None:
    await server.json("POST", "/gpu/release")
    status, body = await server.json("POST", "/gpu/load")
    assert (status, body["success"], body["model"], body["state"]) == (200, True, "quick", "ready")
    assert (await server.model("slow"))["state"] == "unloaded"
    status, body = await server.json("POST", "/gpu/load", json={"model": "slow"})
    assert (status, body["model"], body["state"]) == (200, "slow", "ready")
    status, body = await server.json("POST", "/gpu/offload")  # waits for leases: there are none
    assert (status, body["state"]) == (200, "offloaded")


async def test_the_watch_sends_the_whole_state_at_first_and_on_each_change(server: Server) -> None:
    async with asyncio.timeout(PATIENCE), server.http.get("/v1/state?watch=true") as response:
        assert response.content_type == "text/event-stream"
        states = inference.events(response)
        _, now = await server.json("GET", "/v1/state")
        assert await anext(states) == now
        wanted = envelope(await revision(server) + 1)
        await server.json("PUT", "/v1/settings", json=wanted)
        assert (await anext(states))["settings"]["revision"] == wanted["revision"]


@pytest.mark.parametrize("said", prometheus.ACCEPT)
async def test_metrics_come_in_the_format_that_prometheus_prefers(server: Server, said: str) -> None:
    header, media_type = prometheus.ACCEPT[said]
    async with server.http.get("/metrics", headers={"Accept": header}) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, media_type)
        text = await response.text()
    assert "ocr_pages" in prometheus.families(text, media_type)
    assert "_created" not in text


async def test_what_a_counter_tells_apart_is_there_from_the_start(server: Server) -> None:
    """Of a series that begins with its first event Prometheus sees no increase."""
    async with server.http.get("/metrics") as response:
        text = await response.text()
    for family, label, values in (
        ("connections_ended", "reason", Ending),
        ("jobs_ended", "state", ENDED),
        ("job_pages", "outcome", ("read", "failed")),
        ("pages", 'model="quick",task', families.of("fake").tasks),
        ("page_shortages", 'model="quick",step', ("bounded", *memory_ladder.Step)),
    ):
        for value in values:
            assert f'ocr_{family}_total{{{label}="{value}"}}' in text


async def test_metrics_are_scraped_in_prometheus_format(server: Server) -> None:
    async with server.http.get("/metrics") as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    for line in (
        'ocr_model_state{model="quick",state="offloaded"} 1.0',
        'ocr_model_location{location="cpu",model="quick"} 1.0',
        'ocr_model_offloads_total{model="quick"}',
        'ocr_pages_total{model="quick",task="document"}',
        'ocr_http_requests_total{method="GET",route="unmatched",status="404"}',
    ):
        assert line in text
    assert "/nothing/here" not in text
