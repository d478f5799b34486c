#!/usr/bin/env bash
# Guess: Pillow opens a TIFF of any depth with dark ink dark, since the tag PhotometricInterpretation says whether zero
#   is white (0) or black (1).
# What happens (Pillow 13.0.0): with 1 and 8 bits a sample it inverts pictures whose zero is white. With 16 bits, and with
#   floating point, it opens them and leaves the samples as they are, in modes I;16 and F, and nothing but `tag_v2[262]`
#   says so: ink and paper have changed places. (In the other byte order such a picture isn't identified.)
# Why it matters here: scanners of medicine and science write 16 bits with zero as white; a page comes out as white text
#   on black, and with transparency or thresholds nothing is left of it. `ocr_inference.documents.pixels` sets it right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import PIL
from PIL import Image


def tiff(bits, code, white_is_zero, samples, sample_format):
    """Return a picture of one row: two samples, zero and the largest."""
    pixels = struct.pack("<2" + code, *samples)
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 0, 277: 1, 278: 1, 279: len(pixels)}
    tags[339] = sample_format
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


print("Pillow", PIL.__version__)
changed = []
for bits, code, samples, sample_format, inverts in (
    (8, "B", (0, 255), 1, True),
    (16, "H", (0, 65535), 1, False),
    (32, "f", (0.0, 1.0), 3, False),
):
    found = {}
    for white_is_zero in (True, False):
        with Image.open(io.BytesIO(tiff(bits, code, white_is_zero, samples, sample_format))) as image:
            found[white_is_zero] = (image.getpixel((0, 0)), image.getpixel((1, 0)))
            mode = image.mode
    print(f"{bits:2} bits, mode {mode:5}: zero is white {found[True]}, zero is black {found[False]}")
    if (found[True] != found[False]) != inverts:
        changed.append(bits)
raise SystemExit(f"changed: {changed}" if changed else 0)
PYTHON
