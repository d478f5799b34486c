"""The client against an API server that is slow, forgetful or plainly wrong; what it promises otherwise is in
tests/contract/test_kube.py.
"""

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from kubernetes.aio import client as kubernetes_client

from ocr_operator import kube
from ocr_operator.kube import api, decoding
from ocr_operator.resources import spec
from tests.support import fakepod, marks, webserver
from tests.support.certificates import certify
from tests.support.patience import PATIENCE
from tests.support.stage import until

POD = api.Ref(api.POD, "default", "one")
PORT = fakepod.free_port()
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(answer: Answer, ip: str = "", certificate: Path | None = None) -> AsyncIterator[str]:
    """Serve at an address, with TLS if there is a certificate; its key lies beside it."""
    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, f"{certificate}.key")
    async with webserver.serving(app, ip or fakepod.address(), PORT, tls=tls) as url:
        yield url


@contextlib.asynccontextmanager
async def talking(answer: Answer, **options: Any) -> AsyncIterator[kube.Client]:
    async with serving(answer) as url:
        config = kubernetes_client.Configuration(host=url)
        config.client_session_kwargs = {"trust_env": False}
        raw = kubernetes_client.ApiClient(config)
        try:
            yield kube.Client(raw, rng=random.Random(1), **options)
        finally:
            await raw.close()


