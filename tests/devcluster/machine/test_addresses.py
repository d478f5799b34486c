import socket

import pytest

from devcluster.errors import StartFailed
from devcluster.machine.addresses import FIRST, Block, free_port


def test_a_claimed_block_is_passed_over_until_it_is_given_back() -> None:
    first = Block.claim([201, 202])
    second = Block.claim([first.number, 203, 204])
    try:
        assert second.number != first.number
        with pytest.raises(StartFailed, match="all blocks"):
            Block.claim([first.number, second.number])
    finally:
        second.claim_socket.close()
        first.claim_socket.close()
    again = Block.claim([first.number])
    again.claim_socket.close()
    assert again.number == first.number


def test_addresses_of_a_block_stay_in_it() -> None:
    block = Block.claim(range(205, 215))
    block.claim_socket.close()
    assert block.number >= FIRST
    assert block.api_server == f"127.{block.number}.0.1"
    assert block.prefix(3) == f"127.{block.number}.3"


def test_a_taken_port_is_replaced() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        port = free_port("127.0.0.1", taken)
    assert port not in (0, taken)
    assert free_port("127.0.0.1", taken) == taken
