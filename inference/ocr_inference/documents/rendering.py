"""The server's side of a rendering process: asks it for pages, one at a time, and outlives it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, Self

from ocr_inference import errors
from ocr_inference.documents import messages
from ocr_inference.documents.messages import Answer, Failed, Opened, Refused, Render, Rendered
from ocr_inference.errors import ApiError
from ocr_inference.protocol import packets
from ocr_inference.protocol.page import MAX_SIDE
from ocr_inference.protocol.page_file import PageFile

PROGRAM: Final = ("-I", "-W", "ignore", "-m", "ocr_inference.documents.renderer")
PAGE_SECONDS: Final = 120.0
"""How long a page may take; what it may take of a processor is bounded by the process itself."""
END_SECONDS: Final = 10.0
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "FONTCONFIG_FILE", "FONTCONFIG_PATH")
_MAX_BYTES_A_PIXEL: Final = 4
_HEADER_BYTES: Final = 4096
_PIECE_BYTES: Final = 1 << 16


class Died(Exception):
    """End of a rendering process while it was asked; the message completes "its renderer …"."""


@dataclass(frozen=True)
class Renderer:
    """Rendering process of one document."""

    count: int
    """Pages of the document."""
    _process: asyncio.subprocess.Process
    _connection: socket.socket

    @classmethod
    async def start(
        cls, kind: str, file: PageFile, max_pixels: int, program: Sequence[str] = PROGRAM
    ) -> Self:
        """Start a process that has opened the document. Raises `ApiError` where the document is at fault, or where the
        system has no descriptor or process left, and `Died`."""
        try:
            ours, theirs = packets.pair()
            with ExitStack() as unless_started, theirs:
                unless_started.callback(ours.close)
                ours.setblocking(False)
                process = await _started(program, kind, file, theirs, max_pixels)
                unless_started.pop_all()
        except OSError as error:
            rule = errors.FAILURES["out_of_descriptors"]
            message = (
                f"no process to render the document can be started: {error.strerror}; send it again later"
            )
            raise errors.of(rule, message) from error
        renderer = cls(0, process, ours)
        try:
            answer, picture = await renderer._receive()
            if isinstance(answer, Refused):
                raise ApiError(answer.status, answer.code, answer.message)
            if not isinstance(answer, Opened) or picture is not None or answer.count < 0:
                raise Died("sent what isn't understood")
        except BaseException:
            await renderer.close()
            raise
        return cls(answer.count, process, ours)

    def request(self, index: int, dpi: float) -> None:
        """Order a page, which is rendered while others are read; raises `Died`."""
        try:
            packets.send(self._connection, packets.pack(Render(index, dpi)))
        except OSError:
            raise Died("has ended") from None

    async def page(self, index: int) -> tuple[Rendered, PageFile] | Failed:
        """Return a page that was ordered; pages that were ordered before it are dropped. Raises `Died`."""
        while True:
            answer, picture = await self._receive()
            if isinstance(answer, Rendered) and picture is not None:
                if answer.index == index:
                    return answer, picture
                picture.close()
            elif isinstance(answer, Failed):
                if answer.index == index:
                    return answer
            else:
                raise Died("sent what isn't understood")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def close(self) -> None:
        """End the process."""
        self._connection.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()

    async def _ending(self) -> str:
        try:
            code = await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            return "has closed its connection"
        if code == -signal.SIGXCPU:
            return "took more processor time than a page may take"
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def _receive(self) -> tuple[Answer, PageFile | None]:
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                await _readable(self._connection)
            received = packets.receive(self._connection, messages.answers)
        except TimeoutError:
            raise Died(f"took longer than {PAGE_SECONDS:g} s") from None
        except packets.Broken:
            raise Died("sent what isn't understood") from None
        except ConnectionResetError:
            received = None  # it has ended with requests unread
        if received is None:
            raise Died(await self._ending())
        answer, descriptors = received
        files = [PageFile(fd) for fd in descriptors]
        if isinstance(answer, Rendered) and not (len(files) == 1 and _is_picture(answer, files[0])):
            raise Died("sent what isn't understood")
        return answer, files[0] if files else None


def _is_picture(rendered: Rendered, file: PageFile) -> bool:
    """Whether the file can be what the process says, and stays so: the process may have been taken over."""
    sides = rendered.width, rendered.height
    if not all(1 <= side <= MAX_SIDE for side in sides) or not messages.is_sealed(file.fileno()):
        return False
    return file.size <= sides[0] * sides[1] * _MAX_BYTES_A_PIXEL + sides[1] * 4 + _HEADER_BYTES


class SaidTooMuch(Exception):
    """Output of a process that is longer than any that it should have."""


async def said(process: asyncio.subprocess.Process, most_bytes: int) -> bytes:
    """Return all that a process writes to its standard output, until it closes that; raises `SaidTooMuch`. Like a
    picture of it, its output may be anything: it may have been taken over."""
    assert process.stdout is not None
    out = bytearray()
    while piece := await process.stdout.read(_PIECE_BYTES):
        out += piece
        if len(out) > most_bytes:
            raise SaidTooMuch
    return bytes(out)


def plain_environment() -> dict[str, str]:
    """Return what a process that decodes gets of our environment: no token is among it."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


async def _started(
    program: Sequence[str], kind: str, file: PageFile, theirs: socket.socket, max_pixels: int
) -> asyncio.subprocess.Process:
    arguments = (kind, *map(str, (file.fileno(), theirs.fileno(), max_pixels)))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *program, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        # Decoders write a line for each damaged line of a page.
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(file.fileno(), theirs.fileno()),
        env=plain_environment(),
    )


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def is_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection.fileno(), is_ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())
