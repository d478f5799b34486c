"""Pictures as pages of a PDF: a JPEG as it is, all others packed anew, as small as their colours allow."""

import io
import os
import zlib
from dataclasses import dataclass
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Name, Stream
from PIL import Image, ImageChops

from ocr_inference.protocol.page import FORMATS

QUALITY: Final = 85
"""Of JPEG."""
LOSSLESS: Final = 1.25
"""How many times larger than a JPEG a picture without loss may be."""
LONGER_SIDE: Final = 842.0
"""Points of a page's longer side where its picture doesn't say how large it is: A4."""
LEAST_DPI, MOST_DPI = 50.0, 1200.0
"""Pixels an inch that are believed."""
_MOST_POINTS: Final = 14_400.0
"""Of a side of a page (PDF 32000-1, annex C)."""
_TURNED: Final = {
    1: (1, 0, 0, 1, 0, 0),
    2: (-1, 0, 0, 1, 1, 0),
    3: (-1, 0, 0, -1, 1, 1),
    4: (1, 0, 0, -1, 0, 1),
    5: (0, -1, -1, 0, 1, 1),
    6: (0, -1, 1, 0, 0, 1),
    7: (0, 1, 1, 0, 0, 0),
    8: (0, 1, -1, 0, 1, 0),
}
"""Matrix that turns the unit square as an EXIF orientation says."""
_ORIENTATION: Final = 0x0112


@dataclass(frozen=True)
class Packed:
    """Picture as a PDF holds it."""

    data: bytes
    filter: str
    width: int
    height: int
    colors: str = "/DeviceRGB"
    bits: int = 8
    orientation: int = 1
    """That of EXIF: how the page turns it."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)


def jpeg(fd: int) -> Packed | None:
    """Return a JPEG file as it is; None where the file is something else, or has colours that viewers differ in."""
    with (
        os.fdopen(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC), "rb") as file,
        Image.open(file, formats=FORMATS) as image,
    ):
        if image.format != "JPEG" or image.mode not in ("L", "RGB"):
            return None
        orientation = image.getexif().get(_ORIENTATION, 1)
        width, height = image.size
        colors = "/DeviceGray" if image.mode == "L" else "/DeviceRGB"
        file.seek(0)
        return Packed(
            file.read(),
            "/DCTDecode",
            width,
            height,
            colors,
            orientation=orientation if orientation in _TURNED else 1,
        )


def packed(fd: int) -> Packed:
    """Pack a bitmap of red, green and blue: black and white as bits; drawings without loss, photos as JPEG."""
    with (
        os.fdopen(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC), "rb") as file,
        Image.open(file, formats=("BMP",)) as image,
    ):
        width, height = image.size
        colors = image.getcolors(2)
        if colors is not None and {color for _, color in colors} <= {(0, 0, 0), (255, 255, 255)}:
            bits = image.convert("1", dither=Image.Dither.NONE).tobytes()
            return Packed(zlib.compress(bits), "/FlateDecode", width, height, "/DeviceGray", 1)
        red, green, blue = image.split()
        is_grey = not (
            ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox()
        )
        return _smaller(red if is_grey else image, "/DeviceGray" if is_grey else "/DeviceRGB")


def _smaller(image: Image.Image, colors: str) -> Packed:
    """Return a picture without loss where that is about as small as a JPEG of it, as it is of drawings."""
    written = io.BytesIO()
    image.save(written, "JPEG", quality=QUALITY)
    size, data = written.tell(), image.tobytes()
    if len(zlib.compress(data, 1)) <= 2 * size and len(exact := zlib.compress(data, 9)) <= LOSSLESS * size:
        return Packed(exact, "/FlateDecode", *image.size, colors)
    return Packed(written.getvalue(), "/DCTDecode", *image.size, colors)


def add(pdf: pikepdf.Pdf, picture: Packed, dpi: float | None) -> tuple[pikepdf.Page, tuple[float, float]]:
    """Add a page that shows a picture; returns it and its size in points."""
    columns, rows = picture.upright
    if dpi is None or not LEAST_DPI <= dpi <= MOST_DPI:
        dpi = max(columns, rows) * 72 / LONGER_SIDE
    dpi = max(dpi, max(columns, rows) * 72 / _MOST_POINTS)
    width, height = columns * 72 / dpi, rows * 72 / dpi
    stream = Stream(
        pdf,
        picture.data,
        Type=Name.XObject,
        Subtype=Name.Image,
        Width=picture.width,
        Height=picture.height,
        ColorSpace=Name(picture.colors),
        BitsPerComponent=picture.bits,
        Filter=Name(picture.filter),
    )
    page = pdf.add_blank_page(page_size=(width, height))
    page.obj.MediaBox = Array([0, 0, *(round(side, 3) for side in (width, height))])
    page.obj.Resources = Dictionary(XObject=Dictionary(Page=pdf.make_indirect(stream)))
    turned = " ".join(map(str, _TURNED[picture.orientation]))
    drawn = f"q {width:.3f} 0 0 {height:.3f} 0 0 cm {turned} cm /Page Do Q"
    page.obj.Contents = pdf.make_indirect(Stream(pdf, drawn.encode()))
    return page, (width, height)
