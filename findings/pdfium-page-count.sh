#!/usr/bin/env bash
# Guess: `len(pypdfium2.PdfDocument(…))` is how many pages a PDF has, and each of them can be loaded by its number.
# What happens (pypdfium2 5.15.2, PDFium 159.0.8149.0): PDFium believes the number `Count` of the page tree's root where
#   it is positive. A PDF whose Kids are three pages and whose Count is 1 has one page, without a word. Of Kids with a
#   `null` among them, which programs leave behind that remove pages, the null takes a page's number but isn't in the
#   Count, so the last page can't be reached: "Failed to load page." With a Count of 0 the Kids are counted.
# Why it matters here: pages at the end of a document are lost. `ocr_inference.documents.page_tree` compares a tree's Count
#   with its Kids, and raises it in the memory that PDFium reads; of trees in object streams it can't.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pypdfium2==5.15.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pypdfium2


def pdf(kids, count):
    """Return a PDF with these kids (None: null), whose root says `count`."""
    numbers = [None if kid is None else 3 + index for index, kid in enumerate(kids)]
    places = " ".join("null" if number is None else f"{number} 0 R" for number in numbers)
    objects = {1: "<< /Type /Catalog /Pages 2 0 R >>", 2: f"<< /Type /Pages /Kids [{places}] /Count {count} >>"}
    for number, width in zip(numbers, kids):
        if number is not None:
            objects[number] = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} 100] >>"
    out, at = b"%PDF-1.7\n", {}
    for number, content in sorted(objects.items()):
        at[number] = len(out)
        out += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{number} 1\n{place:010d} 00000 n \n" for number, place in at.items())
    end = f"trailer\n<< /Size {max(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + f"xref\n0 1\n0000000000 65535 f \n{table}{end}".encode()


def pages(data):
    """Return the width of each page that can be reached."""
    found = []
    document = pypdfium2.PdfDocument(data)
    for index in range(len(document)):
        try:
            found.append(round(document[index].get_width()))
        except pypdfium2.PdfiumError as error:
            found.append(str(error))
    return found


print("pypdfium2", pypdfium2.PYPDFIUM_INFO, "PDFium", pypdfium2.PDFIUM_INFO)
changed = []
for kids, count, expected in (
    ((101, 102, 103), 3, [101, 102, 103]),
    ((101, 102, 103), 1, [101]),
    ((101, 102, 103), 0, [101, 102, 103]),
    ((101, None, 103), 2, [101, "Failed to load page."]),
):
    found = pages(pdf(kids, count))
    print(f"Kids {kids}, Count {count}: pages {found}")
    if found != expected:
        changed.append(count)
raise SystemExit(f"changed: {changed}" if changed else 0)
PYTHON