def status(code: int, message: str = "because", **headers: str) -> web.Response:
    body = {"kind": "Status", "code": code, "message": message}
    return web.json_response(body, status=code, headers=headers)


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": str(version)}}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, api.Refused),
        (401, api.Refused),
        (403, api.Refused),
        (404, api.NotFound),
        (409, api.Conflict),
        (422, api.Refused),
        (500, api.Unavailable),
        (503, api.Unavailable),
        (504, api.Unavailable),
    ],
)
async def test_each_status_has_its_error(code: int, kind: type[api.KubeError]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return status(code)

    async with talking(answer) as client:
        with pytest.raises(kind) as caught:
            await client.get(POD)

    assert caught.value.status == code
    assert str(caught.value).startswith(f"Pod default/one {kind.verb}: because ({code})")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("failed to create typed patch object (x): .spec.a: field not declared in schema", api.Refused),
        ("failed to convert new object (x) to proper version: cannot convert float64 to int64", api.Refused),
        ("etcdserver: request is too large", api.Refused),
        ("etcdserver: request timed out", api.Unavailable),
        ('Internal error occurred: failed calling webhook "a.example"', api.Unavailable),
    ],
)
async def test_500_that_says_no_for_good_is_a_refusal(message: str, kind: type[api.KubeError]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return status(500, message)

    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": "default"}}
    async with talking(answer) as client:
        with pytest.raises(kind) as caught:
            await client.apply(manifest)
        assert message in str(caught.value)
        with pytest.raises(kind):
            await client.apply_status(POD, {}, resource_version="1")


async def test_forbidden_names_the_way_out() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return status(403, "exceeded quota: gpus")

    async with talking(answer) as client:
        with pytest.raises(api.Refused, match=r"exceeded quota: gpus \(403\); check the operator's role"):
            await client.get(POD)


async def test_answer_that_is_no_json_is_no_answer() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>")

    async with talking(answer) as client:
        with pytest.raises(api.Unavailable, match="no JSON"):
            await client.get(POD)


async def test_refused_connection_is_no_answer() -> None:
    config = kubernetes_client.Configuration(host=f"http://{fakepod.address()}:1")
    raw = kubernetes_client.ApiClient(config)
    try:
        with pytest.raises(api.Unavailable):
            await kube.Client(raw).get(POD)
    finally:
        await raw.close()


async def test_slow_answer_is_no_answer() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return status(500)

    async with talking(answer, request_seconds=0.1) as client:
        with pytest.raises(api.Unavailable):
            await client.get(POD)


async def test_too_many_requests_waits_as_asked() -> None:
    asked: list[float] = []
    loop = asyncio.get_running_loop()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(loop.time())
        return status(429, **{"Retry-After": "1"}) if len(asked) < 2 else web.json_response(pod("one", 1))

    async with talking(answer) as client:
        found = await client.get(POD)

    assert found["metadata"]["name"] == "one"
    assert asked[1] - asked[0] >= 0.99


async def test_long_lists_come_in_pages() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        token = request.query.get("continue", "")
        number = int(token or 0)
        more = {"continue": str(number + 1)} if number < 2 else {}
        return web.json_response(
            {"metadata": {"resourceVersion": "9", **more}, "items": [pod(str(number), 1)]}
        )

    async with talking(answer) as client:
        found = await client.find(api.POD)

    assert [each["metadata"]["name"] for each in found] == ["0", "1", "2"]


class Server:
    """Lists `items`, then lets `stream` speak on each watch, with the version that was asked for."""

    def __init__(self, *streams: Callable[[web.StreamResponse], Awaitable[None]]) -> None:
        self.streams = list(streams)
        self.asked: list[str] = []
        self.version = 5
        self.newest = 1000
        """What it says when it is only asked for its version."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("limit") == "1":
            return web.json_response({"metadata": {"resourceVersion": str(self.newest)}, "items": []})
        if "watch" not in request.query:
            self.asked.append("list")
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": []})
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if self.streams:
            await self.streams.pop(0)(response)
        else:
            await asyncio.Event().wait()
        return response


def says(*events: dict[str, Any]) -> Callable[[web.StreamResponse], Awaitable[None]]:
    async def stream(response: web.StreamResponse) -> None:
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")

    return stream


async def hangs(response: web.StreamResponse) -> None:
    await asyncio.Event().wait()


async def collect(client: kube.Client, count: int, kind: api.Kind = api.POD) -> list[api.WatchEvent]:
    found: list[api.WatchEvent] = []
    async with asyncio.timeout(PATIENCE), contextlib.aclosing(client.watch(kind)) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_watch_goes_on_where_it_ended_and_bookmarks_move_it_on() -> None:
    server = Server(
        says({"type": "ADDED", "object": pod("one", 6)}),
        says({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}),
        says({"type": "DELETED", "object": pod("one", 21)}),
    )
    async with talking(server.answer) as client:
        found = await collect(client, 4)

    assert [type(each).__name__ for each in found] == ["Listed", "Changed", "Alive", "Changed"]
    assert server.asked == ["list", "5", "6", "20"]


@pytest.mark.parametrize("how", ["in the stream", "as an answer"])
async def test_forgotten_version_is_listed_again(how: str) -> None:
    server = Server(says({"type": "ERROR", "object": {"code": 410, "message": "too old"}}), hangs)

    async def answer(request: web.Request) -> web.StreamResponse:
        if how == "as an answer" and "watch" in request.query and len(server.asked) == 1:
            server.asked.append("gone")
            server.streams.pop(0)
            return status(410)
        return await server.answer(request)

    async with talking(answer) as client:
        found = await collect(client, 2)

    assert [type(each) for each in found] == [api.Listed, api.Listed]
    assert server.asked.count("list") == 2


async def test_silent_watch_is_given_up() -> None:
    server = Server(hangs, says({"type": "ADDED", "object": pod("one", 6)}))
    async with talking(server.answer, silence_seconds=0.2) as client:
        found = await collect(client, 3)

    assert [type(each) for each in found] == [api.Listed, api.Lost, api.Changed]
    assert server.asked == ["list", "5", "5"]


async def test_error_in_the_stream_is_told_and_the_watch_goes_on_from_its_last_version() -> None:
    server = Server(
        says(
            {"type": "ADDED", "object": pod("one", 6)},
            {"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}},
        ),
        says({"type": "MODIFIED", "object": pod("one", 7)}),
    )
    async with talking(server.answer) as client:
        _, added, lost, changed = await collect(client, 4)

    assert [type(each) for each in (added, lost, changed)] == [api.Changed, api.Lost, api.Changed]
    assert isinstance(lost, api.Lost)
    assert "etcd is away" in str(lost.error)
    assert server.asked == ["list", "5", "6"], "what it has seen isn't listed again"


async def test_forbidden_list_is_told_and_retried() -> None:
    tries = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        return status(403) if tries < 3 else web.json_response({"metadata": {"resourceVersion": "1"}})

    async with talking(answer) as client:
        found = await collect(client, 3)

    assert [type(each) for each in found] == [api.Lost, api.Lost, api.Listed]


def kubeconfig(path: Path, url: str, token_file: Path, **cluster: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "it", "cluster": {"server": url, **cluster}}],
                "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
                "users": [{"name": "me", "user": {"tokenFile": str(token_file)}}],
            }
        )
    )
    return path


async def test_rotated_token_is_used_at_once(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.json_response(pod("one", 1))

    token = tmp_path / "token"
    token.write_text("first\n")
    async with serving(answer) as url:
        file = kubeconfig(tmp_path / "config", url, token)
        async with kube.connect({"KUBECONFIG": str(file)}) as client:
            await client.get(POD)
            token.write_text("second\n")
            await client.get(POD)
            assert (await client.credentials()).authorization == "Bearer second"

    assert seen == ["Bearer first", "Bearer second"]


async def test_no_way_to_an_api_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(kube.ConfigError, match="set KUBECONFIG"):
        async with kube.connect({"HOME": str(tmp_path)}, service_account=tmp_path / "none"):
            pass


@pytest.mark.parametrize("raw", ["\ufefff1rst\r\n", "  f1rst\n\n"])
async def test_a_token_is_taken_as_editors_leave_it(tmp_path: Path, raw: str) -> None:
    token = tmp_path / "token"
    token.write_text(raw)
    async with serving(echo) as url:
        file = kubeconfig(tmp_path / "config", url, token)
        async with kube.connect({"KUBECONFIG": str(file)}) as client:
            assert (await client.credentials()).authorization == "Bearer f1rst"


async def echo(request: web.Request) -> web.StreamResponse:
    """A proxy that repeats what it doesn't understand."""
    return status(403, f"who is {request.headers.get('Authorization', '').removeprefix('Bearer ')}?")


async def repeat(request: web.Request) -> web.StreamResponse:
    return web.Response(status=502, text=f"<html>{request.headers.get('Authorization')}")


@pytest.mark.parametrize("answer", [echo, repeat])
async def test_no_error_has_the_token_in_it(tmp_path: Path, answer: Answer) -> None:
    secret = marks.mark()
    token = tmp_path / "token"
    token.write_text(secret)
    async with serving(answer) as url:
        file = kubeconfig(tmp_path / "config", url, token)
        async with kube.connect({"KUBECONFIG": str(file)}) as client:
            assert not marks.leaks(repr(await client.credentials()), secret)
            with pytest.raises(api.KubeError) as failed:
                await client.get(POD)
    assert not marks.leaks(str(failed.value) + repr(failed.value), secret)


async def test_a_token_that_no_header_takes_is_named_and_not_quoted(tmp_path: Path) -> None:
    secret = marks.mark()
    token = tmp_path / "token"
    token.write_text(f"{secret}\x07\n")
    file = kubeconfig(tmp_path / "config", "http://127.0.0.1:9", token)
    with pytest.raises(kube.ConfigError, match=f"the token in {token} has a character") as failed:
        async with kube.connect({"KUBECONFIG": str(file)}):
            pass
    assert not marks.leaks(str(failed.value), secret)
    body = yaml.safe_load(file.read_text())
    body["users"][0]["user"] = {"token": f"{secret}\nX: y"}
    file.write_text(yaml.safe_dump(body))
    async with kube.connect({"KUBECONFIG": str(file)}) as client:
        with pytest.raises(api.Unavailable, match="the token for the API server has a character") as refused:
            await client.get(POD)
    assert not marks.leaks(str(refused.value), secret)


@pytest.mark.parametrize(
    "text",
    [
        "users: [{{name: me, user: {{token: {0}}}}}\n  x: {{",
        "users:\n- name: me\n  user:\n    token: *{0}\n",
        "users:\n- name: me\n  user:\n    token: !{0} x\n",
        "token: {0}\x01",
        "{0}",
        "[{0}]",
        "current-context: {0}\nclusters: 3\ncontexts: [{{name: {0}, context: {0}}}]",
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: {0}}}}}]\nclusters: [{{name: c}}]",
    ],
)
async def test_of_a_kubeconfig_that_cannot_be_read_nothing_is_quoted(tmp_path: Path, text: str) -> None:
    secret = marks.mark()
    file = tmp_path / "config"
    file.write_text(text.format(secret))
    with pytest.raises(kube.ConfigError, match="set KUBECONFIG") as failed:
        async with kube.connect({"KUBECONFIG": str(file)}):
            pass
    assert not marks.leaks(str(failed.value), secret)
    assert failed.value.__cause__ is None or not marks.leaks(repr(failed.value.__cause__), secret)


