"""Files of pages are made by a process that may die: the file, or why there is none."""

import asyncio
import io
from collections.abc import Sequence

import docx
import msgspec
import pypdfium2
import pytest

from ocr_inference.documents import exporting
from ocr_inference.documents.exporter import Order, Origin
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.documents.previews import MAX_BYTES, SECONDS, preview
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from tests.support import pages as pictures

RESULT = msgspec.json.encode(
    {
        "index": 0,
        "text": "# Invoice",
        "lines": [{"text": "Invoice 4711", "corners": [[60, 60], [400, 60], [400, 100], [60, 100]]}],
        "image_dims": {"w": 820, "h": 560},
        "metadata": {"engine": "rapidocr"},
    }
)


def order(format_: Format, *, max_bytes: int = 1 << 24, pages: int = 1) -> Order:
    return Order(
        format=format_,
        max_pixels=10_000_000,
        max_bytes=max_bytes,
        origins=(Origin(is_pdf=False),) if format_ is Format.PDF else (),
        places=((0, 0),) * pages,
    )


async def made(wanted: Order, results: Sequence[bytes], document: bytes, **more: Sequence[str]) -> bytes:
    with PageFile.of(document) as file:
        origins = [file] if wanted.origins else []
        with await exporting.made(wanted, results, origins, **more) as written:
            return b"".join(written.pieces())


async def test_a_pdf_and_a_word_document() -> None:
    written = await made(order(Format.PDF, pages=2), [RESULT, RESULT], pictures.invoice())
    document = pypdfium2.PdfDocument(written)
    assert [page.get_textpage().get_text_range() for page in document] == ["Invoice 4711"] * 2
    written = await made(order(Format.DOCX), [RESULT], b"")
    assert docx.Document(io.BytesIO(written)).paragraphs[0].text == "Invoice"


@pytest.mark.parametrize(
    ("wanted", "document", "code"),
    [
        (order(Format.PDF), b"no picture", "invalid_image"),
        (order(Format.PDF, max_bytes=1000), pictures.invoice(), "export_too_large"),
        (order(Format.PDF, pages=2), pictures.invoice(), "export_failed"),
    ],
    ids=["damaged", "large", "fewer pages than ordered"],
)
async def test_why_there_is_none(wanted: Order, document: bytes, code: str) -> None:
    with pytest.raises(ApiError) as raised:
        await made(wanted, [RESULT], document)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9"),
        ("print('nothing')", "ended with exit code 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "more processor time"),
        (
            "import sys, time; sys.stdin.read(); print('x' * 100_000, flush=True); time.sleep(3600)",
            "isn't understood",
        ),
    ],
    ids=["killed", "nonsense", "no end", "too many words"],
)
async def test_a_process_that_dies_is_an_answer(program: str, words: str) -> None:
    results = [RESULT] * 1000  # more than the pipe holds
    with pytest.raises(ApiError, match=words) as raised:
        await made(order(Format.DOCX), results, b"", program=("-c", program))
    assert raised.value.code == "export_failed"


async def test_a_process_that_draws_too_much_is_an_answer() -> None:
    program = (
        "-c",
        f"import os, time\nfor _ in range({MAX_BYTES >> 20} + 1): os.write(1, bytes(1 << 20))\ntime.sleep(3600)",
    )
    with PageFile.of(pictures.blank()) as file, pytest.raises(ApiError, match="sent too much") as raised:
        async with asyncio.timeout(SECONDS / 2):  # of the processes' own limit
            await preview(file, 0, 800, 10_000_000, program)
    assert raised.value.code == "invalid_page"
