"""What goes wrong between people and pods: kubectl (a small program of this test), port-forwards, servers."""

import asyncio
import base64
import io
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubectl_ocr import __main__ as program
from kubectl_ocr.cli import Options
from kubectl_ocr.commands.control import control
from kubectl_ocr.commands.read import choose, read, task
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.kubectl import _read, explain
from kubectl_ocr.objects.part import Metadata
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import ModelSpec, ModelStatus, PodStatus, Resource, Spec, Status
from ocr_wire import names
from ocr_wire.errors import ErrorInfo
from tests.support import marks
from tests.support.fakekubectl import Fake

TOKEN = "s3cret-token"


@pytest.fixture
def kubectl(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


FORBIDDEN, EVE, TEAM = "Error from server (Forbidden)", '"eve" cannot', '"team-a"'
NO_GROUP, OURS = '"secrets" in API group ""', '"ocrdeployments" in API group "ocr-operator.io"'


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (
            f"{FORBIDDEN}: secrets is forbidden: User {EVE} get resource {NO_GROUP} in the namespace {TEAM}\n",
            Exit.NOT_ALLOWED,
            "you (eve) may not get secrets in namespace team-a: ask for a Role with verb 'get' on it",
        ),
        (
            f"{FORBIDDEN}: x is forbidden: User {EVE} list resource {OURS} at the cluster scope",
            Exit.NOT_ALLOWED,
            "you (eve) may not list ocrdeployments.ocr-operator.io: ask for",
        ),
        ("error: You must be logged in to the server (Unauthorized)", Exit.NOT_ALLOWED, "doesn't know you"),
        (
            'error: the server doesn\'t have a resource type "ocrdeployments"',
            Exit.NOT_FOUND,
            "no OcrDeployments: install the chart",
        ),
        (
            "E1125 19:13:05.1 7240 memcache.go:265] x\nThe connection to the server 127.0.0.1:6443 was refused - did …",
            Exit.LATER,
            "can't be reached now: The connection",
        ),
        ("Unable to connect to the server: dial tcp: lookup x: no such host", Exit.LATER, "no such host"),
        ('error: context "nope" does not exist', Exit.FAILED, 'context "nope" does not exist'),
        (
            'The OcrDeployment "invoices" is invalid: spec.idle.offloadAfterSeconds: Invalid value: -7',
            Exit.USAGE,
            "refused: The OcrDeployment",
        ),
        ("", Exit.FAILED, "kubectl get failed and said nothing"),
        ("error: \x1b[2J" + "x" * 9000, Exit.FAILED, "xxx"),
    ],
)
def test_what_kubectl_says_becomes_a_way_out(said: str, status: Exit, words: str) -> None:
    failure = explain("get", said)
    assert (failure.status, words in str(failure)) == (status, True), str(failure)
    assert str(failure).isprintable()
    assert len(str(failure)) <= 2100


def test_without_kubectl_the_status_is_127(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.main(["status"]) == 127
    assert "kubectl isn't on PATH: install it" in capsys.readouterr().err


def test_a_misspelt_name_is_answered_with_a_near_one(
    kubectl: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{kubectl.folder}:/usr/bin:/bin")
    missing = f'Error from server (NotFound): {names.RESOURCE} "invoice" not found'
    kubectl.answers(f"get {names.RESOURCE} invoice", err=missing)
    kubectl.answers(f"get {names.RESOURCE} --output=name", f"{names.RESOURCE}/invoices\n")
    kubectl.answers("get pods", {"items": []})
    assert program.main(["status", "invoice"]) == Exit.NOT_FOUND
    assert "Did you mean 'invoices'?" in capsys.readouterr().err


def test_a_pod_of_somebody_else_and_a_broken_list_are_said(
    kubectl: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{kubectl.folder}:/usr/bin:/bin")
    kubectl.answers("get pods nginx", {"metadata": {"name": "nginx"}})
    assert program.main(["why", "nginx"]) == Exit.FAILED
    assert "belongs to no OcrDeployment" in capsys.readouterr().err
    kubectl.answers(f"get {names.RESOURCE}", "<html>")
    kubectl.answers("get pods", {"items": []})
    assert program.main(["status"]) == 0
    assert "kubectl's answer can't be read" in capsys.readouterr().err


async def test_a_kubectl_that_hangs_is_ended(kubectl: Fake) -> None:
    kubectl.answers("get nodes", "x", stays=True)
    with pytest.raises(Failure, match="didn't end within") as failed:
        await kubectl.cluster.kubectl.run("get", "nodes", seconds=0.5)
    assert failed.value.status is Exit.LATER


async def test_what_is_read_of_a_program_is_bounded() -> None:
    stream = asyncio.StreamReader()
    for _ in range(100):
        stream.feed_data(b"x" * 1000)
    stream.feed_eof()
    assert await _read(stream, 5000) == b"x" * 5001


RESOURCE = {
    "metadata": {"name": "invoices", "namespace": "team-a", "generation": 1},
    "spec": {"models": [{"name": "pp-ocr"}], "server": {"apiKeysSecretName": "keys"}},
    "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Creating", "message": "soon"}]},
}