@pytest.mark.parametrize("broken", [False, True])
async def test_watch_is_begun_anew_after_the_api_server_went_back_in_time(broken: bool) -> None:
    """After the restore of an etcd backup, a watch from our version would be taken, and tell nothing."""

    async def last_words(response: web.StreamResponse) -> None:
        server.version, server.newest = 3, 3
        await says({"type": "ADDED", "object": pod("one", 900)})(response)
        if broken:
            assert response._req is not None
            assert response._req.transport is not None
            response._req.transport.abort()

    server = Server(last_words, hangs)
    async with talking(server.answer) as client:
        found = await collect(client, 4 if broken else 3)

    assert isinstance(found[-1], api.Listed)
    assert server.asked[:3] == ["list", "5", "list"]


def line(name: str, version: int, spec: str) -> bytes:
    meta = json.dumps(pod(name, version)["metadata"])
    return f'{{"type":"ADDED","object":{{"metadata":{meta},"spec":{spec}}}}}\n'.encode()


def raw(*lines: bytes) -> Callable[[web.StreamResponse], Awaitable[None]]:
    async def stream(response: web.StreamResponse) -> None:
        for each in lines:
            await response.write(each)

    return stream


async def test_watch_line_of_many_mebibytes_is_read() -> None:
    server = Server(raw(line("long", 6, json.dumps("<" * 6_000_000)), line("next", 7, "{}")), hangs)
    async with talking(server.answer) as client:
        _, long, after = await collect(client, 3, api.SERVICE)

    assert isinstance(long, api.Changed)
    assert isinstance(after, api.Changed)
    assert len(long.item["spec"]) == 6_000_000
    assert after.item["metadata"]["name"] == "next"


