"""PDFs become pictures in a process of their own, and hostile ones become errors."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from ocr_inference.documents import pdf
from ocr_inference.errors import ApiError
from tests.support import pages


async def rendered(path: Path, most: int = 10, pixels: int = 10_000_000) -> list[pdf.Page]:
    found: AsyncIterator[pdf.Page] = pdf.pages(str(path), most, pixels)
    return [page async for page in found]


async def test_pages_come_in_order_at_144_dpi(tmp_path: Path) -> None:
    document = tmp_path / "d.pdf"
    document.write_bytes(pages.pdf(3))
    found = await rendered(document)
    assert [(page.index, page.count) for page in found] == [(0, 3), (1, 3), (2, 3)]
    with Image.open(io.BytesIO(found[0].image)) as image:
        assert image.size == (820, 560)


@pytest.mark.parametrize(
    ("content", "most", "pixels", "status", "code"),
    [
        (pages.pdf(3), 2, 10_000_000, 413, "too_many_pages"),
        (pages.pdf(1), 2, 1000, 413, "image_too_large"),
        (b"%PDF-1.7\nnot really", 2, 10_000_000, 422, "invalid_pdf"),
        (pages.pdf(1)[:3000], 2, 10_000_000, 422, "invalid_pdf"),
        (None, 2, 10_000_000, 404, "file_not_found"),
    ],
    ids=["pages", "pixels", "broken", "truncated", "missing"],
)
async def test_what_is_refused(
    tmp_path: Path, content: bytes | None, most: int, pixels: int, status: int, code: str
) -> None:
    document = tmp_path / "d.pdf"
    if content is not None:
        document.write_bytes(content)
    with pytest.raises(ApiError) as caught:
        await rendered(document, most, pixels)
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_leaving_early_ends_the_renderer(tmp_path: Path) -> None:
    document = tmp_path / "d.pdf"
    document.write_bytes(pages.pdf(8))
    found = pdf.pages(str(document), 10, 10_000_000)
    assert (await anext(found)).index == 0
    await found.aclose()
