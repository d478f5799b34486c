import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from devcluster.kube.model import Action, Exec, HttpGet, HttpHeader, Port, Probe, TcpSocket
from devcluster.node.decide.podspec import Command
from devcluster.node.decide.probes import Kind
from devcluster.node.pods import probing
from devcluster.node.pods.probing import Answer, Asker, Verdict
from tests.support.patience import PATIENCE


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def exists(pid: int) -> bool:
    """Also as a zombie."""
    return Path(f"/proc/{pid}").exists()


async def respond(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["status"]), text=request.headers.get("X-Why", "so"))


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{status}", respond)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


@pytest.fixture
async def asker(port: int, tmp_path: Path) -> AsyncIterator[Asker]:
    def runs(words: Sequence[str]) -> Command:
        return Command(list(words), {"PATH": os.environ["PATH"], "OWN": "yes"}, str(tmp_path))

    async with aiohttp.ClientSession() as http:
        yield Asker(http, "127.0.0.1", [Port(name="http", container_port=port)], runs)


async def test_a_pod_of_ipv6_is_asked_at_its_address(asker: Asker) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    app = web.Application()
    app.router.add_get("/{status}", respond)
    async with TestServer(app, host="::1") as server:
        assert server.port is not None
        there = replace(asker, ip="::1", ports=[Port(name="http", container_port=server.port)])
        for action in (
            Action(http_get=HttpGet(port="http", path="/200")),
            Action(tcp_socket=TcpSocket(port="http")),
        ):
            assert await there.ask(action, PATIENCE) == Answer(True)


@pytest.mark.parametrize(("status", "success"), [(200, True), (302, True), (404, False), (503, False)])
async def test_http_status_decides(asker: Asker, status: int, success: bool) -> None:
    header = HttpHeader(name="X-Why", value="because")
    action = Action(http_get=HttpGet(port="http", path=f"/{status}", http_headers=[header]))
    assert await asker.ask(action, PATIENCE) == Answer(success, "" if success else f"HTTP {status}: because")


async def test_refused_connections_are_answers(asker: Asker, port: int) -> None:
    assert (await asker.ask(Action(tcp_socket=TcpSocket(port=port)), PATIENCE)).success
    for action in (Action(http_get=HttpGet(port=1)), Action(tcp_socket=TcpSocket(port=1))):
        answer = await asker.ask(action, PATIENCE)
        assert not answer.success
        assert answer.detail == "Connection refused"
    assert not (await asker.ask(Action(tcp_socket=TcpSocket(port="nameless")), PATIENCE)).success


async def test_programs_run_in_the_containers_surroundings(asker: Asker, tmp_path: Path) -> None:
    script = 'echo "$OWN $PWD"; yes | head -c 1000000; exit 4'
    answer = await asker.ask(Action(exec=Exec(command=["sh", "-c", script])), PATIENCE)
    assert not answer.success
    assert answer.detail.startswith(f"yes {tmp_path}")
    assert (await asker.ask(Action(exec=Exec(command=["true"])), PATIENCE)).success
    assert not (await asker.ask(Action(exec=Exec(command=["no-such-program"])), PATIENCE)).success


async def test_slow_programs_are_ended_with_all_they_started(asker: Asker, tmp_path: Path) -> None:
    script = "rm -f child; echo $$ > program; sleep 600 & echo $! > child; wait"
    seconds = 0.5
    while not (tmp_path / "child").exists() and seconds < PATIENCE:  # a busy machine may not come so far
        answer = await asker.ask(Action(exec=Exec(command=["sh", "-c", script])), seconds)
        assert answer == Answer(False, f"no answer within {seconds:g} s")
        seconds *= 2
    program, child = (int((tmp_path / name).read_text()) for name in ("program", "child"))
    assert not exists(program), "nobody has waited for it: a zombie, and an open transport"
    async with asyncio.timeout(PATIENCE):
        while alive(child):  # noqa: ASYNC110  what is waited for is outside of Python
            await asyncio.sleep(0.01)


async def collect(probe: Probe, kind: Kind, answers: list[bool], count: int) -> list[bool | None]:
    script = iter(answers)

    async def ask() -> Answer:
        return Answer(next(script))

    seen: list[bool | None] = []
    stream: AsyncIterator[Verdict] = probing.follow(probe, kind, ask)
    async with asyncio.timeout(PATIENCE):
        async for verdict in stream:
            seen.append(verdict.passing)
            if len(seen) == count:
                break
    await stream.aclose()  # type: ignore[attr-defined]
    return seen


async def test_success_is_seen_long_before_the_period_ends() -> None:
    answers = [False, False, False, True]
    assert await collect(Probe(period_seconds=600), Kind.READINESS, answers, 2) == [False, True]


async def test_failures_between_periods_dont_count() -> None:
    probe = Probe(period_seconds=1, failure_threshold=2)
    looks = [False] * 100
    began = time.monotonic()
    assert await collect(probe, Kind.STARTUP, looks, 2) == [None, False]
    assert time.monotonic() - began >= 0.95
