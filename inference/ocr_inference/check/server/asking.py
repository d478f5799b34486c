"""Asks a running server what a check wants to know, by plain HTTP: what stands before it must not be smoothed over."""

import http.client
import ipaddress
import json
import ssl
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

from yarl import URL

from ocr_inference.check.server.facts import Body, Door, Facts, Model, Page
from ocr_wire import checked, names, state
from ocr_wire.text import shown

SECONDS: Final = 10.0
"""Time for an answer."""
PAGE_SECONDS: Final = 600.0
"""Time for a page, which may load a model first."""
LARGE: Final = 45_000_000
"""Bytes of a large scan; the server's own bound is 50 MiB."""
_MOST: Final = 1 << 20
_OURS: Final = "X-Request-ID"
"""Header that each answer of the server has, and answers of proxies don't."""
_WHITE: Final = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAAAAACEICPDAAAAJUlEQVR42u3MQREAAAwCIPuX1hD77SAA6VEEAoFAIB"
    "AIBALB12AxBfSma1BWNwAAAABJRU5ErkJggg=="
)
"""A white picture of 64 × 48 pixels."""


class _Unusable(Exception):
    """Answer, or lack of one, after which nothing more can be asked."""


def read(url: URL, token: str, *, reads_page: bool) -> Facts:
    """Ask; `token` may be empty. Nothing changes at the server, but for a page that is to be read: its model loads."""
    asking = _Asking(url, token)
    try:
        ready = asking.ready()
        found = asking.state()
    except _Unusable as error:
        return Facts(url=str(url), outside=_is_outside(url.host or ""), problem=str(error))
    return Facts(
        url=str(url),
        outside=_is_outside(url.host or ""),
        certificate_days=asking.certificate_days,
        ready=ready,
        version=found.version,
        device=found.device.kind,
        product=found.device.product,
        models=tuple(
            Model(
                name=each.name,
                state=each.state,
                location=each.location,
                failure=None if each.last_failure is None else each.last_failure.message,
            )
            for each in found.models
        ),
        controls=asking.door("PUT", names.PATH_SETTINGS),
        reading=asking.door("POST", names.PATH_OCR),
        body=asking.body(),
        first_event_seconds=asking.first_event(),
        page=asking.page() if reads_page else None,
    )


def _is_outside(host: str) -> bool:
    with suppress(ValueError):
        return not ipaddress.ip_address(host).is_loopback
    return host != "localhost" and not host.endswith(".localhost")


class _Asking:
    def __init__(self, url: URL, token: str) -> None:
        self._url = url
        self._path = url.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self.certificate_days: float | None = None

    def ready(self) -> str | None:
        """Return why it takes no requests; None if it does. The first call: says what keeps it from being asked."""
        try:
            with self._sent("GET", names.PATH_READY) as response:
                words = response.read(_MOST).decode(errors="replace").strip()
                ours = response.getheader(_OURS) is not None
        except ssl.SSLCertVerificationError as error:
            raise _Unusable(
                f"the certificate isn't valid for {self._url.host}: {error.verify_message}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Unusable(f"no answer: {error}") from None
        if not ours:
            raise _Unusable(
                f"what answers is no server of this program: {response.status} {shown(words)}; what stands before"
                " it may have no server to ask"
            )
        if response.status == http.client.FORBIDDEN:
            raise _Unusable(_message(words))
        return None if response.status == http.client.OK else words

    def state(self) -> state.PodState:
        with self._sent("GET", names.PATH_STATE) as response:
            found = state.parse(response.read(state.MAX_BYTES))
        if isinstance(found, checked.Invalid):
            raise _Unusable(f"its state can't be read: {found}")
        return found

    def door(self, method: str, path: str) -> Door:
        """Return what a call without a token meets. Its body is none that the server could work by."""
        with self._sent(
            method, path, body=b"check", headers={"Content-Type": "application/json"}
        ) as response:
            code = _code(response.read(_MOST))
        if response.status == http.client.UNAUTHORIZED:
            return "token"
        if code in ("controls_closed", "calls_closed"):
            return "closed"
        return "open" if response.status in (400, 415, 422) else "unknown"

    def body(self) -> Body:
        """Send the head of a large upload, and none of its body: what stands before the server decides by the head."""
        with closing(self._connection()) as connection:
            connection.putrequest("POST", self._path + names.PATH_OCR)
            for name, value in self._headers.items():
                connection.putheader(name, value)
            connection.putheader("Content-Type", "multipart/form-data; boundary=check")
            connection.putheader("Content-Length", str(LARGE))
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
            try:
                with connection.sock.makefile("rb") as stream:
                    head = stream.readline(_MOST).decode("latin-1").strip()
                    rest = b"" if " 100" in head else _head(stream.readline)
            except (OSError, http.client.HTTPException):
                return Body(nbytes=LARGE, passes=None)
        status = head.partition(" ")[2]
        ours = _OURS.lower().encode() in rest.lower()
        refused = status.startswith(str(int(http.client.REQUEST_ENTITY_TOO_LARGE)))
        return Body(nbytes=LARGE, passes=not refused, answer=shown(status), by_server=ours)

    def first_event(self) -> float | None:
        began = time.monotonic()
        watch = f"{names.PATH_STATE}?watch=true"
        with suppress(OSError, http.client.HTTPException), self._sent("GET", watch) as response:
            while line := response.readline(_MOST):
                if line.startswith(b"data:"):
                    return round(time.monotonic() - began, 3)
        return None

    def page(self) -> Page:
        """Read a small page, which loads a model."""
        form = (
            b'--check\r\nContent-Disposition: form-data; name="file"; filename="white.png"\r\n\r\n'
            + _WHITE
            + b"\r\n--check--\r\n"
        )
        began, problem = time.monotonic(), None
        headers = {**self._headers, "Content-Type": "multipart/form-data; boundary=check"}
        try:
            with self._sent("POST", names.PATH_OCR, form, headers, PAGE_SECONDS) as response:
                said = response.read(_MOST)
            if response.status != http.client.OK:
                problem = f"{response.status} {_message(said.decode(errors='replace'))}"
        except (OSError, http.client.HTTPException) as error:
            problem = f"{error}"
        return Page(seconds=round(time.monotonic() - began, 3), problem=problem)

    def _connection(self, seconds: float = SECONDS) -> http.client.HTTPConnection:
        host, port = self._url.host or "", self._url.port
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
            connection.connect()
            return connection
        secured = http.client.HTTPSConnection(host, port, timeout=seconds, context=self._tls)
        secured.connect()
        assert isinstance(secured.sock, ssl.SSLSocket)
        if ends := (secured.sock.getpeercert() or {}).get("notAfter"):
            self.certificate_days = (ssl.cert_time_to_seconds(str(ends)) - time.time()) / 86_400
        return secured

    @contextmanager
    def _sent(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Iterator[http.client.HTTPResponse]:
        with closing(self._connection(seconds)) as connection:
            connection.request(method, self._path + path, body=body, headers=headers or {})
            yield connection.getresponse()


def _head(readline: Callable[[int], bytes]) -> bytes:
    lines = []
    while (line := readline(_MOST)).strip():
        lines.append(line)
    return b"".join(lines)


def _message(body: str) -> str:
    with suppress(ValueError, AttributeError):
        error = json.loads(body)["error"]
        return shown(error["message"] if isinstance(error, dict) else error)
    return shown(body)


def _code(body: bytes) -> str | None:
    with suppress(ValueError, AttributeError, KeyError, TypeError):
        found = json.loads(body)
        error = found["error"]
        code: str | None = error["code"] if isinstance(error, dict) else found["code"]
        return code
    return None