def pod(name: str, *, ready: bool = True) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    labels = {names.LABEL_DEPLOYMENT: "invoices"}
    return {
        "metadata": {"name": name, "namespace": "team-a", "labels": labels},
        "status": {"conditions": [condition]},
    }


Answer = Callable[[web.Request], web.Response]


@asynccontextmanager
async def pods(kubectl: Fake, **answers: Answer) -> AsyncIterator[list[tuple[str, str]]]:
    """Ready pods by name, each with a server behind a port-forward; yields the paths and tokens of what they get."""
    kubectl.answers(f"get {names.RESOURCE}", RESOURCE)
    kubectl.answers("get pods", {"items": [pod(name) for name in answers]})
    encoded = base64.b64encode(TOKEN.encode()).decode()
    kubectl.answers("get secrets", {"data": {"token": encoded, "keys": encoded}})
    asked: list[tuple[str, str]] = []
    runners = []
    try:
        for name, answer in answers.items():

            async def respond(request: web.Request, answer: Answer = answer) -> web.Response:
                asked.append((request.path, request.headers.get("Authorization", "")))
                await request.read()
                return answer(request)

            app = web.Application()
            app.router.add_post("/{path:.*}", respond)
            runners.append(runner := web.AppRunner(app, shutdown_timeout=0.1))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            line = f"Forwarding from 127.0.0.1:{port} -> 8001\n"
            kubectl.answers(f"port-forward pod/{name}", line, stays=True)
        yield asked
    finally:
        for runner in runners:
            await runner.cleanup()


def done(_request: web.Request) -> web.Response:
    return web.json_response({"success": True, "model": "pp-ocr", "state": "ready", "model_location": "gpu"})


def refusing(status: int, code: str, message: str, **headers: str) -> Answer:
    body = {"error": {"message": message, "type": "x", "code": code, "param": None}}
    return lambda _request: web.json_response(body, status=status, headers=headers)


WAKE = Options(command="wake", name="invoices", within=30)


async def test_a_control_reaches_every_ready_pod_and_tells_nobody_the_token(
    kubectl: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    async with pods(kubectl, a=done, b=done) as asked:
        await control(WAKE, kubectl.cluster)
    assert asked == [("/gpu/load", f"Bearer {TOKEN}")] * 2
    told = capsys.readouterr()
    assert [line.split()[:4] for line in told.out.splitlines()[1:]] == [
        ["a", "pp-ocr", "ready", "gpu"],
        ["b", "pp-ocr", "ready", "gpu"],
    ]
    assert TOKEN not in told.out + told.err + kubectl.calls()


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (
            refusing(403, "wrong_token", "wrong admin token"),
            Exit.NOT_ALLOWED,
            "refuses the token: wrong admin token",
        ),
        (
            refusing(429, "queue_full", "64 requests wait", **{"Retry-After": "3"}),
            Exit.LATER,
            "try again in 3 s",
        ),
        (refusing(503, "no_fit", "no memory"), Exit.LATER, "is busy: no memory; try again soon"),
        (
            refusing(503, "no_fit", "no memory", **{"Retry-After": "٣"}),
            Exit.LATER,
            "is busy: no memory; try again soon",
        ),
        (refusing(404, "not_found", "nothing here"), Exit.FAILED, "older than this plugin"),
        (refusing(422, "invalid_value", "no such field"), Exit.USAGE, "refuses: no such field"),
        (refusing(500, "internal_error", "see the log\x1b[2J"), Exit.FAILED, "failed: see the log"),
        (lambda _: web.Response(text="<html>" * 1000, status=502), Exit.FAILED, "failed: <html>"),
        (
            lambda _: web.json_response(ErrorInfo(message="no such field").flat(), status=422),
            Exit.USAGE,
            "refuses: no such field",
        ),
        (lambda _: web.Response(text="[]"), Exit.FAILED, "with something else"),
        (
            lambda _: web.Response(text='{"x":' + "[" * 99_999 + "]" * 99_999 + "}"),
            Exit.FAILED,
            "with something else: is nested too deeply",
        ),
        (lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), Exit.FAILED, "302"),
    ],
    ids=["403", "429", "503", "digits", "404", "422", "500", "502", "flat", "garbage", "deep", "redirect"],
)
async def test_a_pod_that_refuses_is_named_and_the_others_are_done(
    kubectl: Fake, capsys: pytest.CaptureFixture[str], answer: Answer, status: Exit, words: str
) -> None:
    async with pods(kubectl, good=done, bad=answer):
        with pytest.raises(Failure) as failed:
            await control(WAKE, kubectl.cluster)
    assert str(failed.value).startswith("1 of 2 pods: pod bad ")
    assert (failed.value.status, words in str(failed.value)) == (status, True), str(failed.value)
    assert str(failed.value).isprintable()
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:]] == ["failed", "ready"]


