import socket

import pytest

from devcluster.errors import StartFailed
from devcluster.machine.addresses import FIRST, Block, claim_ipv6, free_port
from devcluster.node.pods.addresses import Addresses


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


def test_one_cluster_at_a_time_has_the_address_of_ipv6() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    try:
        first = claim_ipv6()
    except StartFailed:
        return  # Another program of this machine has it, which shows the same.
    with first, pytest.raises(StartFailed, match="another cluster"):
        claim_ipv6()


def test_pods_may_share_an_address() -> None:
    addresses = Addresses("127.200.1", shared="::1")
    assert [addresses.take("127.200.1.7"), addresses.take()] == ["::1", "::1"]
    addresses.give_back("::1")
    assert addresses.take() == "::1"


def test_a_taken_port_is_replaced() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        port = free_port("127.0.0.1", taken)
    assert port not in (0, taken)
    assert free_port("127.0.0.1", taken) == taken
