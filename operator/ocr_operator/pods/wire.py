"""The HTTP exchanges with a pod: its state stream, a push of live settings, the offload of an idle model, and a wake.

Pods may be hostile: addresses come from the pod's status only, answers are bounded and not decompressed,
redirects are never followed, no proxy of the environment sees the token, and a state counts only with the pod's
own UID in it. Every failure leaves as a `PodError`, whatever it was: one pod's answer must not end the others' links.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Never

import aiohttp
import msgspec
from msgspec import UNSET

from ocr_operator.pods import sse
from ocr_operator.pods.idle_timeout import IdleTimeout
from ocr_operator.pods.rate_limiter import RateLimiter
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources.observed import Key, Pod
from ocr_wire import addresses, checked, names, text
from ocr_wire import state as podstate
from ocr_wire.checked import Invalid
from ocr_wire.garbage import forget_frames
from ocr_wire.live_settings import Envelope, shortened
from ocr_wire.redaction import Redactor
from ocr_wire.state import PodState

CONNECT_SECONDS: Final = 3.0
PUSH_SECONDS: Final = 5.0
OFFLOAD_SECONDS: Final = 5.0
"""The weights are in host memory already, so an offload frees and moves nothing."""
LOAD_SECONDS: Final = 5.0
_NO_PLACE: Final = (429, 503)
"""Answers to a watch where watchers, or requests, have taken all places."""
_ENDED: Final = "the pod ended its state stream"
MAX_ANSWER_BYTES: Final = 64 * 1024
HEARD: Final = RateLimiter(rate=20, burst=40)
"""Chunks of a stream that are read; of the states in one, which is 256 KiB at most, only the newest is. A pod that
sends thousands a second costs others nothing, and a busy one is heard with a delay of 50 ms."""
_ECHO: Final = msgspec.json.Decoder(Envelope)


log = logging.getLogger(__name__)


class PodError(Exception):
    """The pod did not do what was asked; `unreachable` is the same for the status."""

    def __init__(
        self, reason: str, message: str, *, lasting: bool = False, token_refused: bool = False
    ) -> None:
        super().__init__(message)
        self.unreachable = Unreachable(reason=reason, message=message)
        self.lasting = lasting
        """Trying again soon won't help."""
        self.token_refused = token_refused


@dataclass(frozen=True, slots=True)
class Target:
    """One running pod: where it listens."""

    key: Key
    """Its resource."""
    name: str
    uid: str
    ip: str
    port: int

    @property
    def url(self) -> str:
        """Raises ValueError for what is no IP address."""
        return addresses.base_url(self.ip, self.port)


def target(pod: Pod, port: int) -> Target | None:
    """Return where the pod listens; None while it doesn't: no address, server not running, or about to go for good."""
    server = pod.server
    if not pod.ip or pod.finished or server is None or not server.running:
        return None
    return Target((pod.namespace, pod.deployment), pod.name, pod.uid, pod.ip, port)


