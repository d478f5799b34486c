"""A PDF's pages are what a viewer shows, and all of them."""

from contextlib import aclosing

import pytest
from PIL import Image

from ocr_inference.documents import document
from ocr_inference.documents.page import Limits, PageFault, PageImage
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from tests.support.pdfs import A5, PdfPage, pdf, written

LIMITS = Limits(max_pages=20, max_pixels=10_000_000)
WIDGET = "<< /Type /Annot /Subtype /Widget /F 4 /DA (/Helv 14 Tf 0 g)"
TEXT = "/Resources << /Font << /F 3 0 R >> >> /Length {length} >>\nstream\n{content}\nendstream"


async def read(data: bytes) -> list[Image.Image | str]:
    """Return the pages at 72 dpi, a pixel for a point, in grey; of those that can't be read the message."""
    found: list[Image.Image | str] = []
    with PageFile.of(data) as file:
        async with document.opened(file, LIMITS) as opened, aclosing(opened.pages(dpi=72)) as pages:
            async for page in pages:
                if isinstance(page, PageFault):
                    found.append(page.error.message)
                    continue
                assert isinstance(page, PageImage)
                with page.file as picture, picture.open() as bytes_of_it, Image.open(bytes_of_it) as image:
                    found.append(image.convert("L"))
    return found


def says(page: Image.Image | str, left: float, bottom: float, width: float = 300, height: float = 28) -> bool:
    """Whether there is ink in that place, in points from the lower left."""
    assert isinstance(page, Image.Image)
    top = page.height - bottom - height
    low, _ = page.crop((round(left), round(top), round(left + width), round(top + height))).getextrema()
    assert isinstance(low, (int, float))
    return low < 100


def drawn(text: str) -> str:
    content = f"BT /F 14 Tf 4 8 Td ({text}) Tj ET"
    return "<< /Type /XObject /Subtype /Form /BBox [0 0 300 28] " + TEXT.format(
        length=len(content), content=content
    )


async def test_fields_and_annotations_are_shown_with_and_without_an_appearance() -> None:
    """One page of each kind, at heights by which they are told apart."""
    objects = [
        f"{WIDGET} /FT /Tx /T (a) /V (no appearance) /Rect [40 400 340 428] >>",
        f"{WIDGET} /FT /Btn /T (b) /V /Yes /AS /Yes /MK << /CA (4) >> /Rect [40 350 68 378] >>",
        f"{WIDGET} /FT /Ch /Ff 131072 /T (c) /V (two) /Opt [(one) (two)] /Rect [40 300 340 328] >>",
        f"{WIDGET} /FT /Tx /T (d) /V (appearance) /AP << /N 107 0 R >> /Rect [40 250 340 278] >>",
        "<< /Type /Annot /Subtype /Stamp /F 4 /AP << /N 107 0 R >> /Rect [40 200 340 228] >>",
        "<< /Type /Annot /Subtype /FreeText /F 4 /Contents (free) /DA (/Helv 14 Tf 0 g) /Rect [40 150 340 178] >>",
        "<< /Type /Annot /Subtype /Stamp /F 2 /AP << /N 107 0 R >> /Rect [40 100 340 128] >>",
        drawn("appearance"),
    ]
    places = " ".join(f"{100 + index} 0 R" for index in range(7))
    form = "/AcroForm << /Fields [100 0 R 101 0 R 102 0 R 103 0 R] /DR << /Font << /Helv 3 0 R >> >> >>"
    (page,) = await read(pdf([PdfPage("A form", more=f"/Annots [{places}]")], form, objects))
    assert {bottom for bottom in range(100, 450, 50) if says(page, 42, bottom + 2, 200, 24)} == {
        *(400, 350, 300, 250, 200, 150),
        # Not 100, which is hidden.
    }


async def test_hidden_layers_arent_shown() -> None:
    layers = [
        "<< /Type /OCG /Name (shown) >>",
        "<< /Type /OCG /Name (hidden) >>",
        "<< /Type /OCG /Name (printed) /Usage << /View << /ViewState /OFF >> /Print << /PrintState /ON >> >> >>",
    ]
    content = " ".join(
        f"/OC /{name} BDC BT /F 20 Tf 40 {bottom} Td (layer) Tj ET EMC"
        for name, bottom in (("A", 400), ("B", 300), ("C", 200))
    )
    catalog = (
        "/OCProperties << /OCGs [100 0 R 101 0 R 102 0 R] /D << /OFF [101 0 R] "
        "/AS [<< /Event /View /Category [/View] /OCGs [102 0 R] >>] >> >>"
    )
    more = "/Properties << /A 100 0 R /B 101 0 R /C 102 0 R >>"
    data = pdf([PdfPage("Layers", content=content)], catalog, layers)
    (page,) = await read(
        data.replace(b"/Font << /F 3 0 R >> >>", f"/Font << /F 3 0 R >> {more} >>".encode(), 1)
    )
    assert [bottom for bottom in (400, 300, 200) if says(page, 40, bottom - 4)] == [400]


async def test_pages_are_turned_and_cut_as_the_pdf_says() -> None:
    width, height = A5
    turned, cut, outside, whole = await read(
        pdf(
            [
                PdfPage("Turned", more="/Rotate 90"),
                PdfPage("Cut", more="/CropBox [0 500 200 595]"),
                PdfPage("Cut", more="/CropBox [-100 500 900 1000]"),
                PdfPage("Whole"),
            ]
        )
    )
    sizes = [page.size for page in (turned, cut, outside, whole) if isinstance(page, Image.Image)]
    assert sizes == [(height, width), (200, 95), (width, 95), (width, height)]
    assert says(turned, height - 60 - 24, width - 40 - 90, 40, 90)
    assert says(cut, 40, 30)
    assert says(whole, 40, height - 64)


async def test_a_page_that_isnt_there_is_told_in_its_place() -> None:
    first, second, third = await read(b"\xef\xbb\xbf\n" + pdf([PdfPage("One"), None, PdfPage("Three")]))
    assert says(first, 40, A5[1] - 64)
    assert second == "page 2 can't be loaded: it is damaged"
    assert says(third, 40, A5[1] - 64)


async def test_pages_that_a_pdf_doesnt_count_are_read() -> None:
    data = pdf([PdfPage(str(number)) for number in range(1, 4)])
    assert len(await read(data.replace(b"/Count 3", b"/Count 1"))) == 3
    assert len(await read(data.replace(b"/Count 3", b"/Count 0"))) == 3


@pytest.mark.parametrize(
    ("encryption", "says_so"),
    [
        (f"/Filter /Standard /V 1 /R 2 /O <{'00' * 32}> /U <{'00' * 32}> /P -4", "asks for a password"),
        ("/Filter /Company /V 9", "encrypted in a way that isn't known"),
    ],
)
async def test_encrypted_ones_are_refused_with_the_reason(encryption: str, says_so: str) -> None:
    objects = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: "<< /Type /Pages /Kids [] /Count 0 >>",
        4: f"<< {encryption} >>",
    }
    with pytest.raises(ApiError, match=says_so) as caught:
        await read(written(objects, "/Encrypt 4 0 R /ID [<00> <00>]"))
    assert (caught.value.status, caught.value.code) == (422, "encrypted_pdf")