@pytest.mark.parametrize(
    "bad", [b"{" * 10, b"[1]\n", b'{"type":"ADDED","object":[]}\n', b'{"type":"ADDED"}\n']
)
async def test_line_that_makes_no_sense_is_told_and_everything_listed_again(bad: bytes) -> None:
    server = Server(raw(bad), says({"type": "ADDED", "object": pod("one", 6)}))
    async with talking(server.answer) as client:
        _, lost, again, changed = await collect(client, 4)

    assert isinstance(lost, api.Lost)
    assert isinstance(again, api.Listed)
    assert isinstance(changed, api.Changed)


async def test_line_without_end_is_given_up() -> None:
    async def endless(response: web.StreamResponse) -> None:
        while True:
            await response.write(b"x" * 2**20)

    server = Server(endless)
    async with talking(server.answer) as client:
        _, lost, again = await collect(client, 3)

    assert "more than" in str(lost.error if isinstance(lost, api.Lost) else lost)
    assert isinstance(again, api.Listed)


def depth(value: Any) -> int:
    levels, level = 0, [value]
    while level := [inner for each in level if isinstance(each, dict) for inner in each.values()]:
        levels += 1
    return levels


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("levels", [900, 1500, 9000])
async def test_object_nested_thousands_deep_is_no_harm_to_the_others(levels: int) -> None:
    deep, well = line("deep", 6, nested(levels)), line("well", 7, "{}")
    server = Server(raw(deep, well), hangs)

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query or request.query.get("limit") == "1":
            return await server.answer(request)
        items = b",".join(json.dumps(each).encode() for each in (pod("before", 3), pod("after", 4)))
        both = items.replace(
            b"},{", b'},{"metadata":{"name":"deep"},"spec":' + nested(levels).encode() + b"},{", 1
        )
        return web.Response(body=b'{"metadata":{"resourceVersion":"5"},"items":[' + both + b"]}")

    async with talking(answer) as client:
        found = await collect(client, 3, kind=api.OCR_DEPLOYMENT)

    listed, first, second = found
    assert isinstance(listed, api.Listed)
    assert isinstance(first, api.Changed)
    assert isinstance(second, api.Changed)
    assert [each["metadata"]["name"] for each in listed.items] == ["before", "deep", "after"]
    assert [first.item["metadata"]["name"], second.item["metadata"]["name"]] == ["deep", "well"]
    for each in (listed.items[1], first.item):
        assert depth(each) <= decoding.MAX_LEVELS, "it can be compared"
        assert not isinstance(spec.parse(each), spec.OcrDeployment)


