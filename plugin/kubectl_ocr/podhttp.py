"""A pod's HTTP calls through a port-forward, and its refusals in words."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec

from kubectl_ocr import text
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.kubectl import Kubectl
from kubectl_ocr.objects import Pod, Resource, T
from ocr_wire import checked, errors, names
from ocr_wire.checked import Invalid

MAX_ANSWER_BYTES: Final = 64 * 2**20


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a control."""

    model: str
    state: str
    model_location: str


_DONE: Final = msgspec.json.Decoder(Done)
_PAGE: Final = msgspec.json.Decoder(dict[str, Any])


class Server:
    """One pod's server; see `reach`."""

    def __init__(self, http: aiohttp.ClientSession, pod: str) -> None:
        self._http, self._pod = http, pod

    async def control(self, path: str, model: str) -> Done:
        """Send `POST /gpu/…`. Raises `Failure`."""
        body = await self._post(path, json={"model": model} if model else {})
        answer = checked.read(body, _DONE, MAX_ANSWER_BYTES)
        return self._understood(path, answer)

    async def read(self, picture: bytes, fields: Mapping[str, str]) -> dict[str, Any]:
        """Send `POST /ocr`. Raises `Failure`."""
        form = aiohttp.FormData(dict(fields), default_to_multipart=True)
        form.add_field("file", picture, filename="page", content_type="application/octet-stream")
        body = await self._post(names.PATH_OCR, data=form)
        answer = checked.read(body, _PAGE, MAX_ANSWER_BYTES)
        return self._understood(names.PATH_OCR, answer)

    def _understood(self, path: str, answer: T | Invalid) -> T:
        if isinstance(answer, Invalid):
            raise Failure(f"pod {self._pod} answers {path} with something else: {answer}")
        return answer

    async def _post(self, path: str, **body: Any) -> bytes:
        try:
            async with self._http.post(path, allow_redirects=False, **body) as response:
                answer = bytearray()
                async for chunk in response.content.iter_chunked(2**16):
                    answer += chunk
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise Failure(f"pod {self._pod} answers with more than {MAX_ANSWER_BYTES >> 20} MiB")
                if response.status == 200:
                    return bytes(answer)
                raise _refused(self._pod, path, response.status, response.headers, bytes(answer))
        except TimeoutError:
            raise Failure(
                f"pod {self._pod} didn't answer {path} in time: a model may still load; --within waits longer",
                Exit.LATER,
            ) from None
        except aiohttp.ClientError as error:
            raise Failure(
                f"the connection to pod {self._pod} broke: {text.clean(str(error) or type(error).__name__, 300)}",
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
        yield Server(http, pod.metadata.name)


def _refused(pod: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    error = errors.read(body)
    said = error.message or f"status {status}"
    if status in {401, 403}:
        key = "its API keys" if path == names.PATH_OCR else f"key {names.ADMIN_KEY!r} of its admin Secret"
        return Failure(f"pod {pod} refuses the token: {said}; it must be one of {key}", Exit.NOT_ALLOWED)
    if status == 404 and error.code == "not_found":
        return Failure(f"pod {pod} doesn't know {path}: its server is older than this plugin")
    if status in {429, 503, 504}:
        after = text.clean(headers.get("Retry-After", ""), 20)
        again = f"; try again in {after} s" if after.isascii() and after.isdecimal() else "; try again soon"
        return Failure(f"pod {pod} is busy: {said}{again}", Exit.LATER)
    if status in {400, 404, 413, 415, 422}:
        return Failure(f"pod {pod} refuses: {said}", Exit.NOT_FOUND if status == 404 else Exit.USAGE)
    return Failure(f"pod {pod} failed: {said}")