async def listen(
    session: aiohttp.ClientSession,
    target: Target,
    on_state: Callable[[PodState], None],
    token: str,
    *,
    idle_timeout: float,
) -> Never:
    """Call `on_state` with every state that the pod sends, until the stream ends: with a `PodError`. A stream
    without a whole line for `idle_timeout` seconds has ended.

    Watching needs no token, and until a state proves the pod's UID, another pod may have the address by now. So the
    token is shown only where the places of all others are taken: it has places of its own.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as timeout:
            patience = IdleTimeout(loop, idle_timeout, timeout.reschedule)
            try:
                response = await _open(session, target, token)
                try:
                    content, parser, limiter, began = response.content, sse.Parser(), HEARD, False
                    while chunk := await content.readany():
                        state, heard = _read(parser.feed(chunk), target)
                        if state is not None:
                            on_state(state)
                            began = True
                        if began and heard:  # heartbeats keep a state fresh, they don't replace it
                            patience.heard()
                        limiter, wait = limiter.spend(loop.time())
                        if wait:  # what comes meanwhile is in the next chunk, and fills the pod's own buffers beyond
                            await asyncio.sleep(wait)
                        del chunk, state
                finally:
                    response.close()
            finally:
                patience.close()
    except TimeoutError as error:
        raise PodError("Unreachable", f"no heartbeat within {idle_timeout:g} s", lasting=True) from error
    except sse.InvalidStream as error:
        raise PodError("InvalidState", str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise PodError("Unreachable", "the pod takes no connection") from error
    except PodError:
        raise
    except Exception as error:
        raise _failure(error, target, "the connection broke") from error
    raise PodError("Unreachable", _ENDED)


@contextlib.contextmanager
def _failures(target: Target, sentence: str) -> Iterator[None]:
    """Let every failure leave as a `PodError`."""
    try:
        yield
    except PodError:
        raise
    except Exception as error:
        raise _failure(error, target, sentence) from error


def _failure(error: Exception, target: Target, sentence: str) -> PodError:
    """Return the error that the status shows; what is no failure of a network is in the log, with its traceback."""
    if not isinstance(error, aiohttp.ClientError | OSError | ValueError):  # a timeout is an OSError
        log.error("an exchange failed pod=%s/%s", target.key[0], target.name, exc_info=error)
    forget_frames(error)
    return PodError("Unreachable", f"{sentence} ({type(error).__name__})")


async def _open(session: aiohttp.ClientSession, target: Target, token: str) -> aiohttp.ClientResponse:
    """Return the state stream, which the caller closes."""
    response = await _watch(session, target, {})
    if response.status in _NO_PLACE:
        response.close()
        if not token:
            raise PodError("Unreachable", _ENDED)
        response = await _watch(session, target, {"Authorization": f"Bearer {token}"})
    try:
        _expect_stream(response)
    except BaseException:
        response.close()
        raise
    return response


def _expect_stream(response: aiohttp.ClientResponse) -> None:
    """Raises `PodError` for another answer, and what aiohttp raises for headers that it can't read."""
    if response.status != 200 or response.content_type != "text/event-stream":
        answer = text.clean(f"{response.status} {response.content_type}", 64)
        raise PodError("InvalidState", f"{names.PATH_STATE} answered {answer} instead of a stream")


async def _watch(
    session: aiohttp.ClientSession, target: Target, headers: Mapping[str, str]
) -> aiohttp.ClientResponse:
    """Ask for the stream. Awaited, not entered: a context of aiohttp's keeps the whole request while it is open."""
    return await session.get(
        f"{target.url}{names.PATH_STATE}",
        params={"watch": "true"},
        headers={"Accept": "text/event-stream", **headers},
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    )


def _read(messages: Iterable[sse.Message | sse.Heartbeat], target: Target) -> tuple[PodState | None, bool]:
    """Return the newest state, and whether there was anything."""
    newest: sse.Message | None = None
    heard = False
    for message in messages:
        heard = True
        if isinstance(message, sse.Message) and message.event == "state":
            newest = message
    return (None if newest is None else _believe(newest.data, target)), heard


async def push(session: aiohttp.ClientSession, target: Target, live: Envelope, token: str) -> Envelope:
    """Send live settings; the pod's echo, which is what was sent. Raises `PodError`."""
    with _failures(target, "no answer to the push"):
        async with session.put(
            f"{target.url}{names.PATH_SETTINGS}",
            data=live.to_json().encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=PUSH_SECONDS, sock_connect=CONNECT_SECONDS),
        ) as response:
            answer = await _bounded(response)
            status = response.status
        if status == 200:
            return _echo(answer, live)
    match status:
        case 409:
            raise PodError("PushRefused", "the pod runs with a newer revision (409)")
        case 401 | 403:
            message = f"the pod refuses the operator's token ({status})"
            raise PodError("PushRefused", message, token_refused=True)
        case 422:
            # A pod may repeat what it was sent. This goes into a status, which more people read than Secrets.
            detail = text.clean(Redactor((token,))(answer.decode("utf-8", "replace")), 200)
            raise PodError("PushRefused", f"the pod refuses the values (422): {detail}", lasting=True)
        case _:
            raise PodError("PushRefused", f"PUT {names.PATH_SETTINGS} answered {status}")


