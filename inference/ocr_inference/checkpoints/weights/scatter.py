"""Plans which bytes of a file go where in a flat buffer.

A chunk is a range of a file on a fixed grid, so that chunks can be read in any order by any number of threads, and a
checksum of each means the same to all readers. Its pieces are in the order of the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ocr_inference.checkpoints.weights.header import Header
from ocr_inference.checkpoints.weights.layout import Layout, aligned


@dataclass(frozen=True)
class Piece:
    """Consecutive bytes of a file for one slot."""

    file_offset: int
    buffer_offset: int
    nbytes: int
    last: bool
    """Whether it's the end of its tensor: what follows in the buffer, up to the next slot, is a gap."""


@dataclass(frozen=True)
class Chunk:
    """Pieces that follow one another in the file without a gap."""

    number: int
    """Number on the grid, from 0; chunks of one number are parts of it between bytes that aren't needed."""
    pieces: tuple[Piece, ...]

    @property
    def file_offset(self) -> int:
        return self.pieces[0].file_offset

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)

    def runs(self) -> list[tuple[int, int]]:
        """`(offset, nbytes)` of the buffer that this chunk completes, gaps in between included."""
        found: list[tuple[int, int]] = []
        next_slot = -1
        for piece in sorted(self.pieces, key=lambda each: each.buffer_offset):
            end = piece.buffer_offset + piece.nbytes
            begin = found.pop()[0] if piece.buffer_offset == next_slot else piece.buffer_offset
            found.append((begin, end - begin))
            next_slot = aligned(end) if piece.last else -1
        return found


def chunks(header: Header, layout: Layout, chunk_bytes: int) -> Iterator[Chunk]:
    """Cut the parts of a file that have a slot into chunks. The grid begins with the file's data part."""
    pieces: list[Piece] = []
    number = 0
    for piece in _pieces(header, layout, chunk_bytes):
        its_number = (piece.file_offset - header.data_begin) // chunk_bytes
        follows = pieces and pieces[-1].file_offset + pieces[-1].nbytes == piece.file_offset
        if pieces and not (follows and its_number == number):
            yield Chunk(number, tuple(pieces))
            pieces = []
        pieces.append(piece)
        number = its_number
    if pieces:
        yield Chunk(number, tuple(pieces))


def cut(offset: int, nbytes: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut a range, `(offset, nbytes)`, at multiples of `step`."""
    end = offset + nbytes
    while offset < end:
        size = min(end, offset - offset % step + step) - offset
        yield offset, size
        offset += size


def _pieces(header: Header, layout: Layout, chunk_bytes: int) -> Iterator[Piece]:
    """Yield tensors in the order of the file, cut where the grid cuts them."""
    for tensor in header.tensors.values():
        if (slot := layout.slots.get(tensor.name)) is None:
            continue
        begin = tensor.begin - header.data_begin
        for at, size in cut(begin, tensor.end - tensor.begin, chunk_bytes):
            place = slot.offset + at - begin
            yield Piece(header.data_begin + at, place, size, place + size == slot.end)
