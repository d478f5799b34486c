"""A pod's HTTP calls through a port-forward, and its refusals in words."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec

from kubectl_ocr import text
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.kubectl import Kubectl
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.reading import T
from kubectl_ocr.objects.resource import Resource
from ocr_wire import checked, errors, names, numbers
from ocr_wire.checked import Invalid
from ocr_wire.redaction import Redactor

MAX_ANSWER_BYTES: Final = 64 * 2**20


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a control."""

    model: str
    state: str
    model_location: str


class Broken(Failure):
    """Connection that ended before the answer did: the pod may know nothing of it."""


_DONE: Final = msgspec.json.Decoder(Done)
_PAGE: Final = msgspec.json.Decoder(dict[str, Any])


class Server:
    """One pod's server; see `reach`."""

    def __init__(self, http: aiohttp.ClientSession, pod: str, token: str = "") -> None:
        """Prepare; `token` is left out of what the pod says."""
        self._http, self.pod, self._redact = http, pod, Redactor((token,))

    async def control(self, path: str, model: str) -> Done:
        """Send `POST /gpu/…`. Raises `Failure`."""
        body = await self.call("POST", path, json={"model": model} if model else {})
        return self.understood(path, body, _DONE)

    async def read(self, picture: bytes, name: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Send `POST /ocr`. Raises `Failure`."""
        form = aiohttp.FormData(dict(fields), default_to_multipart=True)
        form.add_field("file", picture, filename=name, content_type="application/octet-stream")
        body = await self.call("POST", names.PATH_OCR, data=form)
        return self.understood(names.PATH_OCR, body, _PAGE)

    def understood(self, path: str, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        """Return what an answer says. Raises `Failure` of one that can't be read."""
        answer = checked.read(body, decoder, len(body))  # `call` and `lines` bound it
        if isinstance(answer, Invalid):
            raise Failure(f"pod {self.pod} answers {path} with something else: {answer}")
        return answer

    async def call(
        self, method: str, path: str, *, status: int = 200, limit: int = MAX_ANSWER_BYTES, **body: Any
    ) -> bytes:
        """Return the body of an answer with this status. Raises `Failure`."""
        async with self._answer(method, path, status, **body) as response:
            answer = await _body(response, limit)
            if len(answer) > limit:
                raise Failure(f"pod {self.pod} answers with more than {limit >> 20} MiB")
            return answer

    async def lines(self, path: str, *, silent: float, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an answer as they come. Raises `Failure`, also after `silent` seconds without any."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=silent)
        kept = b""
        async with self._answer("GET", path, 200, timeout=timeout) as response:
            async for chunk in response.content.iter_any():
                *lines, kept = (kept + chunk).split(b"\n")
                for line in lines:
                    yield line
                if len(kept) > limit:
                    raise Failure(f"pod {self.pod} answers {path} with a line of more than {limit >> 10} KiB")

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, status: int, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        where = path.partition("?")[0]
        try:
            async with self._http.request(method, path, allow_redirects=False, **more) as response:
                if response.status != status:
                    said = await _body(response, errors.MAX_BYTES)
                    failure = _refused(self.pod, where, response.status, response.headers, said)
                    raise Failure(self._redact(str(failure)), failure.status)
                yield response
        except TimeoutError:
            raise Failure(
                f"pod {self.pod} didn't answer {where} in time: a model may still load; --within waits longer",
                Exit.LATER,
            ) from None
        except aiohttp.ClientError as error:
            raise Broken(
                f"the connection to pod {self.pod} broke: {text.clean(str(error) or type(error).__name__, 300)}",
                Exit.LATER,
            ) from None


@asynccontextmanager
async def reach(
    kubectl: Kubectl, resource: Resource, pod: Pod, *, token: str = "", within: float
) -> AsyncIterator[Server]:
    """Connect to the pod's server while the block runs; each call may take `within` seconds. Raises `Failure`."""
    port = pod.port(resource.spec.server.port)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        kubectl.forward(pod.metadata.namespace, pod.metadata.name, port) as local,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{local}",
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=within),
            trust_env=False,
        ) as http,
    ):
        yield Server(http, pod.metadata.name, token)


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read an answer, or as much of it as tells that it has more bytes than `limit`."""
    answer = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        answer += chunk
        if len(answer) > limit:
            break
    return bytes(answer)


def _refused(pod: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    error = errors.read(body)
    said = error.message or f"status {status}"
    if status in {401, 403}:
        pages = path.startswith((names.PATH_OCR, names.PATH_JOBS))
        key = "its API keys" if pages else f"key {names.ADMIN_KEY!r} of its admin Secret"
        return Failure(f"pod {pod} refuses the token: {said}; it must be one of {key}", Exit.NOT_ALLOWED)
    if status == 404 and error.code == "not_found":
        return Failure(f"pod {pod} doesn't know {path}: its server is older than this plugin")
    if status in {429, 503, 504}:
        after = numbers.whole(headers.get("Retry-After", "").strip(), 0, 99_999)
        again = "; try again soon" if after is None else f"; try again in {after} s"
        return Failure(f"pod {pod} is busy: {said}{again}", Exit.LATER)
    if status in {400, 404, 413, 415, 422}:
        return Failure(f"pod {pod} refuses: {said}", Exit.NOT_FOUND if status == 404 else Exit.USAGE)
    return Failure(f"pod {pod} failed: {said}")
