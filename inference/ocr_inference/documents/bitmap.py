"""Bitmaps (BMP) in files in memory: a renderer draws right into them, and a worker's decoder reads them as they are.

Packing a page as PNG takes longer than rendering it does.
"""

import contextlib
import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final

from ocr_inference.documents import messages

_PIXELS_AT: Final = 64
"""Where pixels begin; the header takes 54 bytes, and rows of whole words are what renderers ask for."""
_INCHES_A_METRE: Final = 39.3701


def row_bytes(width: int) -> int:
    """Return the length of a row of 24 bits a pixel, in whole words."""
    return (width * 3 + 3) // 4 * 4


@contextlib.contextmanager
def drawn(width: int, height: int, dpi: float) -> Iterator[tuple[int, "ctypes.Array[ctypes.c_char]"]]:
    """Create a bitmap of blue, green, red; yield its file, which the caller closes, and its rows from the top.

    Nothing may refer to the rows behind the block, which ends with a file that is sealed.
    """
    size = _PIXELS_AT + row_bytes(width) * height
    fd = messages.create_file()
    try:
        os.truncate(fd, size)
        with mmap.mmap(fd, size) as memory:
            # A negative height: rows from the top.
            metre = round(dpi * _INCHES_A_METRE)
            head = struct.pack("<2sIHHI", b"BM", size, 0, 0, _PIXELS_AT)
            memory[: len(head)] = head
            info = struct.pack(
                "<IiiHHIIiiII", 40, width, -height, 1, 24, 0, size - _PIXELS_AT, metre, metre, 0, 0
            )
            memory[len(head) : len(head) + len(info)] = info
            rows = (ctypes.c_char * (size - _PIXELS_AT)).from_buffer(memory, _PIXELS_AT)
            yield fd, rows
            del rows
        messages.seal(fd)
    except BaseException:
        os.close(fd)
        raise
