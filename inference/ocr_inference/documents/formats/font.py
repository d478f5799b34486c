"""Font of invisible text: one shape without an outline for all characters, and what each of them means.

A character gets a code when it first comes, so any script and any number of characters is possible; what a viewer
copies is what the font's table of meanings (ToUnicode) says. The font's file is 644 bytes, made with fontTools: glyphs
`.notdef` and one more, both empty, 1000 units an em, ascent 800, descent 200. A file must be there: viewers without one
would look for a font of the system, and may fail to.
"""

import base64
import zlib
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Name, Stream

from ocr_inference.documents.formats import characters

DESCENT: Final = 0.2
"""Of a line's height, below its baseline."""
MAX_CODES: Final = 60_000
"""Of one font; further characters get another one."""
_NAME: Final = "Invisible"
_SECTION: Final = 100
"""Most entries of a section of a table of meanings (PDF 32000-1, 9.10.3)."""
_FILE: Final = zlib.decompress(
    base64.b85decode(
        "c-n<h%}N4M7(I8cKbcY~_Ol$MMVp8sqD2rPE!-5?1K6me4$P=%ify80%N`+U(WXTY(ZWS95d`@FwhEfgow-OU)Hi&WbI!fr_nkXj2mtfAhJ<-"
        "~wzYGN{1YHHsGe6mtBn-8<hSIzb@#HC*<AZ1e<5FK*jBZ)n%^gWWbQR6$ehd(zcJSv-o-$Si6Cyc#N1ZJLNegbihI_ejR>OTbL3{z^6dM&ha+-"
        "Tf7NbvFX)S5RMkF|SLS;yzFk^8_<)on%!E%r(j<^Dv?P?Gbmb;+B&Lc)pct$PcZ`{~QjGZ*qV)TJ{OW$l2;7^Y2YMS$oj0{BOlGTFXSJIwXR7-"
        "|_$hAsez^LtKPDx^xq1S7ET_{$Ir>TkyD^;TvjT~ULj!R#p-&`&xgw&J43;!Duz;M#F{KxpeW&Y`UAt)4d#=?%0ZsJb@SQj)!-"
        "b6^vyL9Ig^s?>AMp*1rALw"
    )
)


@dataclass(frozen=True)
class Piece:
    """Part of a line in one font."""

    font: str
    """Name among the page's resources."""
    codes: bytes
    advance: float
    """In ems."""


class Font:
    """Font of one PDF, which grows with the characters that are written. `finish` puts it into the file."""

    def __init__(self, pdf: pikepdf.Pdf) -> None:
        self._pdf = pdf
        self._codes: dict[str, int] = {}
        self._parts: list[Dictionary] = []

    def pieces(self, line: str) -> list[Piece]:
        """Return a line's codes."""
        codes = [self._codes.setdefault(character, len(self._codes)) for character in line]
        while len(self._codes) > MAX_CODES * len(self._parts):
            self._parts.append(self._pdf.make_indirect(Dictionary(Type=Name.Font)))
        return [
            _piece(part, list(run))
            for part, run in groupby(zip(codes, line, strict=True), lambda each: each[0] // MAX_CODES)
        ]

    @property
    def resources(self) -> dict[str, Dictionary]:
        """Fonts by their names, as pages have them."""
        return {_name(part): font for part, font in enumerate(self._parts)}

    def finish(self) -> None:
        """Write what the characters mean."""
        known = iter(self._codes)
        for font in self._parts:
            self._write(font, list(islice(known, MAX_CODES)))

    def _write(self, font: Dictionary, known: list[str]) -> None:
        pdf = self._pdf
        descriptor = Dictionary(
            Type=Name.FontDescriptor,
            FontName=Name(f"/{_NAME}"),
            Flags=4,
            FontBBox=Array([0, -200, 1000, 800]),
            ItalicAngle=0,
            Ascent=800,
            Descent=-200,
            CapHeight=800,
            StemV=80,
            FontFile2=pdf.make_indirect(Stream(pdf, _FILE, Length1=len(_FILE))),
        )
        descendant = Dictionary(
            Type=Name.Font,
            Subtype=Name.CIDFontType2,
            BaseFont=Name(f"/{_NAME}"),
            CIDSystemInfo=Dictionary(Registry=b"Adobe", Ordering=b"Identity", Supplement=0),
            FontDescriptor=pdf.make_indirect(descriptor),
            DW=500,
            W=Array([1, Array([round(characters.advance(each) * 1000) for each in known])]),
            # All of them have the same shape.
            CIDToGIDMap=pdf.make_indirect(Stream(pdf, b"\x00\x01" * (len(known) + 1))),
        )
        font.Subtype = Name.Type0
        font.BaseFont = Name(f"/{_NAME}")
        font.Encoding = Name("/Identity-H")
        font.DescendantFonts = Array([pdf.make_indirect(descendant)])
        font.ToUnicode = pdf.make_indirect(Stream(pdf, meanings(known)))


def meanings(known: list[str]) -> bytes:
    """Return the table that says what each code, from 1, means."""
    entries = [f"<{code:04x}> <{each.encode('utf-16-be').hex()}>" for code, each in enumerate(known, 1)]
    sections = [entries[at : at + _SECTION] for at in range(0, len(entries), _SECTION)]
    lines = (
        "/CIDInit /ProcSet findresource begin",
        "12 dict begin",
        "begincmap",
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
        "/CMapName /Adobe-Identity-UCS def",
        "/CMapType 2 def",
        "1 begincodespacerange <0000> <ffff> endcodespacerange",
        *(f"{len(each)} beginbfchar\n{chr(10).join(each)}\nendbfchar" for each in sections),
        "endcmap",
        "CMapName currentdict /CMap defineresource pop",
        "end",
        "end",
    )
    return "\n".join(lines).encode()


def _piece(part: int, run: list[tuple[int, str]]) -> Piece:
    codes = b"".join((code % MAX_CODES + 1).to_bytes(2) for code, _ in run)
    return Piece(_name(part), codes, sum(characters.advance(each) for _, each in run))


def _name(part: int) -> str:
    """Return a name that no page has by itself."""
    return f"OcrInvisible{part}"
