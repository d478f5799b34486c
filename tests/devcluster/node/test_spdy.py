"""Frames of SPDY/3.1: what kubectl sends is understood in pieces of any size, and nothing else is believed."""

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devcluster.node.endpoint import spdy
from tests.support.spdyclient import Client, control

HEADERS = {"port": "8001", "streamtype": "data", "requestid": "0"}


def test_the_dictionary_is_the_specified_one() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2  # what every zlib stream of SPDY/3 names in its head


@given(cuts=st.lists(st.integers(1, 40), max_size=12), payload=st.binary(max_size=100))
def test_frames_are_read_in_pieces_of_any_size(cuts: list[int], payload: bytes) -> None:
    client = Client()
    sent = client.open(1, HEADERS) + client.open(3, HEADERS | {"streamtype": "error"}, fin=True)
    sent += spdy.data(1, payload) + spdy.data(1, b"", fin=True) + control(3, struct.pack(">II", 3, 5))
    sent += control(6, struct.pack(">I", 9)) + control(9, bytes(8)) + control(7, bytes(8))

    decoder, frames = spdy.Decoder(), []
    for size in cuts:
        frames += decoder.feed(sent[:size])
        sent = sent[size:]
    frames += decoder.feed(sent)

    assert frames == [
        spdy.SynStream(1, HEADERS, fin=False),
        spdy.SynStream(3, HEADERS | {"streamtype": "error"}, fin=True),
        spdy.Data(1, payload, fin=False),
        spdy.Data(1, b"", fin=True),
        spdy.Reset(3),
        spdy.Ping(9),
        spdy.GoAway(),
    ]


def test_what_the_node_writes_is_read_by_a_client() -> None:
    client, encoder = Client(), spdy.Encoder()
    sent = encoder.reply(1) + encoder.reply(3) + spdy.data(1, b"hello") + spdy.data(1, b"", fin=True)
    sent += spdy.reset(3, spdy.PROTOCOL_ERROR) + spdy.ping(7)
    assert client.receive(sent) == [
        ("reply", 1, b""),
        ("reply", 3, b""),
        ("data", 1, b"hello"),
        ("end", 1, b""),
        ("reset", 3, b"\0\0\0\1"),
        ("ping", 7, b""),
    ]


def _block(plain: bytes) -> bytes:
    packer = zlib.compressobj(zdict=spdy.DICTIONARY)
    return control(1, bytes(10) + packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (control(6, bytes(4), version=2), "version 2"),
        (control(6, b""), "ends too early"),
        (control(1, bytes(10) + b"no zlib"), "can't be decompressed"),
        (_block(b"\0\0\0\1" + b"\0\0\0\4port" + b"\x7f\0\0\0"), "after its block"),
        (_block(b"\xff\xff\xff\xff"), "ends too early"),
        (_block(bytes(spdy.MAX_HEADER_BYTES + 1)), "headers of more than"),
        (b"GET / HTTP/1.1\r\n\r\n" * 3, ""),
    ],
)
def test_other_bytes_are_refused_or_mean_nothing(sent: bytes, said: str) -> None:
    decoder = spdy.Decoder()
    if not said:
        assert decoder.feed(sent) == []  # a data frame that never ends
        return
    with pytest.raises(spdy.ProtocolError, match=said):
        decoder.feed(sent)


@given(st.binary(max_size=400))
def test_any_bytes_are_frames_or_a_protocol_error(sent: bytes) -> None:
    with contextlib.suppress(spdy.ProtocolError):
        spdy.Decoder().feed(b"\x80\3\0\1" + sent)
