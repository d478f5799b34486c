"""The user's own kubectl: every call to the cluster goes through it, with their kubeconfig, context and rights.

Programs are started from argument lists, bounded in time and output; what they print on failure becomes a `Failure`
with the way out.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from kubectl_ocr import text
from kubectl_ocr.errors import Exit, Failure
from ocr_wire import names

MAX_OUTPUT_BYTES: Final = 256 * 2**20
MAX_ERROR_BYTES: Final = 64 * 2**10
CALL_SECONDS: Final = 60.0
FORWARD_SECONDS: Final = 20.0

_FORWARDING: Final = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d{1,5}) ->")


class Kubectl:
    """The user's kubectl; `flags` go into every call, such as `--context`."""

    def __init__(self, program: str, flags: Sequence[str] = ()) -> None:
        self._command = (program, *flags)

    async def run(self, *arguments: str, seconds: float = CALL_SECONDS) -> bytes:
        """Return what a call prints. Raises `Failure`, as `explain` words it."""
        process = await self._start(arguments)
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                errors = group.create_task(_read(process.stderr, MAX_ERROR_BYTES))
                output = await _read(process.stdout, MAX_OUTPUT_BYTES)
            status = await process.wait()
        except TimeoutError:
            raise Failure(
                f"kubectl {arguments[0]} didn't end within {seconds:.0f} s: is the API server busy or unreachable?",
                Exit.LATER,
            ) from None
        finally:
            await _end(process)
        if status != 0:
            raise explain(arguments[0], errors.result().decode(errors="replace"))
        if len(output) > MAX_OUTPUT_BYTES:
            raise Failure(
                f"kubectl {arguments[0]} printed more than {MAX_OUTPUT_BYTES >> 20} MiB: name one resource"
            )
        return output

    async def lines(self, *arguments: str, silent: float, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield the lines that a call prints, until it ends. Raises `Failure`, also after `silent` seconds without
        any, and of a line of more than `limit` bytes.
        """
        process = await self._start(arguments)
        errors = asyncio.create_task(_read(process.stderr, MAX_ERROR_BYTES))  # ends with the process
        try:
            kept = b""
            while chunk := await _chunk(process.stdout, silent):
                *lines, kept = (kept + chunk).split(b"\n")
                for line in filter(None, lines):
                    yield line
                if len(kept) > limit:
                    raise Failure(f"kubectl {arguments[0]} printed a line of more than {limit >> 20} MiB")
            status = await process.wait()
        finally:
            await _end(process)
            said = await errors
        if status != 0:
            raise explain(arguments[0], said.decode(errors="replace"))

    @asynccontextmanager
    async def forward(self, namespace: str, pod: str, port: int) -> AsyncIterator[int]:
        """Open a local port (on 127.0.0.1) that leads to a port of the pod, for as long as the block runs."""
        where = ("port-forward", f"pod/{pod}", f":{port}", f"--namespace={namespace}", "--address=127.0.0.1")
        process = await self._start(where)
        try:
            local = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(FORWARD_SECONDS):
                    assert process.stdout is not None
                    found = _FORWARDING.match(await process.stdout.readline())
                    local = int(found[1]) if found else 0
            if not local:
                with suppress(ProcessLookupError):
                    process.kill()
                said = (await _read(process.stderr, MAX_ERROR_BYTES)).decode(errors="replace")
                raise explain("port-forward", said or f"no answer within {FORWARD_SECONDS:.0f} s")
            yield local
        finally:
            await _end(process)

    async def _start(self, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise Failure(f"{self._command[0]} can't be started: {error.strerror}", Exit.NO_KUBECTL) from None


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    """Read a stream to its end; no more than `limit` + 1 bytes are kept."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(2**16):
        kept += chunk[: limit + 1 - len(kept)]
    return bytes(kept)


async def _chunk(stream: asyncio.StreamReader | None, silent: float) -> bytes:
    assert stream is not None
    try:
        async with asyncio.timeout(silent):
            return await stream.read(2**16)
    except TimeoutError:
        raise Failure(
            f"nothing was heard of the API server for {silent:g} s: the connection is dead", Exit.LATER
        ) from None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


_FORBIDDEN: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<what>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<space>[^"]*)")?'
)
_SIGNS: Final = (
    ("not allowed: {}", ("orbidden",), Exit.NOT_ALLOWED),
    (
        "the API server doesn't know you: {}",
        ("must be logged in", "Unauthorized", "provide credentials"),
        Exit.NOT_ALLOWED,
    ),
    (
        "this cluster has no OcrDeployments: install the chart charts/ocr-operator, or choose another --context",
        ('resource type "ocrdeployments', f'for kind "OcrDeployment" in version "{names.GROUP}'),
        Exit.NOT_FOUND,
    ),
    ("{}", ("(NotFound)",), Exit.NOT_FOUND),
    (
        "the cluster can't be reached now: {}",
        (
            *("connection refused", "was refused", "Unable to connect", "no such host", "i/o timeout"),
            *("deadline exceeded", "connection reset", "TLS handshake timeout", "ServiceUnavailable"),
        ),
        Exit.LATER,
    ),
    ("refused: {}", ("is invalid",), Exit.USAGE),
)
"""(what is wrong, with kubectl's own message; words that it is known by; exit status); the first one that fits."""


def explain(call: str, said: str) -> Failure:
    """Return what is wrong and the way out, from what kubectl printed on failure."""
    lines = [line for line in said.splitlines() if line.strip() and not re.match(r"[EWI]\d{4} ", line)]
    message = text.clean(" ".join(lines or said.splitlines()[-1:]), 2000)
    message = (
        re.sub(r"^(?:error: |Error from server )+", "", message) or f"kubectl {call} failed and said nothing"
    )
    if (found := _FORBIDDEN.search(message)) is not None:
        what = ".".join(filter(None, (found["what"], found["group"])))
        where = f" in namespace {found['space']}" if found["space"] else ""
        return Failure(
            f"you ({found['user']}) may not {found['verb']} {what}{where}: ask for a Role with verb "
            f"{found['verb']!r} on it (docs/kubectl-plugin.md lists what each command needs)",
            Exit.NOT_ALLOWED,
        )
    for lead, signs, status in _SIGNS:
        if any(sign in message for sign in signs):
            return Failure(lead.replace("{}", message.removeprefix("(NotFound): ")), status)
    return Failure(message)