async def offload(
    session: aiohttp.ClientSession, target: Target, token: str, model: str, min_resident_seconds: float
) -> bool:
    """Ask for the offload of a model that is idle and ready for so long; whether its weights are off the GPU now.
    False: the pod says that it isn't, and nothing has happened. Raises `PodError`.
    """
    asked = {"model": model, "if_idle": True, "min_resident_seconds": min_resident_seconds}
    with _failures(target, "no answer to the offload"):
        status = await _post(session, target, token, names.PATH_OFFLOAD, asked, seconds=OFFLOAD_SECONDS)
    if status not in (200, 409):
        raise PodError("OffloadRefused", f"POST /gpu/offload answered {status}")
    return status == 200


async def load(session: aiohttp.ClientSession, target: Target, token: str, model: str) -> None:
    """Ask for a model to be made ready. Returns when it is, or after some seconds: the pod goes on. Raises
    `PodError`.
    """
    with _failures(target, "no answer to the wake"):
        try:
            status = await _post(
                session, target, token, names.PATH_LOAD, {"model": model}, seconds=LOAD_SECONDS
            )
        except aiohttp.ServerTimeoutError as error:
            raise PodError("Unreachable", "no connection for a wake") from error
        except TimeoutError:
            return
    if status != 200:
        raise PodError("LoadRefused", f"POST /gpu/load answered {status}")


async def help_from(
    session: aiohttp.ClientSession, target: Target, token: str, helper: Target, model: str
) -> None:
    """Name a pod that reads pages which wait in this one. Returns when it does, or after some seconds; an older pod
    doesn't know how. Raises `PodError`.
    """
    asked: dict[str, object] = {"model": model, "ip": helper.ip, "port": helper.port}
    with _failures(target, "no answer to the name of a helper"):
        status = await _post(session, target, token, names.PATH_HELPERS, asked, seconds=LOAD_SECONDS)
    if status != 200:
        raise PodError("HelpRefused", f"POST {names.PATH_HELPERS} answered {status}")


async def _post(
    session: aiohttp.ClientSession,
    target: Target,
    token: str,
    path: str,
    asked: dict[str, object],
    *,
    seconds: float,
) -> int:
    """One of the pod's controls; the status of its answer, which is read and says nothing more."""
    async with session.post(
        target.url + path,
        json=asked,
        headers={"Authorization": f"Bearer {token}"},
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
    ) as response:
        await _bounded(response)
        return response.status


def _echo(answer: bytes, live: Envelope) -> Envelope:
    """Read an echo as a state has it: without values, since the hash speaks for them."""
    echo = checked.read(answer, _ECHO, MAX_ANSWER_BYTES)
    if isinstance(echo, Invalid):
        raise PodError("InvalidState", f"no echo: {text.clean(str(echo))}")
    if (echo.revision, echo.hash) != (live.revision, live.hash):
        raise PodError("InvalidState", "the pod echoes other settings than it was sent")
    return msgspec.structs.replace(
        echo, hash=live.hash, values={}, ignored=shortened(echo.ignored or ()) or UNSET
    )


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    answer = bytearray()
    async for chunk in response.content.iter_any():
        answer += chunk
        if len(answer) > MAX_ANSWER_BYTES:
            raise PodError("InvalidState", f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(answer)


def _believe(data: bytes, target: Target) -> PodState:
    state = podstate.parse(data)
    if isinstance(state, Invalid):
        raise PodError("InvalidState", text.clean(str(state)))
    if state.pod.uid != target.uid:
        raise PodError("InvalidState", "the answer came from another pod (its UID differs)")
    if state.pod.name == target.name:  # in memory once
        return msgspec.structs.replace(state, pod=podstate.Identity(name=target.name, uid=target.uid))
    return state


def session() -> aiohttp.ClientSession:
    """Open a session for pods: as many connections as pods, no proxy, no cookies, no decompression (bombs).

    That of a push stays for aiohttp's 15 s: policies follow each other, and a new one for each push costs both ends.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "ocr-operator"},
    )