async def test_a_port_forward_that_fails_says_why(kubectl: Fake) -> None:
    async with pods(kubectl, a=done):
        kubectl.answers("port-forward pod/a", err="error: unable to forward port because pod is not running")
        with pytest.raises(Failure, match="1 of 1 pods: unable to forward port because pod is not running"):
            await control(WAKE, kubectl.cluster)


async def test_no_ready_pod_is_said_with_the_operators_reason(kubectl: Fake) -> None:
    async with pods(kubectl):
        kubectl.answers("get pods", {"items": [pod("a", ready=False)]})
        with pytest.raises(Failure, match="no pod of invoices is ready: Creating: soon") as failed:
            await control(WAKE, kubectl.cluster)
        assert failed.value.status is Exit.LATER
        for options, words in (
            (Options(command="wake", name="invoices", pod="a"), "pod a isn't ready"),
            (Options(command="wake", name="invoices", pod="b"), "has no pod 'b'. There are pods a."),
            (Options(command="wake", name="invoices", model="ppocr"), "Did you mean 'pp-ocr'?"),
        ):
            with pytest.raises(Failure, match=words.replace("?", r"\?")):
                await control(options, kubectl.cluster)


async def test_a_secret_without_the_key_is_said(kubectl: Fake) -> None:
    async with pods(kubectl, a=done):
        kubectl.answers("get secrets", {"data": {"token": "%%%"}})
        with pytest.raises(Failure, match="Secret team-a/invoices-ocr-admin has no key 'token'"):
            await control(WAKE, kubectl.cluster)


async def test_reading_sends_the_picture_and_prints_the_text(
    kubectl: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "page.png"
    picture.write_bytes(b"PNG")
    options = Options(command="read", name="invoices", files=(str(picture),), format="text", within=30)
    async with pods(kubectl, a=lambda _: web.json_response({"text": "Total\x1b[2J 5\n\tx"})) as asked:
        await read(options, kubectl.cluster)
    assert asked == [("/ocr", f"Bearer {TOKEN}")]  # the Secret of its API keys has this one
    assert capsys.readouterr().out == "Total [2J 5\n\tx\n"


async def test_pages_that_are_not_read_are_told_behind_the_others(
    kubectl: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "d.gif"
    document.write_bytes(b"GIF89a")
    options = Options(command="read", name="invoices", files=(str(document),), within=30)
    answer = {"text": "one", "errors": ["page 2 can't be loaded"]}
    async with pods(kubectl, a=lambda _: web.json_response(answer)):
        with pytest.raises(Failure, match="not all pages are read: page 2 can't be loaded") as failed:
            await read(options, kubectl.cluster)
    assert failed.value.status is Exit.PARTIAL
    assert capsys.readouterr().out == "one\n"


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (Options(command="read"), "document"),
        (Options(command="read", format="text"), "free"),
        (Options(command="read", find_term="total", format="text"), "find"),
        (Options(command="read", prompt="What is it?"), "freeform"),
        (Options(command="read", task="ocr", find_term="total"), "ocr"),
    ],
)
def test_a_term_or_a_prompt_is_for_its_task(options: Options, meant: str) -> None:
    assert task(options) == meant


