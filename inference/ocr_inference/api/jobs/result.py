"""Results of a job's pages: made when a page has ended, kept as they are sent."""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from ocr_inference.api import faults
from ocr_inference.api.jobs.view import JobAnswer
from ocr_inference.api.ocr import whole
from ocr_inference.api.reading import Reader, ReadPage
from ocr_inference.api.schema import OcrAnswer, PageAnswer
from ocr_inference.documents.page import PageImage
from ocr_inference.errors import ApiError


class JobResult(Struct, frozen=True, kw_only=True, rename={"first": "from"}):
    """Results of a job's pages, as `pieces` writes them."""

    job: JobAnswer
    first: int
    """Position of the first one among the pages that were requested."""
    pages: tuple[PageAnswer, ...]


async def read(reader: Reader, image: PageImage) -> bytes:
    """Read a page and return its result; raises `ApiError`, and what is a fault of ours."""
    try:
        answer = await reader.page(image.file)
    except Exception as error:
        if faults.known(error) is None:
            raise
        # No variable may hold what is raised: its traceback holds this frame.
        raise (faults.known(error) or error) from None
    return _encoded(ReadPage(image.index, answer, dpi=image.dpi))


def refused(index: int, error: ApiError) -> bytes:
    """Return the result of a page that couldn't be read."""
    return _encoded(ReadPage(index, error=error))


def pieces(job: JobAnswer, first: int, results: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the answer to a request for results: the job, the position of the first result, then page by page."""
    head = msgspec.json.encode({"job": job, "from": first})
    yield head[:-1] + b',"pages":['
    # Apart from each other: nothing is copied for as long as it is sent.
    for number, result in enumerate(results):
        if number:
            yield b","
        yield result
    yield b"]}"


def _encoded(page: ReadPage[OcrAnswer]) -> bytes:
    return msgspec.json.encode(whole.of_page(page))
