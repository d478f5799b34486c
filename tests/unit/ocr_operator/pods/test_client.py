"""Links to pods, over real HTTP to pods that are well, slow, gone, or hostile."""

import asyncio
import base64
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from ocr_operator.metrics import Metrics
from ocr_operator.pods import wire
from ocr_operator.pods.client import THRESHOLD_SPACING_SECONDS, PodClient
from ocr_operator.pods.link import PUSHED, URGENT
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.pods.wire import PodError, Target
from ocr_operator.resources import live_settings
from ocr_operator.resources.observed import Key
from ocr_wire.live_settings import Envelope, envelope
from ocr_wire.state import PodState
from tests.support import fakepod, marks, resources
from tests.support.fakepod import FakePod
from tests.support.oddsession import OddSession
from tests.support.patience import PATIENCE
from tests.support.stage import until

KEY: Key = ("default", "invoices")
SILENCE = 0.4
PORT = fakepod.free_port()


def make_live(revision: int, seconds: int = 60) -> Envelope:
    values = live_settings.values(resources.make_deployment(idle={"offloadAfterSeconds": seconds}).spec)
    return envelope(revision, revision, values)


class Link:
    """One pod and the client that follows it."""

    def __init__(self, client: PodClient, pod: FakePod, target: Target, changes: list[bool]) -> None:
        self.client = client
        self.pod = pod
        self.target = target
        self.changes = changes

    def want(self, live: Envelope, token: str = "right") -> None:
        self.client.follow(KEY, [self.target], live, token, queue_threshold=4)

    @property
    def state(self) -> PodState | Unreachable | None:
        return self.client.state(KEY, self.pod.uid)[0]

    @property
    def push_error(self) -> str:
        return self.client.state(KEY, self.pod.uid)[1]

    async def connected(self) -> PodState:
        found = await until(lambda: self.state if isinstance(self.state, PodState) else None)
        assert isinstance(found, PodState)
        return found

    async def lost(self) -> Unreachable:
        found = await until(lambda: self.state if isinstance(self.state, Unreachable) else None)
        assert isinstance(found, Unreachable)
        return found


@contextlib.asynccontextmanager
async def linked(
    prepare: Callable[[FakePod], None] = lambda pod: None, *, serve: bool = True
) -> AsyncIterator[Link]:
    pod, ip, changes = FakePod("invoices-1", "uid-1", "right"), fakepod.address(), list[bool]()
    prepare(pod)
    async with contextlib.AsyncExitStack() as stack:
        if serve:
            await stack.enter_async_context(pod.serve(ip, PORT))
        session = await stack.enter_async_context(wire.session())
        client = PodClient(
            session,
            on_change=lambda key, urgent: changes.append(urgent),
            metrics=Metrics(CollectorRegistry()),
            rng=random.Random(1),
            idle_timeout=SILENCE,
        )
        task = asyncio.create_task(client.run())
        try:
            yield Link(client, pod, Target(KEY, pod.name, pod.uid, ip, PORT), changes)
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_state_comes_and_every_change_is_told() -> None:
    async with linked() as link:
        link.want(make_live(1))
        first = await link.connected()
        assert [model.location for model in first.models] == ["unloaded"]

        link.pod.change(pp_ocr=("ready", "gpu"))
        await until(lambda: isinstance(link.state, PodState) and link.state.models[0].location == "gpu")
        assert link.changes


async def test_a_crowd_is_urgent_once_and_again_only_after_it_has_halved() -> None:
    async with linked() as link:
        link.want(make_live(1))
        await link.connected()
        await until(lambda: isinstance(link.state, PodState) and link.state.settings.revision == 1)

        async def urgent(waiting: int) -> bool:
            await asyncio.sleep(THRESHOLD_SPACING_SECONDS)
            link.changes.clear()
            link.pod.waiting = waiting
            link.pod.tell()
            await until(lambda: isinstance(link.state, PodState) and link.state.queue.waiting == waiting)
            return any(link.changes)

        found = [await urgent(waiting) for waiting in (4, 5, 9, 4, 3, 6, 2, 4, 5)]
    assert found == [False, True, False, False, False, False, False, False, True]


