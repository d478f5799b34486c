from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.documents import page_tree
from ocr_inference.documents.page_tree import Node
from ocr_inference.protocol.page_file import PageFile
from tests.support.pdfs import PdfPage, pdf


def nodes(data: bytes) -> list[Node]:
    with PageFile.of(data) as file:
        return list(page_tree.nodes(file.fileno()))


def test_an_honest_tree_hides_nothing() -> None:
    data = pdf([PdfPage("a"), PdfPage("b")])
    (node,) = nodes(data)
    assert (node.count, node.kids, data[node.at : node.at + node.digits]) == (2, 2, b"2")
    assert page_tree.hidden([node], 2) == 0


def test_kids_that_arent_counted_are_hidden() -> None:
    assert page_tree.hidden(nodes(pdf([PdfPage("a"), None, PdfPage("b"), None])), 2) == 2
    assert (
        page_tree.hidden(nodes(pdf([PdfPage("a"), PdfPage("b")]).replace(b"/Count 2", b"/Count 1")), 1) == 1
    )


def test_a_number_is_raised_within_its_digits() -> None:
    data = pdf([PdfPage("a"), None])
    place = data.index(b"/Count") + 7
    assert page_tree.raised(nodes(data), 1, 2) == [(place, b"2")]
    assert page_tree.raised(nodes(data), 1, 12) == [(place, b"9")]
    assert page_tree.raised(nodes(data), 5, 6) == []


def test_what_isnt_a_tree_stays() -> None:
    outline = b"9 0 obj\n<< /Type /Outlines /Count 1 >>\nendobj\n"
    (patch,) = page_tree.raised(nodes(outline + pdf([PdfPage("a")])), 1, 2)
    assert patch[0] > len(outline)


def test_a_tree_across_pieces_of_a_large_file_is_found_once() -> None:
    tree = b"1 0 obj\n<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 1 >>\nendobj\n"
    for before in (0, 10, 45, len(tree), 1 << 16, 3 << 20):
        data = bytes((1 << 22) - before) + tree + bytes(1 << 22)
        (node,) = nodes(data)
        assert (data[node.at : node.at + 1], node.count, node.kids) == (b"1", 1, 2)


@given(st.binary(max_size=200), st.integers(0, 9), st.integers(0, 9))
def test_any_bytes_are_looked_at(noise: bytes, count: int, to: int) -> None:
    data = noise + b"/Count " + noise + b"/Kids [" + noise + b"] /Count 3 endobj"
    assert page_tree.hidden(nodes(data), count) >= 0
    for place, content in page_tree.raised(nodes(data), count, to):
        assert data[place : place + len(content)].isdigit()
