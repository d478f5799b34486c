"""Searchable PDFs are opened again, by PDFium: every text is found in its place, whatever its script and its page."""

import io
from collections.abc import Sequence
from unicodedata import normalize

import pikepdf
import pypdfium2
import pytest
from PIL import Image

from ocr_inference.documents import own_text
from ocr_inference.documents.formats import searchable
from ocr_inference.documents.formats.font import MAX_CODES, Font, meanings
from ocr_inference.documents.formats.page import ReadPage, Size
from ocr_inference.documents.formats.searchable import Place, Source
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page import Corner, PlacedText
from ocr_inference.protocol.page_file import PageFile
from ocr_wire.errors import ErrorInfo
from tests.support import pages as pictures
from tests.support import pdfs
from tests.support.pdfs import PdfPage

TEXTS = (
    "Invoice number 4711",
    "发票号码 コーヒー豆",
    "한국어 문서",
    "فاتورة رقم 4711",
    "שלום עולם 12",
    "नमस्ते दुनिया क्षत्रिय",
    "été café 😀 𠮷",
    "ไทยน้ำ",
    "العَرَبِيَّة",
)
PICTURE = (820, 560)
RAPIDOCR = {"engine": "rapidocr"}


def placed(texts: Sequence[str] = TEXTS, left: int = 50) -> tuple[PlacedText, ...]:
    def corners(top: int) -> tuple[Corner, Corner, Corner, Corner]:
        return (left, top), (left + 300, top), (left + 300, top + 20), (left, top + 20)

    return tuple(PlacedText(text, corners(50 + 30 * number)) for number, text in enumerate(texts))


def read(size: tuple[int, int] = PICTURE, index: int = 0, **fields: object) -> ReadPage:
    given = {"lines": placed(), "metadata": RAPIDOCR, **fields}
    return ReadPage(index=index, image_dims=Size(*size), **given)  # type: ignore[arg-type]


def written(
    pages: Sequence[ReadPage], *documents: bytes, order: Sequence[Place] | None = None, title: str = ""
) -> bytes:
    out = io.BytesIO()
    files = [PageFile.of(each) for each in documents]
    sources = [
        Source(file.fileno(), data.startswith(b"%PDF")) for file, data in zip(files, documents, strict=True)
    ]
    places = [(0, page.index) for page in pages] if order is None else order
    searchable.write(pages, places, sources, out, max_pixels=10_000_000, title=title)
    return out.getvalue()


def found(page: pypdfium2.PdfPage, text: PlacedText, size: tuple[int, int]) -> str:
    """Return what the page has at the place of a text, by PDFium's own map from its picture to its points."""
    to_points = own_text.to_points(page, *size)
    corners = [to_points(corner) for corner in text.corners]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return str(page.get_textpage().get_text_bounded(min(xs), min(ys), max(xs), max(ys)))


def assert_found(data: bytes, size: tuple[int, int] = PICTURE, index: int = 0) -> None:
    page = pypdfium2.PdfDocument(data)[index]
    for text in placed():
        assert normalize("NFC", found(page, text, size)) == normalize("NFC", text.text)


def whole_text(data: bytes, index: int = 0) -> str:
    return str(pypdfium2.PdfDocument(data)[index].get_textpage().get_text_range())


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF"])
def test_every_script_is_found_in_its_place_over_a_picture(image_format: str) -> None:
    picture = pictures.invoice(image_format)
    data = written([read()], picture)
    assert_found(data)
    shown = pypdfium2.PdfDocument(data)[0].render(scale=1).to_pil().convert("L")
    assert shown.histogram()[0] > 100  # its ink; what is invisible adds none
    without = pypdfium2.PdfDocument(written([read(lines=(), text="")], picture))[0]
    assert without.render(scale=1).to_pil().convert("L").tobytes() == shown.tobytes()
    assert len(data) < len(picture) + 12_000


