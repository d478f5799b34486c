"""The connection to a pod that helps."""

import asyncio
import os
from pathlib import Path

from ocr_inference.api.peers.client import Peers
from tests.support.patience import PATIENCE
from tests.support.waiting import until


def timer(local: int, remote: int) -> tuple[str, float]:
    """Kind of the timer that the system runs for a connection of this machine, and seconds until it is due."""
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        ports = [int(address.partition(":")[2], 16) for address in words[1:3]]
        if ports == [local, remote]:
            kind, _, due = words[5].partition(":")
            return kind, int(due, 16) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("there is no such connection")


async def test_a_pod_whose_machine_vanishes_is_noticed_while_its_answer_is_waited_for() -> None:
    """Nothing is under way then, so only the system's questions find out."""
    asked = asyncio.Event()
    ports: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    peers = Peers()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, peers.open():
        port = server.sockets[0].getsockname()[1]
        waking = asyncio.create_task(peers.wake(f"http://127.0.0.1:{port}", "m", "token"))
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
        await asyncio.to_thread(until, lambda: timer(ports[0], port)[0] == "02")
        assert timer(ports[0], port)[1] <= 5.5
        waking.cancel()
        await asyncio.gather(waking, return_exceptions=True)
