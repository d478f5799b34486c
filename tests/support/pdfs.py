"""PDFs for tests, written by hand: each page says something in a standard font, and has what a test adds to it."""

from collections.abc import Sequence
from dataclasses import dataclass

A5 = (420, 595)


@dataclass(frozen=True)
class PdfPage:
    text: str = ""
    size: tuple[float, float] = A5
    more: str = ""
    """Further entries of the page's dictionary."""
    content: str = ""
    """Further content."""


def pdf(pages: Sequence[PdfPage | None], catalog: str = "", objects: Sequence[str] = ()) -> bytes:
    """Return a PDF; None is a page that isn't there. `objects` are numbered from 100 on."""
    kids, numbered = [], {1: f"<< /Type /Catalog /Pages 2 0 R {catalog} >>"}
    for index, page in enumerate(pages):
        if page is None:
            kids.append("null")
            continue
        number = 10 + 2 * index
        kids.append(f"{number} 0 R")
        width, height = page.size
        numbered[number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {number + 1} 0 R "
            f"/Resources << /Font << /F 3 0 R >> >> {page.more} >>"
        )
        content = f"BT /F 24 Tf 40 {height - 60} Td ({page.text}) Tj ET {page.content}"
        numbered[number + 1] = f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"
    numbered[2] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {sum(p is not None for p in pages)} >>"
    numbered[3] = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    numbered |= {100 + index: content for index, content in enumerate(objects)}
    return written(numbered)


def written(numbered: dict[int, str], trailer: str = "") -> bytes:
    """Return the file that has these objects; the first one is its catalog."""
    out = bytearray(b"%PDF-1.7\n")
    places = {}
    for number, content in sorted(numbered.items()):
        places[number] = len(out)
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    xref = len(out)
    out += b"xref\n0 1\n0000000000 65535 f \n"
    for number, place in places.items():
        out += f"{number} 1\n{place:010d} 00000 n \n".encode()
    size = max(numbered) + 1
    out += f"trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{xref}\n%%EOF\n".encode()
    return bytes(out)
