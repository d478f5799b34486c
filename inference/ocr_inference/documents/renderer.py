"""Process that renders the pages of one document, on request: `python -m ocr_inference.documents.renderer`.

Its libraries are native code and the file may be hostile: a crash, an endless loop or a hunger for memory ends with
this process, and costs the page that was rendered.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ocr_inference import limits
from ocr_inference.documents import bounds, kinds, messages
from ocr_inference.documents.messages import Failed, Opened, Refused, Rendered
from ocr_inference.errors import ApiError
from ocr_inference.protocol import packets

PAGE_CPU_SECONDS: Final = 30
"""Processor time of a page: on a busy machine it is the same, and a hang takes all of it."""


class Source(Protocol):
    """Document that is open."""

    @property
    def count(self) -> int: ...

    def render(self, index: int, dpi: float) -> tuple[Rendered, int]:
        """Render a page; returns its file, too. Raises `ApiError`."""

    def close(self) -> None: ...


def serve(
    open_document: Callable[[], Source], connection: socket.socket, cpu_seconds: int = PAGE_CPU_SECONDS
) -> None:
    """Open a document and answer requests for its pages until the other end is closed."""
    bounds.allow_seconds(cpu_seconds)
    try:
        document = open_document()
    except Exception as error:  # noqa: BLE001 whatever it is, it is this document's
        known = _known(error, "the document can't be opened")
        _send(connection, Refused(known.status, known.code, known.message[: messages.MAX_MESSAGE]))
        return
    _send(connection, Opened(document.count))
    while (received := packets.receive(connection, messages.requests)) is not None:
        request, _ = received
        bounds.allow_seconds(cpu_seconds)
        index = request.index
        try:
            rendered, fd = document.render(index, request.dpi)
        except Exception as error:  # noqa: BLE001 whatever it is, it is this page's
            known = _known(error, f"page {index + 1} can't be rendered")
            _send(connection, Failed(index, known.status, known.code, known.message[: messages.MAX_MESSAGE]))
        else:
            _send(connection, rendered, fd)
            os.close(fd)


def _known(error: Exception, what: str) -> ApiError:
    """Return the error as a client reads it."""
    if isinstance(error, ApiError):
        return error
    if limits.ran_out(error):
        # Decoders say nothing more, but for what our own check says.
        reason = (
            str(error)
            if isinstance(error, limits.OutOfHostMemory)
            else "it needs more memory than it may take"
        )
        return ApiError(507, "out_of_memory", f"{what}: {reason}")
    return ApiError(422, "invalid_page", f"{what}: {str(error) or type(error).__name__}")


def _send(connection: socket.socket, answer: messages.Answer, *descriptors: int) -> None:
    packets.send(connection, packets.pack(answer), descriptors)


def opened(kind: str, file: int, max_pixels: int) -> Source:
    """Open a document in this process, whose memory is bounded from here on; raises `ApiError`."""
    # Imported here, since each is native code of megabytes, and before memory is bounded.
    if kind == kinds.PDF:
        from ocr_inference.documents.pdf import Pdf  # noqa: PLC0415

        bounds.bound_memory(file)
        return Pdf(file, max_pixels)
    from ocr_inference.documents.frames import Frames  # noqa: PLC0415

    bounds.bound_memory(file)
    return Frames(file, max_pixels)


def main(arguments: Sequence[str]) -> None:
    kind, file, connection, max_pixels = arguments
    with socket.socket(fileno=int(connection)) as theirs:
        serve(lambda: opened(kind, int(file), int(max_pixels)), theirs)


if __name__ == "__main__":
    main(sys.argv[1:])
