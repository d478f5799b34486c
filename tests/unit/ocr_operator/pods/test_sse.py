import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.pods.sse import Heartbeat, InvalidStream, Message, Parser

STREAM = (
    b": hello\n\nevent: state\ndata: {}\n\n: heartbeat\n\nevent: state\r\ndata: a\r\ndata: b\r\n\r\nid: 7\n\n"
)
MEANT = [Heartbeat(), Message("state", b"{}"), Heartbeat(), Message("state", b"a\nb")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_the_same_comes_out_however_the_bytes_are_cut(cuts: list[int]) -> None:
    parser, edges = Parser(), [0, *sorted(cuts), len(STREAM)]

    found = [each for start, end in itertools.pairwise(edges) for each in parser.feed(STREAM[start:end])]

    assert found == MEANT


def test_unfinished_event_is_nothing_yet() -> None:
    assert list(Parser().feed(b"event: state\ndata: {}\n")) == []


@pytest.mark.parametrize(
    "chunk", [b"data: xxxx\n", b"event: state\n", b"ignored: xxxx\n", b"x" * 10], ids=lambda c: c[:6].decode()
)
def test_endless_event_is_refused(chunk: bytes) -> None:
    parser = Parser(max_bytes=1000)

    with pytest.raises(InvalidStream):
        list(itertools.chain.from_iterable(parser.feed(chunk) for _ in range(200)))


def test_endless_heartbeats_are_fine() -> None:
    parser = Parser(max_bytes=100)

    assert sum(len(list(parser.feed(b": heartbeat\n\n"))) for _ in range(500)) == 500


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_garbage_never_breaks_it(chunks: list[bytes]) -> None:
    parser = Parser(max_bytes=10_000)

    for chunk in chunks:
        for found in parser.feed(chunk):
            assert isinstance(found, Message | Heartbeat)


def test_thousands_of_lines_at_once_are_refused() -> None:
    with pytest.raises(InvalidStream, match="lines at once"):
        list(Parser().feed(b"\n" * 5000))
