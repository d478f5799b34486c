import pytest
from PIL import Image

from ocr_inference.documents import kinds
from ocr_inference.protocol.page import FORMATS
from tests.support import pages, pdfs


@pytest.mark.parametrize("before", [b"", b"\n", b"\xef\xbb\xbf", b"HTTP/1.1 200 OK\r\n\r\n", bytes(1024)])
def test_a_pdf_may_begin_behind_a_kilobyte_of_something_else(before: bytes) -> None:
    assert kinds.of_head((before + pdfs.pdf([pdfs.PdfPage()]))[: kinds.HEAD_BYTES]) == kinds.PDF


def test_more_than_that_is_no_pdf() -> None:
    assert kinds.of_head((bytes(1025) + pdfs.pdf([pdfs.PdfPage()]))[: kinds.HEAD_BYTES]) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_with_a_pdf_in_its_head_is_a_picture(name: str) -> None:
    picture = pages.encoded(Image.new("RGB", (9, 9)), name)
    assert kinds.of_head(picture[:30] + b"%PDF-1.7" + picture[30:]) is None


@pytest.mark.parametrize("name", kinds.CONVERTED)
def test_what_only_renderers_decode_is_told_apart(name: str) -> None:
    assert kinds.of_head(pages.encoded(Image.new("RGB", (64, 64)), name)[: kinds.HEAD_BYTES]) == name


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "export it as JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "export it as JPEG"),
        (b"\xff\x0a\xfa\x3f", "JPEG XL"),
        (b"%!PS-Adobe-3.0", "save it as PDF"),
        (b"AT&TFORM\0\0\0\0DJVM", "save it as PDF"),
        (b"PK\x03\x04....word/", "save it as PDF"),
        (b"<svg xmlns=", "SVG"),
    ],
)
def test_what_has_a_name_is_refused_by_it(head: bytes, says: str) -> None:
    assert says in (kinds.refusal(head) or "")
    assert kinds.of_head(head) is None


def test_what_has_no_name_is_refused_without() -> None:
    assert kinds.refusal(b"hello") is None
