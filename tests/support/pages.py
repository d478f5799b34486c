"""Pictures and PDFs for tests: a crisp invoice, and files that no decoder should be trusted with."""

import io
import struct
import zlib
from random import Random

from PIL import Image, ImageDraw, ImageFont

INVOICE = (
    (60, 60, 44, "Blue Harbour Ltd"),
    (60, 150, 28, "Invoice number 4711"),
    (60, 200, 28, "Date 23 November 2026"),
    (60, 300, 28, "Coffee beans"),
    (600, 300, 28, "120.50"),
    (60, 350, 28, "Paper cups"),
    (600, 350, 28, "14.25"),
    (60, 450, 28, "Total amount"),
    (600, 450, 28, "134.75"),
)
"""(x, y, size, text) of each line; the font is Pillow's own, so every machine draws the same page."""


def invoice(image_format: str = "PNG") -> bytes:
    page = Image.new("RGB", (820, 560), "white")
    draw = ImageDraw.Draw(page)
    for x, y, size, text in INVOICE:
        draw.text((x, y), text, fill="black", font=ImageFont.load_default(size))
    return encoded(page, image_format)


def blank(width: int = 64, height: int = 48, shade: int = 255) -> bytes:
    """The cheapest picture that is one; the shade tells one from another."""
    return encoded(Image.new("L", (width, height), shade), "PNG")


def noise(width: int, height: int) -> bytes:
    """A picture that can't be compressed: three bytes a pixel."""
    return encoded(Image.frombytes("RGB", (width, height), Random(1).randbytes(3 * width * height)), "PNG")


def encoded(image: Image.Image, image_format: str) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format)
    return out.getvalue()


def truncated() -> bytes:
    """A header in order, and half of the pixels."""
    whole = invoice()
    return whole[: len(whole) // 2]


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A valid PNG of one bit a pixel that a few hundred kilobytes hold, and gigabytes when decoded."""
    rows, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    data = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pdf(pages: int = 2) -> bytes:
    """A PDF of pictures: each page is the invoice."""
    first, *rest = [Image.open(io.BytesIO(invoice())) for _ in range(pages)]
    out = io.BytesIO()
    first.save(out, "PDF", save_all=True, append_images=rest, resolution=144)
    return out.getvalue()


def tiff(pages: int = 2) -> bytes:
    """A TIFF whose pages are blank, each of another shade."""
    first, *rest = [Image.new("L", (64, 48), 255 - page) for page in range(pages)]
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=rest)
    return out.getvalue()