def test_a_term_and_a_prompt_need_a_task() -> None:
    with pytest.raises(Failure, match="say by --task") as refused:
        task(Options(command="read", find_term="total", prompt="What is it?"))
    assert refused.value.status is Exit.USAGE


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"", "is empty")])
async def test_a_picture_that_is_none_costs_no_call(
    kubectl: Fake, tmp_path: Path, content: bytes | None, words: str
) -> None:
    picture = tmp_path / "page.png"
    if content is not None:
        picture.write_bytes(content)
    with pytest.raises(Failure, match=words):
        await read(Options(command="read", name="invoices", files=(str(picture),)), kubectl.cluster)


def test_the_pod_that_answers_soonest_is_read_with() -> None:
    def status(name: str, where: str) -> PodStatus:
        return PodStatus(name=name, models=[ModelStatus(name="m", location=where)])

    told = [status("a", "unloaded"), status("b", "cpu"), status("c", "gpu"), status("d", "cpu")]
    resource = Resource(
        metadata=Metadata(name="x"), spec=Spec(models=[ModelSpec(name="m")]), status=Status(pods=told)
    )
    pods = [Pod(metadata=Metadata(name=name)) for name in "abcd"]
    order = []
    while pods:
        [chosen] = choose(resource, pods, "")
        pods.remove(chosen)
        order.append(chosen.metadata.name)
    assert order == ["c", "b", "d", "a"]
    awake = [Pod(metadata=Metadata(name=name, labels={names.LABEL_AWAKE: "true"})) for name in "ab"]
    assert choose(resource, [Pod(metadata=Metadata(name="c")), *awake], "m") == awake[::-1]


@pytest.mark.parametrize("raw", ["\ufeff{}\r\n", "# of team a\r\n\r\n  {} \r\nother\r\n"])
async def test_a_token_is_taken_as_editors_leave_it(kubectl: Fake, raw: str) -> None:
    async with pods(kubectl, a=done) as asked:
        encoded = base64.b64encode(raw.format(TOKEN).encode()).decode()
        kubectl.answers("get secrets", {"data": {"token": encoded}})
        await control(WAKE, kubectl.cluster)
    assert asked == [("/gpu/load", f"Bearer {TOKEN}")]


async def test_a_token_that_no_header_takes_is_named_and_not_quoted(kubectl: Fake) -> None:
    async with pods(kubectl, a=done):
        encoded = base64.b64encode(f"{TOKEN}\x07".encode()).decode()
        kubectl.answers("get secrets", {"data": {"token": encoded}})
        with pytest.raises(Failure, match=r"the token in key 'token' of Secret .* has a character") as failed:
            await control(WAKE, kubectl.cluster)
    assert TOKEN not in str(failed.value)


async def test_a_pod_that_repeats_the_token_is_not_printed(
    kubectl: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = marks.mark()
    said = f"no {secret}, {base64.b64encode(f'x{secret}'.encode()).decode()} or token={secret}"
    async with pods(kubectl, a=refusing(403, "wrong_token", said)):
        encoded = base64.b64encode(secret.encode()).decode()
        kubectl.answers("get secrets", {"data": {"token": encoded}})
        with pytest.raises(Failure, match="refuses the token: no ") as failed:
            await control(WAKE, kubectl.cluster)
    told = capsys.readouterr()
    assert not marks.leaks(told.out + told.err + str(failed.value), secret)


class Broken(io.StringIO):
    """Standard output that fails as a library might."""

    def write(self, text: str) -> int:
        raise ValueError(f"Illegal header value b'Bearer {TOKEN}0'")


def test_a_fault_of_the_plugin_is_printed_without_secrets(
    kubectl: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answers(f"get {names.RESOURCE}", {"items": [RESOURCE]})
    kubectl.answers("get pods", {"items": []})
    monkeypatch.setenv("PATH", f"{kubectl.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "stdout", Broken())
    assert program.main(["status"]) == Exit.FAILED
    told = capsys.readouterr()
    assert "ValueError: Illegal header value b'Bearer [redacted]'" in told.err
    assert TOKEN not in told.err
