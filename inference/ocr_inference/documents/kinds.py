"""What a file is, by its first bytes: a picture, a PDF, or something that has a name and isn't read here."""

from typing import Final

from ocr_inference.documents import headers

HEAD_BYTES: Final = 1024 + 5
"""Bytes that are looked at: a PDF may begin behind up to 1 KiB of something else, as every viewer has it."""
PDF: Final = "PDF"
CONVERTED: Final = ("AVIF", "JPEG2000")
"""Formats, as Pillow names them, that only renderers decode, since each decoder is attack surface."""

_BEGINNINGS: Final = (
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}
"""Major brands of ISO base media files (ISO/IEC 23008-12)."""
_REFUSED: Final = {
    "HEIC": "HEIC, the format of phones, for which there is no decoder under a permissive licence: export it as JPEG",
    "JPEG XL": "JPEG XL: save it as PNG or JPEG",
    "DjVu": "DjVu: save it as PDF",
    "PostScript": "PostScript: save it as PDF",
    "SVG": "SVG: save it as PNG or PDF",
    "Office": "an Office document or an archive: save it as PDF",
    "JBIG2": "JBIG2: save it as TIFF or PDF",
}
_NAMED: Final = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"AT&TFORM", "DjVu"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"<svg", "SVG"),
    (b"PK\x03\x04", "Office"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office"),
    (b"\x97JB2\r\n\x1a\n", "JBIG2"),
)


def of_head(head: bytes) -> str | None:
    """Return `PDF`, one of `CONVERTED`, or None for pictures of the usual formats and all else."""
    if (named := _container(head)) in CONVERTED:
        return named
    return PDF if b"%PDF-" in head[:HEAD_BYTES] and not head.startswith(headers.BEGINNINGS) else None


def refusal(head: bytes) -> str | None:
    """Return what to say of a file that has a name and isn't read; None where it has none."""
    named = _container(head) or next((name for begins, name in _NAMED if head.startswith(begins)), None)
    return _REFUSED.get(named or "")


def _container(head: bytes) -> str | None:
    for begins, name in _BEGINNINGS:
        if head.startswith(begins):
            return name
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), 64) - 3, 4))]
        # `mif1` is what all of them are; another brand says more.
        named = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "AVIF" if "AVIF" in named else (named[0] if named else None)
    return None