def test_drawings_are_packed_without_loss_and_photos_as_jpeg() -> None:
    def kinds(picture: bytes) -> list[object]:
        with pikepdf.open(io.BytesIO(written([read(lines=(), text="")], picture))) as pdf:
            image = pdf.pages[0].Resources.XObject.Page
            return [image.Filter, image.ColorSpace, image.BitsPerComponent]

    invoice = Image.open(io.BytesIO(pictures.invoice()))
    drawing = pictures.encoded(invoice.convert("1"), "PNG")
    assert kinds(drawing) == ["/FlateDecode", "/DeviceGray", 1]
    assert kinds(pictures.invoice()) == ["/FlateDecode", "/DeviceGray", 8]
    assert kinds(pictures.noise(300, 200)) == ["/DCTDecode", "/DeviceRGB", 8]


PAGES = [
    "",
    "/Rotate 90",
    "/Rotate 180",
    "/Rotate 270 /CropBox [20 30 400 500]",
    "/UserUnit 2 /CropBox [-50 30 400 900]",
    "/MediaBox [100 100 520 695]",
]


@pytest.mark.parametrize("more", PAGES)
def test_pages_of_a_pdf_stay_and_have_the_layer_where_its_texts_are(more: str) -> None:
    source = pdfs.pdf([PdfPage("", more=more, content="0 0 m 9 9 l S 3 0 0 3 70 70 cm q q")])
    page = pypdfium2.PdfDocument(source)[0]
    size = (int(page.get_width() * 2), int(page.get_height() * 2))
    data = written([read(size)], source)
    assert_found(data, size)
    assert page.render().to_pil().tobytes() == pypdfium2.PdfDocument(data)[0].render().to_pil().tobytes()


def test_text_that_a_page_has_already_gets_no_second_one() -> None:
    source = pdfs.pdf([PdfPage("Own words", size=(420, 600))])
    own = PlacedText("Own words", ((40, 35), (160, 35), (160, 65), (40, 65)))
    other = PlacedText("on a stamp", ((40, 335), (160, 335), (160, 365), (40, 365)))
    data = written([read((420, 600), lines=(own, other))], source)
    assert whole_text(data).split() == ["on", "a", "stamp", "Own", "words"]
    assert whole_text(written([read((420, 600), lines=(), text="Own words")], source)) == "Own words"


def test_a_turned_photo_is_shown_and_found_upright() -> None:
    photo = io.BytesIO()
    image = Image.new("RGB", (PICTURE[1], PICTURE[0]), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(photo, "JPEG", exif=exif)
    data = written([read()], photo.getvalue())
    page = pypdfium2.PdfDocument(data)[0]
    assert page.get_width() > page.get_height()
    assert_found(data)


def test_askew_text_is_found_between_its_corners() -> None:
    askew = PlacedText("Askew", ((100, 100), (300, 180), (292, 200), (92, 120)))
    assert (
        found(
            pypdfium2.PdfDocument(written([read(lines=(askew,))], pictures.blank(*PICTURE)))[0],
            askew,
            PICTURE,
        )
        == "Askew"
    )


def test_text_without_places_is_found_on_its_page_without_marks() -> None:
    page = read(lines=(), text="# Title\n\n**bold** words\n\n| a | b |\n|---|---|\n| 1 | 2 |", metadata={})
    assert whole_text(written([page], pictures.invoice())).split() == [
        "Title",
        "bold",
        "words",
        "a",
        "b",
        "1",
        "2",
    ]


def test_pages_of_several_documents_in_any_order() -> None:
    first = pdfs.pdf([PdfPage("one"), PdfPage("two"), PdfPage("three")])
    none = [read(lines=(), text="", index=index) for index in (2, 0, 0, 2)]
    data = written(none, first, pictures.invoice(), order=[(0, 2), (1, 0), (0, 0), (0, 2)], title="Mixed")
    assert [whole_text(data, index) for index in range(4)] == ["three", "", "one", "three"]
    assert pypdfium2.PdfDocument(data).get_metadata_value("Title") == "Mixed"


def test_a_part_of_a_document_keeps_what_belongs_to_the_whole() -> None:
    source = pdfs.pdf(
        [PdfPage("one"), PdfPage("two"), PdfPage("three")],
        catalog="/Outlines 100 0 R",
        objects=[
            "<< /Type /Outlines /First 101 0 R /Last 101 0 R /Count 1 >>",
            "<< /Title (Chapter) /Parent 100 0 R /Dest [14 0 R /Fit] >>",
        ],
    )
    data = written([read(lines=(), text="", index=index) for index in (0, 2)], source)
    document = pypdfium2.PdfDocument(data)
    assert [whole_text(data, index) for index in range(len(document))] == ["one", "three"]
    assert [each.get_title() for each in document.get_toc()] == ["Chapter"]


def test_the_same_pages_give_the_same_bytes() -> None:
    for document in (pictures.invoice(), pdfs.pdf([PdfPage("x")])):
        assert written([read()], document) == written([read()], document)


def test_a_page_that_couldnt_be_read_is_shown_without_a_layer() -> None:
    fault = ReadPage(index=0, error=ErrorInfo(message="it hangs"))
    assert whole_text(written([fault], pdfs.pdf([PdfPage("own")]))) == "own"
    with pytest.raises(ApiError, match="page 2"):
        written([ReadPage(index=1, error=ErrorInfo(message="x"))], pictures.invoice(), order=[(0, 1)])


def test_an_encrypted_document_that_opens_without_a_password_is_written_without_encryption() -> None:
    locked = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdfs.pdf([PdfPage("own")]))) as pdf:
        pdf.save(locked, encryption=pikepdf.Encryption(owner="secret", user=""))
    data = written([read((420, 595))], locked.getvalue())
    assert "own" in whole_text(data)
    assert not pikepdf.open(io.BytesIO(data)).is_encrypted