async def test_page_of_large_objects_is_asked_for_in_smaller_ones() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        limit, start = int(request.query["limit"]), int(request.query.get("continue", 0))
        asked.append(request.query["limit"])
        names = range(start, min(100, start + limit))
        items = [pod(str(each), each) | {"spec": "x" * 300_000} for each in names]
        more = {"continue": str(names.stop)} if names.stop < 100 else {}
        return web.json_response({"metadata": {"resourceVersion": "9", **more}, "items": items})

    async with talking(answer) as client:
        found = await client.find(api.SERVICE)

    assert [each["metadata"]["name"] for each in found] == [str(each) for each in range(100)]
    assert asked[:3] == ["500", "62", "7"]


async def test_fault_that_nobody_thought_of_leaves_as_ours_and_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Such as the errors of an HTTP library that are in none of its families."""

    class Odd(kubernetes_client.Configuration):  # type: ignore[misc]
        async def get_api_key_with_prefix(self, *_: Any, **__: Any) -> str:
            raise LookupError("nobody thought of this")

    client = kubernetes_client.ApiClient(Odd(host="http://127.0.0.1:1"))
    try:
        with pytest.raises(api.Unavailable, match="nobody thought of this"):
            await kube.Client(client).get(POD)
    finally:
        await client.close()

    assert [bool(each.exc_info) for each in caplog.records] == [True]


@pytest.mark.parametrize(
    "url", ["http://eve:{}/x@127.0.0.1:9", "http://eve:{}@127.0.0.1:x", "http://eve:{}@[h", "eve:{}@h"]
)
async def test_no_error_has_the_password_of_an_address_in_it(tmp_path: Path, url: str) -> None:
    secret = marks.mark()
    token = tmp_path / "token"
    token.write_text("t0ken")
    file = kubeconfig(tmp_path / "config", url.format(secret), token)
    with pytest.raises((api.Unavailable, kube.ConfigError)) as failed:
        async with kube.connect({"KUBECONFIG": str(file)}) as client:
            await client.get(POD)
    assert not marks.leaks(str(failed.value), secret)


async def test_no_error_of_a_watch_has_the_token_in_it(tmp_path: Path) -> None:
    secret = marks.mark()

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        token = request.headers["Authorization"].partition(" ")[2]
        event = {"type": "ERROR", "object": {"code": 403, "message": f"who is {token}?"}}
        return web.Response(body=json.dumps(event).encode() + b"\n")

    token = tmp_path / "token"
    token.write_text(secret)
    async with serving(answer) as url:
        file = kubeconfig(tmp_path / "config", url, token)
        async with (
            kube.connect({"KUBECONFIG": str(file)}) as client,
            contextlib.aclosing(client.watch(api.POD)) as events,
        ):
            async for event in events:
                if isinstance(event, api.Lost):
                    assert "who is " in str(event.error)
                    assert not marks.leaks(str(event.error) + repr(event.error), secret)
                    break


async def test_hundreds_of_watches_leave_connections_to_the_requests(tmp_path: Path) -> None:
    """One of each kind in each of many namespaces."""
    watching = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal watching
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}})
        watching += 1
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async def watch(client: kube.Client, namespace: str) -> None:
        async for _ in client.watch(api.POD, namespace=namespace):
            pass

    token = tmp_path / "token"
    token.write_text("token")
    async with serving(answer) as url:
        file = kubeconfig(tmp_path / "config", url, token)
        async with kube.connect({"KUBECONFIG": str(file)}, request_seconds=PATIENCE) as client:
            tasks = [asyncio.create_task(watch(client, f"team-{number}")) for number in range(150)]
            await until(lambda: watching == 150)
            await client.get(POD)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_rotated_authority_of_the_cluster_is_trusted_without_a_restart_and_the_one_before_no_longer(
    tmp_path: Path,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(pod("one", 1), headers={"Connection": "close"})

    ip = fakepod.address()
    old, new = certify(tmp_path, "old", ip), certify(tmp_path, "new", ip)
    authority, token = tmp_path / "ca.crt", tmp_path / "token"
    authority.write_bytes(old.read_bytes())
    token.write_text("token")
    file = kubeconfig(
        tmp_path / "config", f"https://{ip}:{PORT}", token, **{"certificate-authority": str(authority)}
    )
    async with kube.connect({"KUBECONFIG": str(file)}) as client:
        async with serving(answer, ip, old):
            await client.get(POD)
        async with serving(answer, ip, new):
            with pytest.raises(api.Unavailable, match="certificate"):
                await client.get(POD)
            authority.write_bytes(new.read_bytes())
            await client.get(POD)
        async with serving(answer, ip, old):
            with pytest.raises(api.Unavailable, match="certificate"):
                await client.get(POD)


async def test_a_change_of_certificates_disturbs_no_request_and_a_file_written_anew_is_none(
    tmp_path: Path,
) -> None:
    connections: set[object] = set()
    going_on, seen = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        connections.add(request.transport)
        if request.path.endswith("/slow"):
            seen.set()
            await going_on.wait()
        return web.json_response(pod("one", 1))

    ip = fakepod.address()
    mine, token = certify(tmp_path, "mine", ip), tmp_path / "token"
    authority = tmp_path / "ca.crt"
    authority.write_bytes(mine.read_bytes())
    token.write_text("token")
    file = kubeconfig(
        tmp_path / "config", f"https://{ip}:{PORT}", token, **{"certificate-authority": str(authority)}
    )
    async with kube.connect({"KUBECONFIG": str(file)}) as client, serving(answer, ip, mine):
        await client.get(POD)
        for text in (mine.read_bytes(), b"not yet written", mine.read_bytes()):
            authority.write_bytes(text)
            await client.get(POD)
        authority.unlink()
        await client.get(POD)
        assert len(connections) == 1
        slow = asyncio.create_task(client.get(api.Ref(api.POD, "default", "slow")))
        await seen.wait()
        authority.write_bytes(mine.read_bytes() + certify(tmp_path, "next", ip).read_bytes())
        await client.get(POD)
        assert len(connections) == 2
        going_on.set()
        assert (await slow)["metadata"]["name"] == "one"
