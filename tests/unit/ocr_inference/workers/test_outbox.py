"""Calls that wait for a worker that doesn't read: order, bounds of the socket, descriptors."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from msgspec import Struct

from ocr_inference.protocol import packets
from ocr_inference.protocol.page_file import PageFile
from ocr_inference.workers.outbox import Outbox
from tests.support.descriptors import open_descriptors


class Number(Struct):
    number: int
    padding: str = "x" * 10_000


NUMBERS = msgspec.msgpack.Decoder(Number)


@asynccontextmanager
async def outbox() -> AsyncIterator[tuple[Outbox, socket.socket]]:
    ours, theirs = packets.pair()
    box = Outbox(ours)
    with theirs:
        yield box, theirs
    box.close()


def never(error: OSError) -> None:
    raise AssertionError(error)


async def test_a_full_socket_blocks_nothing_and_keeps_the_order_and_the_files() -> None:
    async with outbox() as (box, theirs):
        files = [PageFile.of(b"%d" % number) for number in range(100)]
        for number, file in enumerate(files):
            box.send(packets.pack(Number(number)), file, never)
        got = []
        for _ in files:
            received = await asyncio.to_thread(packets.receive, theirs, NUMBERS)
            assert received is not None
            message, (descriptor,) = received
            with PageFile(descriptor) as page:
                got.append((message.number, b"".join(page.pieces())))
        assert got == [(number, b"%d" % number) for number in range(100)]
        for file in files:
            file.close()


async def test_what_waits_for_a_worker_that_has_ended_is_dropped() -> None:
    before = open_descriptors()
    async with outbox() as (box, theirs):
        with PageFile.of(b"page") as file:
            for number in range(100):
                box.send(packets.pack(Number(number)), file, never)
            theirs.close()
            for number in range(3):
                box.send(packets.pack(Number(number)), file, never)
    assert open_descriptors() == before


async def test_a_message_that_the_system_refuses_fails_alone() -> None:
    failures: list[OSError] = []
    async with outbox() as (box, theirs):
        with PageFile.of(b"page") as file:
            box.send(b"x" * (1 << 24), file, failures.append)
            box.send(packets.pack(Number(1)), file, never)
        received = packets.receive(theirs, NUMBERS)
        assert received is not None
        assert received[0].number == 1
        for each in received[1]:
            os.close(each)
    assert [error.errno for error in failures] == [errno.EMSGSIZE]