def test_a_page_that_only_pdfium_finds_is_drawn() -> None:
    """qpdf counts pages as their tree says, PDFium those that can be loaded."""
    source = pdfs.pdf([PdfPage("one"), PdfPage("two")]).replace(b"/Count 2", b"/Count 1")
    data = written([read((420, 595), index=index) for index in (0, 1)], source)
    assert len(pypdfium2.PdfDocument(data)) == 2
    assert "4711" in whole_text(data, 1)


@pytest.mark.parametrize("resources", ["5", "[1 2]", "<</Font 7>>", "<</Font [1 2]>>"])
def test_a_page_whose_resources_are_none_gets_its_layer(resources: str) -> None:
    odd = io.BytesIO()
    with pikepdf.open(io.BytesIO(pictures.pdf(1))) as pdf:
        pdf.pages[0].obj[pikepdf.Name.Resources] = pikepdf.Object.parse(resources.encode())
        pdf.save(odd)
    with pypdfium2.PdfDocument(written([read((400, 400))], odd.getvalue())) as document:
        text = placed()[0]
        assert found(document[0], text, (400, 400)) == text.text


def test_hostile_texts_are_harmless() -> None:
    hostile = ("\x00\x1b[31m\u202e", "<script>" * 1000, "> Tj ET Q\nendstream", "\ud800x", " ")
    data = written([read(lines=placed(hostile))], pictures.invoice())
    assert "endstream" in whole_text(data)
    flat = PlacedText("flat", ((5, 5), (5, 5), (5, 5), (5, 5)))
    assert whole_text(written([read(lines=(flat,))], pictures.invoice())) == ""


def test_more_characters_than_a_font_holds_get_another_one() -> None:
    font = Font(pikepdf.new())
    many = "".join(map(chr, [*range(0x100, 0xD800), *range(0xE000, 0xFFFE), *range(0x1F300, 0x1F300 + 5000)]))
    pieces = font.pieces(many)
    assert len(pieces) == len(font.resources) == 2
    assert len(pieces[0].codes) == 2 * MAX_CODES
    assert font.pieces(many[0])[0].codes == b"\x00\x01"
    assert b"<0001> <d83ddc4d>" in meanings(["👍"])
