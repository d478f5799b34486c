"""Documents that are almost in order: small PDFs and pictures of many frames, damaged where parsers trip.

`mutated(seed, number)` is the same bytes each time, as with `tests.support.mutations`.
"""

import base64
import io
import random
import re
import zlib
from functools import cache
from typing import Any, Final

from PIL import Image, ImageFont

from ocr_inference.documents import kinds
from tests.support import mutations
from tests.support.pdfs import PdfPage, pdf, written

FRAMES: Final = ("AVIF", "JPEG2000", "TIFF", "GIF", "WEBP", "PNG")
"""Formats of pictures with several frames, and of those that only renderers decode."""
_NUMBERS: Final = (
    b"0",
    b"-1",
    b"1",
    b"65535",
    b"65536",
    b"2147483647",
    b"-2147483648",
    b"4294967296",
    b"1e38",
    b"0.00001",
)
_WORDS: Final = re.compile(rb"/[A-Za-z0-9]+|-?[0-9.]+|<<|>>|\[|\]|\bR\b|\bobj\b|endobj|stream|endstream")


def mutated(seed: int, number: int) -> tuple[str, bytes]:
    """Return the format and the bytes of a damaged document: of three, two are PDFs."""
    rng = random.Random(f"{seed}/{number}")
    if number % 3:
        return kinds.PDF, _damaged_pdf(rng)
    name = FRAMES[number // 3 % len(FRAMES)]
    data = bytearray(rng.choice(frames(name)))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if data:
            rng.choice(mutations.DAMAGES)(rng, data)
    return name, bytes(data)


def _damaged_pdf(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(pdfs()))
    for _ in range(rng.choice((1, 1, 2, 3, 8, 20))):
        if data:
            rng.choice((_other_word, _other_word, _other_number, _other_number, *mutations.DAMAGES))(
                rng, data
            )
    # A viewer reads it as a PDF by its first bytes, and so does the fuzzing: what has others is refused at once.
    return bytes(data if b"%PDF-" in data[: kinds.HEAD_BYTES] else b"%PDF-1.7\n" + data)


def _other_word(rng: random.Random, data: bytearray) -> None:
    """Put a word of the file in another one's place."""
    words = list(_WORDS.finditer(bytes(data)))
    if words:
        there, other = rng.choice(words), rng.choice(words)
        data[there.start() : there.end()] = other[0]


def _other_number(rng: random.Random, data: bytearray) -> None:
    numbers = [word for word in _WORDS.finditer(bytes(data)) if word[0][:1] in b"-0123456789."]
    if numbers:
        there = rng.choice(numbers)
        data[there.start() : there.end()] = rng.choice(_NUMBERS)


@cache
def frames(name: str) -> tuple[bytes, ...]:
    """Return pictures before they are damaged: each a few kilobytes."""
    page = Image.merge("RGB", (Image.linear_gradient("L"),) * 3).resize((64, 48))
    page.paste(_noise(20, 20), (4, 4))
    several: dict[str, Any] = (
        {} if name == "JPEG2000" else {"save_all": True, "append_images": [page, page.rotate(90)]}
    )
    found = [_saved(page, name, **several), _saved(page.convert("L"), name)]
    if name == "TIFF":
        compressions = ("jpeg", "tiff_lzw", "packbits", "tiff_adobe_deflate")
        found += [_saved(page, name, compression=each, **several) for each in compressions]
        found += [_saved(page.convert("1"), name, compression=each) for each in ("group3", "group4")]
    if name == "JPEG2000":
        found += [_saved(page, name, no_jp2=True), _saved(page, name, irreversible=True, num_resolutions=2)]
    return tuple(found)


def _noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("L", (width, height), random.Random(width).randbytes(width * height))


def _saved(page: Image.Image, name: str, **options: Any) -> bytes:
    out = io.BytesIO()
    page.save(out, name, **options)
    return out.getvalue()


@cache
def pdfs() -> tuple[bytes, ...]:
    """Return PDFs before they are damaged: fields, annotations, layers, pictures, fonts, shadings, object streams."""
    return (
        _form(),
        _layers(),
        _pictures(),
        _fonts_and_shadings(),
        _compressed(),
        pdf([PdfPage("a"), None, PdfPage("b")]),
    )


def _form() -> bytes:
    widget = "<< /Type /Annot /Subtype /Widget /F 4 /DA (/Helv 14 Tf 0 g)"
    objects = [
        f"{widget} /FT /Tx /T (a) /V (text) /Rect [40 400 340 428] >>",
        f"{widget} /FT /Btn /T (b) /V /Yes /AS /Yes /MK << /CA (4) /BG [1 0 0] >> /Rect [40 350 68 378] >>",
        f"{widget} /FT /Ch /Ff 131072 /T (c) /V (two) /Opt [(one) (two)] /Rect [40 300 340 328] >>",
        f"{widget} /FT /Tx /Ff 4096 /MaxLen 5 /T (d) /V (lines) /Q 1 /Rect [40 250 340 278] >>",
        "<< /Type /Annot /Subtype /FreeText /F 4 /Contents (free) /DA (/Helv 14 Tf 0 g) /Rect [40 150 340 178] >>",
        (
            "<< /Type /Annot /Subtype /Highlight /F 4 /QuadPoints [40 560 120 560 40 530 120 530] /C [1 1 0] "
            "/Rect [40 530 120 560] >>"
        ),
        "<< /Type /Annot /Subtype /Ink /F 4 /InkList [[40 100 80 120 90 90]] /C [0 0 1] /Rect [40 80 120 130] >>",
    ]
    places = " ".join(f"{100 + index} 0 R" for index in range(len(objects)))
    fields = " ".join(f"{100 + index} 0 R" for index in range(4))
    catalog = f"/AcroForm << /Fields [{fields}] /DR << /Font << /Helv 3 0 R >> >> >>"
    return pdf([PdfPage("A form", more=f"/Annots [{places}] /Rotate 90")], catalog, objects)


def _layers() -> bytes:
    content = "/OC /A BDC BT /F 20 Tf 40 400 Td (a) Tj ET EMC q 0.5 0 0 0.5 9 9 cm 1 0 0 rg 0 0 90 90 re f* Q"
    catalog = (
        "/OCProperties << /OCGs [100 0 R] /D << /OFF [100 0 R] /AS [<< /Event /View /OCGs [100 0 R] >>] >> >>"
    )
    data = pdf([PdfPage("Layers", content=content)], catalog, ["<< /Type /OCG /Name (a) >>"])
    return data.replace(
        b"/Font << /F 3 0 R >> >>", b"/Font << /F 3 0 R >> /Properties << /A 100 0 R >> >>", 1
    )


def _with(resources: str, content: str, objects: list[str]) -> bytes:
    """Return a page that has these resources."""
    data = pdf([PdfPage("a", content=content, more="/CropBox [0 0 400 500]")], objects=objects)
    return data.replace(
        b"/Font << /F 3 0 R >>", f"/Font << /F 3 0 R /G 100 0 R >> {resources}".encode("latin-1"), 1
    )


def _stream(entries: str, content: bytes) -> str:
    return f"<< {entries} /Length {len(content)} >>\nstream\n{content.decode('latin-1')}\nendstream"


def _pictures() -> bytes:
    page = _noise(32, 24)
    fax = _saved(page.convert("1"), "TIFF", compression="group4")
    samples = (
        ("/Filter /DCTDecode /BitsPerComponent 8 /ColorSpace /DeviceGray", _saved(page, "JPEG")),
        ("/Filter /JPXDecode", _saved(page, "JPEG2000")),
        (
            (
                "/Filter /CCITTFaxDecode /BitsPerComponent 1 /ColorSpace /DeviceGray /DecodeParms << /K -1 /Columns 32 "
                "/Rows 24 >>"
            ),
            fax[8:],
        ),
        (
            (
                "/Filter /FlateDecode /BitsPerComponent 8 /ColorSpace [/Indexed /DeviceRGB 3 "
                "<000000FF00FF00FF00FFFFFF>] /DecodeParms << /Predictor 15 /Colors 1 /Columns 32 >> /SMask 101 0 R"
            ),
            zlib.compress(b"".join(bytes([0, *[row % 4] * 32]) for row in range(24))),
        ),
        (
            "/Filter /LZWDecode /BitsPerComponent 4 /ColorSpace /DeviceCMYK",
            b"\x80\x0b\x60\x50\x22\x0c\x0c\x85\x01",
        ),
    )
    size = "/Type /XObject /Subtype /Image /Width 32 /Height 24"
    objects = [_stream(f"{size} {entries}", data) for entries, data in samples]
    names = " ".join(f"/I{index} {100 + index} 0 R" for index in range(len(objects)))
    content = " ".join(f"q 60 0 0 40 20 {50 * index} cm /I{index} Do Q" for index in range(len(objects)))
    return _with(f"/XObject << {names} >>", content, objects)


def _fonts_and_shadings() -> bytes:
    truetype = base64.b64encode(b"").join([b""])
    font = ImageFont.load_default(12)
    if isinstance(font, ImageFont.FreeTypeFont) and hasattr(font.path, "getvalue"):
        truetype = font.path.getvalue()
    objects = [
        (
            "<< /Type /Font /Subtype /TrueType /BaseFont /A /FirstChar 65 /LastChar 67 /Widths [600 600 600] "
            "/FontDescriptor 101 0 R /ToUnicode 104 0 R >>"
        ),
        (
            "<< /Type /FontDescriptor /FontName /A /Flags 4 /FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 900 "
            "/Descent -200 /CapHeight 700 /StemV 80 /FontFile2 102 0 R >>"
        ),
        _stream("/Filter /FlateDecode", zlib.compress(truetype)),
        (
            "<< /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 200 200] /Extend [true true] /Function << "
            "/FunctionType 2 /Domain [0 1] /C0 [1 0 0] /C1 [0 0 1] /N 1 >> >>"
        ),
        _stream("", b"/CIDInit /ProcSet findresource begin 1 beginbfchar <41> <0041> endbfchar end"),
        (
            "<< /ShadingType 3 /ColorSpace /DeviceGray /Coords [99 99 0 99 99 90] /Function << /FunctionType 3 /Domain "
            "[0 1] /Bounds [0.5] /Encode [0 1 1 0] /Functions [<< /FunctionType 2 /Domain [0 1] /N 2 >> << "
            "/FunctionType 2 /Domain [0 1] /N 3 >>] >> >>"
        ),
        _stream(
            "/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 9 9] /XStep 9 /YStep 9",
            b"1 0 0 rg 0 0 4 4 re f",
        ),
        "<< /Type /ExtGState /BM /Multiply /ca 0.5 /SMask << /S /Luminosity /G 108 0 R >> >>",
        _stream(
            "/Type /XObject /Subtype /Form /BBox [0 0 99 99] /Group << /S /Transparency /CS /DeviceGray >>",
            b"0.5 g 0 0 50 50 re f",
        ),
    ]
    content = (
        "q 0 0 200 200 re W n /S sh Q q /E gs /T sh Q BT /G 20 Tf 40 300 Td (ABC) Tj ET "
        "/Pattern cs /P scn 200 200 90 90 re f 0 0 m 10 90 90 10 50 50 c [3 2] 1 d 4 w S"
    )
    resources = "/Shading << /S 103 0 R /T 105 0 R >> /Pattern << /P 106 0 R >> /ExtGState << /E 107 0 R >>"
    return _with(resources, content, objects)


def _compressed() -> bytes:
    """Return a PDF whose objects are in an object stream, and whose table is a stream, as of PDF 1.5."""
    inside = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: "<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        3: "<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman >>",
        4: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 5 0 R "
        "/Resources << /Font << /F 3 0 R >> >> >>",
    }
    places, body = [], ""
    for number, content in inside.items():
        places.append(f"{number} {len(body)}")
        body += content + "\n"
    head = " ".join(places) + "\n"
    packed = zlib.compress((head + body).encode())
    objects = {
        5: _stream("/Filter /FlateDecode", zlib.compress(b"BT /F 24 Tf 20 100 Td (packed) Tj ET")),
        6: _stream(f"/Type /ObjStm /N {len(inside)} /First {len(head)} /Filter /FlateDecode", packed),
    }
    start = written(objects)
    begin = start[: start.rindex(b"xref\n0 1")]
    at = {number: begin.index(f"{number} 0 obj".encode()) for number in objects}
    rows = [
        (0, 0, 65535),
        *((2, 6, index) for index in range(4)),
        (1, at[5], 0),
        (1, at[6], 0),
        (1, len(begin), 0),
    ]
    table = b"".join(
        kind.to_bytes(1, "big") + a.to_bytes(2, "big") + b.to_bytes(2, "big") for kind, a, b in rows
    )
    xref = _stream("/Type /XRef /Size 8 /W [1 2 2] /Root 1 0 R /Filter /FlateDecode", zlib.compress(table))
    return begin + f"7 0 obj\n{xref}\nendobj\nstartxref\n{len(begin)}\n%%EOF\n".encode("latin-1")
