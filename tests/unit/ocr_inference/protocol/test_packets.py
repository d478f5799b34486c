import os
import resource
import socket

import msgspec
import pytest
from msgspec import Struct

from ocr_inference.protocol import packets
from tests.support.descriptors import no_more_descriptors, open_descriptors


class Word(Struct):
    text: str


WORDS = msgspec.msgpack.Decoder(Word)


def test_messages_and_their_descriptors_stay_together() -> None:
    ours, theirs = packets.pair()
    with ours, theirs, open("/dev/null") as null, open("/dev/zero") as zero:
        packets.send(ours, packets.pack(Word("one")))
        packets.send(ours, packets.pack(Word("two")), [null.fileno(), zero.fileno()])
        packets.send(ours, packets.pack(Word("three")), [zero.fileno()])
        assert packets.receive(theirs, WORDS) == (Word("one"), ())
        for text, files in (("two", (null, zero)), ("three", (zero,))):
            received = packets.receive(theirs, WORDS)
            assert received is not None
            message, descriptors = received
            assert message == Word(text)
            assert [os.fstat(each).st_rdev for each in descriptors] == [
                os.fstat(file.fileno()).st_rdev for file in files
            ]
            assert not any(os.get_inheritable(each) for each in descriptors)
            packets.close(descriptors)
        ours.close()
        assert packets.receive(theirs, WORDS) is None


def test_a_receiver_without_free_descriptors_gets_the_message() -> None:
    ours, theirs = packets.pair()
    with ours, theirs, open("/dev/null") as file:
        for _ in range(2):
            packets.send(ours, packets.pack(Word("one")), [file.fileno()])
        before = open_descriptors()
        with no_more_descriptors():
            assert packets.receive(theirs, WORDS) == (Word("one"), ())
        assert open_descriptors() == before
        received = packets.receive(theirs, WORDS)
        assert received is not None
        packets.close(received[1])


def test_a_message_is_bounded_and_the_largest_one_passes() -> None:
    largest = "x" * (packets.MAX_BYTES - len(packets.pack(Word("x" * 70_000))) + 70_000)
    ours, theirs = packets.pair()
    with ours, theirs:
        packets.send(ours, packets.pack(Word(largest)))
        assert packets.receive(theirs, WORDS) == (Word(largest), ())
    with pytest.raises(packets.TooLong, match=f"longer than {packets.MAX_BYTES}"):
        packets.pack(Word(largest + "x"))


@pytest.mark.parametrize("data", [b"junk", msgspec.msgpack.encode({"text": 1})])
def test_what_is_no_message_is_refused_and_its_descriptors_are_closed(data: bytes) -> None:
    ours, theirs = packets.pair()
    with ours, theirs, open("/dev/null") as file:
        before = open_descriptors()
        socket.send_fds(theirs, [data], [file.fileno()])
        with pytest.raises(packets.Broken):
            packets.receive(ours, WORDS)
        assert open_descriptors() == before


def test_the_limit_is_as_it_was() -> None:
    """Of the helper that takes all descriptors away."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with no_more_descriptors(), pytest.raises(OSError, match="Too many open files"):
        os.open("/dev/null", os.O_RDONLY)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
