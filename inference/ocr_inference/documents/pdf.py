"""PDF pages as pictures, rendered by a process of their own.

PDF libraries are native code and the file may be hostile: a crash, endless loop or memory hog ends with the process of
its one document and becomes a clear error here. `python -m ocr_inference.documents.pdf` is that process; it writes
length-prefixed messages, each a `Page` or `RenderError`.
"""

import asyncio
import io
import resource
import struct
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import IO

import msgspec
from msgspec import Struct

from ocr_inference.errors import ApiError

DPI = 144
"""Resolution at which the authors of DeepSeek-OCR render pages; body text is then about 30 px high."""

PAGE_SECONDS = 60.0
MEMORY_BYTES = 4 << 30
CPU_SECONDS = 600

_LENGTH = struct.Struct(">I")


class Page(Struct, frozen=True, tag="page"):
    index: int
    count: int
    image: bytes
    """PNG."""


class RenderError(Struct, frozen=True, tag="error"):
    status: int
    code: str
    message: str


async def pages(path: str, max_pages: int, max_pixels: int) -> AsyncGenerator[Page]:
    """Yield pages in order, rendered while earlier ones are used. Raises `ApiError` where the file is at fault."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-m", "ocr_inference.documents.pdf", path, str(max_pages), str(max_pixels)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    decoder = msgspec.msgpack.Decoder(Page | RenderError)
    done = 0
    try:
        while True:
            try:
                async with asyncio.timeout(PAGE_SECONDS):
                    (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
                    message = decoder.decode(await process.stdout.readexactly(length))
            except asyncio.IncompleteReadError:
                if (code := await process.wait()) != 0:
                    raise _broken(f"its renderer ended with exit code {code} at page {done + 1}") from None
                return
            except TimeoutError:
                raise _broken(f"page {done + 1} took longer than {PAGE_SECONDS:g} s to render") from None
            if isinstance(message, RenderError):
                raise ApiError(message.status, message.code, message.message, param="file")
            done += 1
            yield message
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _broken(why: str) -> ApiError:
    return ApiError(422, "invalid_pdf", f"the PDF can't be rendered: {why}", param="file")


# --- the rendering process ---


def render(path: str, max_pages: int, max_pixels: int) -> Iterator[Page]:
    """Yield pages in order; raises `ApiError`. Runs native code: only in the process made for it."""
    import pypdfium2  # noqa: PLC0415 - native code stays out of the server

    try:
        document = pypdfium2.PdfDocument(path)
    except FileNotFoundError:
        raise ApiError(404, "file_not_found", f"no file {path}") from None
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ApiError(
                422, "encrypted_pdf", "the PDF asks for a password; save it without one"
            ) from error
        raise ApiError(422, "invalid_pdf", f"the PDF is damaged: {error}") from error
    count = len(document)
    if count > max_pages:
        raise ApiError(413, "too_many_pages", f"the PDF has {count} pages; {max_pages} are allowed: split it")
    for index in range(count):
        try:
            page = document[index]
            width, height = (side * DPI / 72 for side in page.get_size())
            if width * height > max_pixels:
                size = f"{width:.0f} x {height:.0f} pixels at {DPI} dpi"
                raise ApiError(
                    413, "image_too_large", f"page {index + 1} has {size}; {max_pixels} are allowed"
                )
            picture = io.BytesIO()
            page.render(scale=DPI / 72).to_pil().save(picture, "PNG", compress_level=1)
        except (pypdfium2.PdfiumError, ValueError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            raise ApiError(422, "invalid_pdf", f"page {index + 1} of the PDF is damaged: {reason}") from error
        yield Page(index, count, picture.getvalue())


def main(path: str, max_pages: int, max_pixels: int, out: IO[bytes]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for page in render(path, max_pages, max_pixels):
            _send(out, page)
    except ApiError as error:
        _send(out, RenderError(error.status, error.code, error.message))


def _send(out: IO[bytes], message: Page | RenderError) -> None:
    data = msgspec.msgpack.encode(message)
    out.write(_LENGTH.pack(len(data)) + data)
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdout.buffer)
