"""The HTTP exchanges with a pod: its state stream, a push of live settings, the offload of an idle model, and a wake.

Pods may be hostile: addresses come from the pod's status only, answers are bounded and not decompressed,
redirects are never followed, no proxy of the environment sees the token, and a state counts only with the pod's
own UID in it.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec
from msgspec import UNSET

from ocr_operator.pods import sse
from ocr_operator.pods.unreachable import Unreachable
from ocr_operator.resources.observed import Key, Pod
from ocr_wire import checked, names, text
from ocr_wire import state as podstate
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import Envelope, shortened
from ocr_wire.state import PodState

CONNECT_SECONDS: Final = 3.0
PUSH_SECONDS: Final = 5.0
OFFLOAD_SECONDS: Final = 5.0
"""The weights are in host memory already, so an offload frees and moves nothing."""
LOAD_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 64 * 1024
_ECHO: Final = msgspec.json.Decoder(Envelope)


class PodError(Exception):
    """The pod did not do what was asked; `unreachable` is the same for the status."""

    def __init__(self, reason: str, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.unreachable = Unreachable(reason=reason, message=message)
        self.lasting = lasting
        """Trying again soon won't help."""


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
        """Raises ValueError for what is no IP address: a name would be looked up, and lead anywhere."""
        address = ipaddress.ip_address(self.ip)
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"http://{host}:{self.port}"


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
    *,
    idle_timeout: float,
) -> None:
    """Call `on_state` with every state that the pod sends, until the stream ends. Raises `PodError`; a stream
    without a whole line for `idle_timeout` seconds has ended.
    """
    try:
        async with asyncio.timeout(idle_timeout) as patience:
            await _listen(session, target, on_state, patience, idle_timeout)
    except TimeoutError as error:
        raise PodError("Unreachable", f"no heartbeat within {idle_timeout:g} s", lasting=True) from error
    except sse.InvalidStream as error:
        raise PodError("InvalidState", str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise PodError("Unreachable", "the pod takes no connection") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise PodError("Unreachable", f"the connection broke ({type(error).__name__})") from error
    raise PodError("Unreachable", "the pod ended its state stream")


async def _listen(
    session: aiohttp.ClientSession,
    target: Target,
    on_state: Callable[[PodState], None],
    patience: asyncio.Timeout,
    idle_timeout: float,
) -> None:
    loop, parser = asyncio.get_running_loop(), sse.Parser()
    async with session.get(
        f"{target.url}{names.PATH_STATE}",
        params={"watch": "true"},
        headers={"Accept": "text/event-stream"},
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    ) as response:
        if response.status != 200 or response.content_type != "text/event-stream":
            answer = text.clean(f"{response.status} {response.content_type}", 64)
            raise PodError("InvalidState", f"{names.PATH_STATE} answered {answer} instead of a stream")
        began = False
        async for chunk in response.content.iter_any():
            for message in parser.feed(chunk):
                if isinstance(message, sse.Message) and message.event == "state":
                    on_state(_believe(message.data, target))
                    began = True
                if began:  # heartbeats keep a state fresh, they don't replace it
                    patience.reschedule(loop.time() + idle_timeout)


async def push(session: aiohttp.ClientSession, target: Target, live: Envelope, token: str) -> Envelope:
    """Send live settings; the pod's echo, which is what was sent. Raises `PodError`."""
    try:
        async with session.put(
            f"{target.url}{names.PATH_SETTINGS}",
            data=live.to_json().encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=PUSH_SECONDS, sock_connect=CONNECT_SECONDS),
        ) as response:
            answer = await _bounded(response)
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise PodError("Unreachable", f"no answer to the push ({type(error).__name__})") from error
    match status:
        case 200:
            return _echo(answer, live)
        case 409:
            raise PodError("PushRefused", "the pod runs with a newer revision (409)")
        case 401 | 403:
            raise PodError("PushRefused", f"the pod refuses the operator's token ({status})")
        case 422:
            detail = text.clean(answer[:400].decode("utf-8", "replace"), 200)
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
    try:
        status = await _post(session, target, token, names.PATH_OFFLOAD, asked, seconds=OFFLOAD_SECONDS)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise PodError("Unreachable", f"no answer to the offload ({type(error).__name__})") from error
    if status not in (200, 409):
        raise PodError("OffloadRefused", f"POST /gpu/offload answered {status}")
    return status == 200


async def load(session: aiohttp.ClientSession, target: Target, token: str, model: str) -> None:
    """Ask for a model to be made ready. Returns when it is, or after some seconds: the pod goes on. Raises
    `PodError`.
    """
    try:
        status = await _post(session, target, token, names.PATH_LOAD, {"model": model}, seconds=LOAD_SECONDS)
    except aiohttp.ServerTimeoutError as error:
        raise PodError("Unreachable", "no connection for a wake") from error
    except TimeoutError:
        return
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise PodError("Unreachable", f"no answer to the wake ({type(error).__name__})") from error
    if status != 200:
        raise PodError("LoadRefused", f"POST /gpu/load answered {status}")


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
    return msgspec.structs.replace(echo, values={}, ignored=shortened(echo.ignored or ()) or UNSET)


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
    return state


def session() -> aiohttp.ClientSession:
    """Open a session for pods: as many connections as pods, no proxy, no cookies, no decompression (bombs)."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "ocr-operator"},
    )
