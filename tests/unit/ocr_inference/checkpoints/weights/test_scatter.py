"""Which bytes of a file go where."""

import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.checkpoints.weights import header, scatter
from ocr_inference.checkpoints.weights.layout import Entry, Layout, plan

Sizes = list[tuple[str, int]]
sizes = st.lists(
    st.tuples(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 700)), unique_by=lambda each: each[0]
)


def make_header(tensors: Sizes) -> header.Header:
    items, at = {}, 0
    for name, size in tensors:
        items[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(items).encode()
    return header.parse(text, 8 + len(text) + at, "file")


def make_layout(tensors: Sizes, without: set[str] | None = None) -> Layout:
    return plan(Entry(name, "U8", (size,)) for name, size in tensors if name not in (without or set()))


def copied(chunks: Iterator[scatter.Chunk], source: bytes, total: int) -> bytearray:
    buffer = bytearray(total)
    for chunk in chunks:
        for piece in chunk.pieces:
            part = source[piece.file_offset : piece.file_offset + piece.nbytes]
            buffer[piece.buffer_offset : piece.buffer_offset + piece.nbytes] = part
    return buffer


@given(sizes, st.sets(st.text("abcdef", min_size=1, max_size=3)), st.integers(1, 900))
def test_every_wanted_byte_lands_in_its_slot_once(tensors: Sizes, without: set[str], step: int) -> None:
    head, layout = make_header(tensors), make_layout(tensors, without)
    end = max((each.end for each in head.tensors.values()), default=head.data_begin)
    source = bytes(number * 7 % 251 + 1 for number in range(end))
    chunks = list(scatter.chunks(head, layout, step))
    buffer = copied(iter(chunks), source, layout.total_bytes)
    for name, slot in layout.slots.items():
        tensor = head.tensors[name]
        assert buffer[slot.offset : slot.end] == source[tensor.begin : tensor.end]
    assert sum(chunk.nbytes for chunk in chunks) == layout.weight_bytes
    for chunk in chunks:
        assert 0 < chunk.nbytes <= step
        at = chunk.file_offset
        for piece in chunk.pieces:
            assert piece.file_offset == at
            assert (at - head.data_begin) // step == chunk.number
            at += piece.nbytes


@given(sizes, st.integers(1, 900))
def test_runs_cover_the_pieces_and_nothing_of_others(tensors: Sizes, step: int) -> None:
    head, layout = make_header(tensors), make_layout(tensors)
    covered = bytearray(layout.total_bytes)
    for chunk in scatter.chunks(head, layout, step):
        for offset, nbytes in chunk.runs():
            for at in range(offset, offset + nbytes):
                covered[at] += 1
    for slot in layout.slots.values():
        assert all(count == 1 for count in covered[slot.offset : slot.end])


def test_a_file_in_the_layouts_order_is_one_run_per_chunk() -> None:
    tensors = [("a", 300), ("b", 256), ("c", 100)]
    (chunk,) = scatter.chunks(make_header(tensors), make_layout(tensors), 1000)
    assert chunk.runs() == [(0, 868)]


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 60))
def test_a_range_is_cut_on_the_grid(offset: int, nbytes: int, step: int) -> None:
    parts = list(scatter.cut(offset, nbytes, step))
    assert [at for begin, size in parts for at in range(begin, begin + size)] == list(
        range(offset, offset + nbytes)
    )
    assert all(size > 0 and begin // step == (begin + size - 1) // step for begin, size in parts)
    assert all(begin % step == 0 for begin, _ in parts[1:])