@pytest.mark.parametrize("status", [429, 503])
async def test_the_token_is_shown_for_a_watch_only_where_others_have_taken_all_places(status: int) -> None:
    shown: list[str | None] = []

    async def full(request: web.Request) -> web.StreamResponse:
        shown.append(request.headers.get("Authorization"))
        if shown[-1] is None:
            return web.json_response({}, status=status)
        link.pod.answer_state = None
        return await link.pod.answer(request)

    async with linked() as link:
        link.pod.answer_state = full
        link.want(make_live(1))
        await link.connected()
        assert shown == [None, "Bearer right"]


async def test_a_watch_shows_no_token_where_there_is_a_place() -> None:
    shown: list[str | None] = []

    async def ask(request: web.Request) -> web.StreamResponse:
        shown.append(request.headers.get("Authorization"))
        link.pod.answer_state = None
        return await link.pod.answer(request)

    async with linked() as link:
        link.pod.answer_state = ask
        link.want(make_live(1))
        await link.connected()
        assert shown == [None]


async def test_settings_are_pushed_until_echoed_and_then_left_alone() -> None:
    async with linked() as link:
        link.want(make_live(1))
        await until(lambda: link.pod.settings["revision"] == 1)
        state = await link.connected()
        applied = make_live(1).hash
        await until(lambda: isinstance(link.state, PodState) and link.state.settings.hash == applied)
        assert link.pod.tokens == ["Bearer right"]

        for _ in range(3):
            link.want(make_live(1))
        link.want(make_live(2, 5))
        await until(lambda: link.pod.settings["revision"] == 2)
        link.pod.tell()
        await until(lambda: isinstance(link.state, PodState) and link.state.settings.revision == 2)
        assert [push["revision"] for push in link.pod.pushes] == [1, 2]
        assert state.pod.uid == "uid-1"


async def test_pod_that_has_the_settings_already_is_not_pushed() -> None:
    def stamped(pod: FakePod) -> None:
        pod.settings = {"generation": 1, "revision": 1, "hash": make_live(1).hash, "values": {}}

    async with linked(stamped) as link:
        link.want(make_live(1))
        await link.connected()
        link.pod.change(pp_ocr=("ready", "gpu"))
        await until(lambda: isinstance(link.state, PodState) and link.state.models[0].location == "gpu")

        assert not link.pod.pushes


async def test_a_pod_that_needs_no_push_costs_one_task_and_pushes_share_a_connection() -> None:
    pushed: list[asyncio.Transport] = []

    async def take(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        pushed.append(request.transport)
        link.pod.answer_push = None
        return web.Response(status=500)

    def tasks() -> list[str]:
        names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        return sorted(name for name in names if name.startswith("PodClient."))

    async with linked(lambda pod: None) as link:
        for revision in (1, 2):
            link.pod.answer_push = take
            link.want(make_live(revision))
            await until(lambda: link.pod.settings["revision"] == revision and not link.push_error)  # noqa: B023
            await until(lambda: tasks() == ["PodClient._stream_forever", "PodClient.run"])
        first, second = pushed
        assert first is second


async def test_push_is_tried_again_until_it_works() -> None:
    refusals = 0

    async def refuse(request: web.Request) -> web.StreamResponse:
        nonlocal refusals
        refusals += 1
        return web.Response(status=500)

    async with linked(lambda pod: setattr(pod, "answer_push", refuse)) as link:
        link.want(make_live(1))
        await until(lambda: refusals >= 3)
        assert "500" in link.push_error

        link.pod.answer_push = None
        await until(lambda: link.pod.settings["revision"] == 1)
        await until(lambda: not link.push_error)


async def test_caught_up_waits_for_the_echo_and_not_for_ever() -> None:
    answer = asyncio.Event()

    async def hesitate(request: web.Request) -> web.StreamResponse:
        await answer.wait()
        link.pod.answer_push = None
        return web.Response(status=500)

    async with linked(lambda pod: setattr(pod, "answer_push", hesitate)) as link:
        link.want(make_live(1))
        await link.connected()
        await link.client.caught_up(KEY, 0.05)
        assert link.pod.settings["revision"] == 0, "it gave up"

        waiting = asyncio.create_task(link.client.caught_up(KEY, 30))
        answer.set()
        await asyncio.wait_for(waiting, PATIENCE)
        assert link.pod.settings["revision"] == 1


@contextlib.asynccontextmanager
async def pushed_one_by_one(
    *pods: FakePod, on_change: Callable[[bool], None] = lambda urgent: None
) -> AsyncIterator[tuple[PodClient, list[Target]]]:
    """A client that pushes to one pod at a time, and nobody that it follows yet."""
    async with contextlib.AsyncExitStack() as stack:
        targets = []
        for pod in pods:
            targets.append(Target(KEY, pod.name, pod.uid, fakepod.address(), PORT))
            await stack.enter_async_context(pod.serve(targets[-1].ip, PORT))
        client = PodClient(
            await stack.enter_async_context(wire.session()),
            on_change=lambda key, urgent: on_change(urgent),
            metrics=Metrics(CollectorRegistry()),
            rng=random.Random(1),
            idle_timeout=SILENCE,
            concurrent_pushes=1,
        )
        task = asyncio.create_task(client.run())
        try:
            yield client, targets
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_push_is_urgent_news_only_where_none_waits_for_another() -> None:
    """A policy changes thousands of pods: a pass for each answer would take the time of the pushes that follow."""
    may_answer, news = asyncio.Event(), list[tuple[bool, bool]]()
    pods = [FakePod(f"invoices-{number}", f"uid-{number}", "right") for number in (1, 2)]
    for pod in pods:
        pod.before_push = may_answer.wait

    def changed(urgent: bool) -> None:
        news.append((urgent, client.many_pushes()))

    async with pushed_one_by_one(*pods, on_change=changed) as (client, targets):

        def revisions() -> list[int]:
            states = (client.state(KEY, each.uid)[0] for each in targets)
            return [each.settings.revision for each in states if isinstance(each, PodState)]

        client.follow(KEY, targets, make_live(1), "right", queue_threshold=4)
        await until(lambda: revisions() == [0, 0] and client.many_pushes())
        news.clear()
        may_answer.set()
        await until(lambda: revisions() == [1, 1] and not client.many_pushes())
        await until(lambda: any(urgent for urgent, _ in news))

    assert (False, True) in news
    assert (True, True) not in news


async def test_pod_that_does_not_answer_pushes_holds_up_no_other() -> None:
    """It streams, so it isn't lost: its state comes, and each push to it takes as long as a push may."""
    tries, for_ever = list[web.Request](), asyncio.Event()
    mute, well = (FakePod(f"invoices-{number}", f"uid-{number}", "right") for number in (1, 2))

    async def fail_and_then_hang(request: web.Request) -> web.StreamResponse:
        tries.append(request)
        if len(tries) > 1:
            await for_ever.wait()
        return web.Response(status=500)

    mute.answer_push = fail_and_then_hang
    async with pushed_one_by_one(mute, well) as (client, targets):
        client.follow(KEY, targets[:1], make_live(1), "right", queue_threshold=4)
        await until(lambda: len(tries) == 2)
        client.follow(KEY, targets, make_live(1), "right", queue_threshold=4)
        await until(lambda: well.settings["revision"] == 1)

        assert "500" in client.state(KEY, mute.uid)[1], (
            "the push that hangs has not ended, not even by its time"
        )
        assert not client.many_pushes()
        for_ever.set()


@pytest.mark.parametrize(
    ("status", "reported"),
    [(401, "token"), (403, "token"), (409, "newer revision"), (422, "refuses the values")],
)
async def test_refused_push_says_why_and_changes_nothing(status: int, reported: str) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    async with linked(lambda pod: setattr(pod, "answer_push", refuse)) as link:
        link.want(make_live(1))
        await until(lambda: reported in link.push_error)

        assert link.pod.settings["revision"] == 0


async def test_wrong_token_is_never_shown_the_right_one_by_a_redirect() -> None:
    seen: list[str | None] = []

    async def redirect(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        raise web.HTTPTemporaryRedirect(location="/v1/elsewhere")

    async with linked(lambda pod: setattr(pod, "answer_push", redirect)) as link:
        link.want(make_live(1))
        await until(lambda: "307" in link.push_error)

    assert set(seen) == {"Bearer right"}


async def test_silent_stream_is_unreachable_after_the_silence_and_comes_back() -> None:
    async with linked() as link:
        link.want(make_live(1))
        await link.connected()
        loop = asyncio.get_running_loop()

        link.pod.silent = True
        began = loop.time()
        unreachable = await link.lost()
        assert unreachable == Unreachable(reason="Unreachable", message=f"no heartbeat within {SILENCE} s")
        assert loop.time() - began < SILENCE + 1

        link.pod.silent = False
        link.pod.tell()
        await link.connected()


async def test_pod_that_never_answers_is_starting_first_and_unreachable_then() -> None:
    async with linked(serve=False) as link:
        loop = asyncio.get_running_loop()
        began = loop.time()
        link.want(make_live(1))
        unreachable = await link.lost()

        assert loop.time() - began >= SILENCE * 0.9
        assert unreachable.message == "the pod takes no connection"


def endless(chunk: bytes) -> Callable[[web.Request], "asyncio.Future[web.StreamResponse]"]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(5000):
                await response.write(chunk)
        return response

    return answer  # type: ignore[return-value]


def event(data: bytes) -> bytes:
    return b"event: state\ndata: " + data + b"\n\n"


async def plain(request: web.Request) -> web.StreamResponse:
    return web.json_response({"pod": {}})


async def redirected(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(location="http://127.0.0.1:1/v1/state")


HOSTILE = {
    "endless line": (endless(b"x" * 4096), "an event of more than"),
    "endless event": (endless(b"data: " + b"x" * 4096 + b"\n"), "an event of more than"),
    "no JSON": (endless(event(b"{")), ""),
    "deep JSON": (endless(event(b"[" * 5000)), ""),
    "another pod": (
        endless(event(b'{"pod":{"name":"x","uid":"uid-2"},"device":{"kind":"cpu"},"models":[]}')),
        "another pod",
    ),
    "a state that can't be": (
        endless(
            event(
                b'{"pod":{"name":"x","uid":"uid-1"},"device":{"kind":"cpu"},'
                b'"models":[{"name":"m","state":"unloaded","location":"cpu"}]}'
            )
        ),
        "",
    ),
    "no stream": (plain, "instead of a stream"),
    "redirect": (redirected, "302"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_answer_is_no_state(name: str) -> None:
    answer, reported = HOSTILE[name]
    async with linked(lambda pod: setattr(pod, "answer_state", answer)) as link:
        link.want(make_live(1))
        unreachable = await link.lost()

        assert unreachable.reason == "InvalidState"
        assert reported in unreachable.message
        assert not link.pod.pushes, "no token for a pod that isn't believed"


async def test_an_answer_with_headers_that_cannot_be_read_is_closed() -> None:
    """It would stay open for each try, since the connection itself holds it."""
    opened = list[asyncio.StreamWriter]()
    closed = asyncio.Queue[None]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;6*\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await reader.read()
        writer.close()
        closed.put_nowait(None)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = Target(("default", "one"), "one", "uid-1", "127.0.0.1", port)
    async with server, wire.session() as session:
        with pytest.raises(wire.PodError, match="the connection broke"):
            await wire.listen(session, target, lambda _: None, "right", idle_timeout=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            await closed.get()
    assert len(opened) == 1


async def test_slow_drip_counts_as_silence() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.02)
        return response

    async with linked(lambda pod: setattr(pod, "answer_state", drip)) as link:
        link.want(make_live(1))
        unreachable = await link.lost()

        assert "no heartbeat" in unreachable.message


async def test_heartbeats_alone_are_no_state() -> None:
    async with linked(lambda pod: setattr(pod, "answer_state", endless(b": heartbeat\n\n"))) as link:
        link.want(make_live(1))
        await link.lost()


async def test_huge_answer_to_a_push_is_cut_off() -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 10_000_000)

    async with linked(lambda pod: setattr(pod, "answer_push", flood)) as link:
        link.want(make_live(1))
        await until(lambda: "more than" in link.push_error)


async def test_echo_of_other_settings_is_no_echo() -> None:
    async def lie(request: web.Request) -> web.StreamResponse:
        return web.json_response({"generation": 1, "revision": 1, "hash": "f" * 16})

    async with linked(lambda pod: setattr(pod, "answer_push", lie)) as link:
        link.want(make_live(1))
        await until(lambda: "other settings" in link.push_error)
        assert isinstance(link.state, PodState)
        assert link.state.settings.revision == 0


async def test_changes_in_a_row_cost_a_pod_that_takes_them_nothing_of_its_pace() -> None:
    async with linked() as link:

        async def takes(revision: int) -> None:
            link.changes.clear()
            link.want(make_live(revision))
            await until(lambda: link.pod.settings["revision"] == revision)
            await until(lambda: any(link.changes))

        for revision in range(1, int(PUSHED.burst + URGENT.burst)):
            await takes(revision)
        followed = next(iter(link.client._links[KEY].values()))
        assert (followed.pushed.spent, followed.urgent.spent <= 1) == (0, True), "but for its first state"


async def test_restarted_process_is_pushed_again() -> None:
    async with linked() as link:
        link.want(make_live(3))
        await until(lambda: link.pod.settings["revision"] == 3)
        ip, pod = link.target.ip, link.pod

    async with linked(serve=False) as link:
        link.target = Target(KEY, pod.name, pod.uid, ip, PORT)
        async with FakePod(pod.name, pod.uid, "right").serve(ip, PORT):
            link.want(make_live(3))
            await until(lambda: isinstance(link.state, PodState) and link.state.settings.revision == 3)
        fresh = FakePod(pod.name, pod.uid, "right")
        async with fresh.serve(ip, PORT):
            await until(lambda: fresh.settings["revision"] == 3)


async def test_forgotten_pod_is_left_alone() -> None:
    async with linked() as link:
        link.want(make_live(1))
        await until(lambda: link.pod.streams == 1)

        link.client.forget(KEY)

        await until(lambda: link.pod.streams == 0, what="the stream is closed")
        assert link.state is None


@pytest.mark.parametrize("ip", ["example.com", "127.0.0.1:80@evil", "", "127.0.0.1/x"])
async def test_only_addresses_are_connected_to(ip: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        _ = Target(KEY, "invoices-1", "uid-1", ip, PORT).url


async def test_a_pod_that_repeats_the_token_brings_it_into_no_status() -> None:
    secret = marks.mark()

    async def repeat(request: web.Request) -> web.StreamResponse:
        token = request.headers["Authorization"].partition(" ")[2]
        said = f"what is {token}, or {base64.b64encode(token.encode()).decode()}?"
        return web.json_response({"error": {"message": said}}, status=422)

    async with linked(lambda pod: setattr(pod, "answer_push", repeat)) as link:
        link.want(make_live(1), secret)
        await until(lambda: link.push_error)
        assert "the pod refuses the values (422): " in link.push_error
        assert not marks.leaks(link.push_error, secret)
        assert not marks.leaks(repr(next(iter(link.client._links[KEY].values()))), secret)


async def exchanges(session: Any, target: Target) -> AsyncIterator[PodError]:
    """The error of each exchange with a pod."""
    for exchange in (
        wire.listen(session, target, lambda state: None, "right", idle_timeout=SILENCE),
        wire.push(session, target, make_live(1), "right"),
        wire.offload(session, target, "right", "pp-ocr", 0),
        wire.load(session, target, "right", "pp-ocr"),
    ):
        with pytest.raises(PodError) as failed:
            await exchange
        yield failed.value


async def test_failure_of_whatever_kind_is_the_pods_alone_and_seen(caplog: pytest.LogCaptureFixture) -> None:
    target = Target(KEY, "invoices-1", "uid-1", "127.0.0.1", PORT)
    said = [str(each) async for each in exchanges(OddSession(), target)]

    assert [each.partition(" (")[2] for each in said] == ["Unforeseen)"] * 4
    assert [bool(each.exc_info) for each in caplog.records] == [True] * 4


async def test_fault_of_ours_on_a_state_ends_one_stream(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: PodState) -> None:
        raise LookupError("a fault of ours")

    pod, ip = FakePod("invoices-1", "uid-1", "right"), fakepod.address()
    async with pod.serve(ip, PORT), wire.session() as session:
        target = Target(KEY, pod.name, pod.uid, ip, PORT)
        with pytest.raises(PodError, match="LookupError"):
            await wire.listen(session, target, fail, "right", idle_timeout=PATIENCE)

    assert "a fault of ours" in caplog.text


async def test_a_pod_that_floods_is_heard_so_often_and_costs_others_nothing() -> None:
    """Each state differs, is urgent by what it says, and asks for a push."""
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                state = pod.state() | {"settings": {**pod.settings, "revision": sent % 2, "hash": str(sent)}}
                await response.write(event(json.dumps(state).encode()))
                sent += 1
        return response

    async with linked(lambda each: setattr(each, "answer_state", flood)) as link:
        pod = link.pod
        link.want(make_live(1))
        await link.connected()
        began, loop = sent, asyncio.get_running_loop()
        start = loop.time()
        await until(lambda: loop.time() - start > 1.5)
        seconds = loop.time() - start
        assert sent - began > 200, "it floods"
        assert len(link.changes) <= wire.HEARD.burst + wire.HEARD.rate * seconds + 5
        pushes = PUSHED.burst + PUSHED.rate * seconds + 2
        assert len(link.pod.pushes) <= pushes
        assert sum(link.changes) <= URGENT.burst + URGENT.rate * seconds + pushes
