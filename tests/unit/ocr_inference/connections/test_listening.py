"""Addresses that a server listens at."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from ocr_inference.connections import listening

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@contextmanager
def connected(listener: socket.socket, host: str) -> Iterator[socket.socket]:
    """A client's socket."""
    with socket.create_connection((host, listener.getsockname()[1]), timeout=5) as client:
        yield client


@needs_ipv6
@pytest.mark.parametrize("host", ["", "::"])
def test_all_addresses_are_those_of_ipv6_and_ipv4(host: str) -> None:
    with closing(listening.listen(host, 0, 1.0)) as listener:
        assert listener.family is socket.AF_INET6
        for address in ("127.0.0.1", "::1"):
            with connected(listener, address):
                pass
        assert listening.url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("host", ["", "0.0.0.0"])
def test_a_machine_without_ipv6_listens_at_ipv4(host: str) -> None:
    with closing(listening.listen(host, 0, 1.0, dual_stack=False)) as listener:
        assert listener.family is socket.AF_INET
        with connected(listener, "127.0.0.1"):
            assert listening.url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


@needs_ipv6
def test_an_address_that_is_given_is_the_only_one() -> None:
    with closing(listening.listen("::1", 0, 1.0)) as listener:
        assert listening.url(listener) == f"http://[::1]:{listener.getsockname()[1]}"
        with pytest.raises(OSError, match="refused"), connected(listener, "127.0.0.1"):
            pass


@pytest.mark.parametrize(
    ("host", "shown"),
    [("", "*:80"), ("::1", "[::1]:80"), ("fe80::1%eth0", "[fe80::1%25eth0]:80"), ("10.0.0.1", "10.0.0.1:80")],
)
def test_addresses_are_shown_as_urls_have_them(host: str, shown: str) -> None:
    assert listening.shown(host, 80) == shown


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("203.0.113.7", "Cannot assign requested address"),
        ("no-such-host.invalid", "Name or service not known|failure in name resolution"),
        ("[::1]", "Name or service not known|failure in name resolution"),
    ],
)
def test_what_is_not_ours_is_an_error_that_names_it(host: str, why: str) -> None:
    with pytest.raises(listening.CannotListen, match=why) as refused:
        listening.listen(host, 0, 1.0)
    assert host in str(refused.value)
    assert (refused.value.is_of_host, refused.value.is_taken) == (True, False)


def test_a_taken_port_is_not_blamed_on_the_address() -> None:
    with (
        closing(listening.listen("127.0.0.1", 0, 1.0)) as listener,
        pytest.raises(listening.CannotListen, match=r"Address already in use$") as refused,
    ):
        listening.listen("127.0.0.1", listener.getsockname()[1], 1.0)
    assert (refused.value.is_of_host, refused.value.is_taken) == (False, True)


def test_clients_of_ipv4_have_their_own_address() -> None:
    assert [listening.client(each) for each in ("::ffff:10.1.2.3", "2001:db8::1", None)] == [
        *("10.1.2.3", "2001:db8::1", "")
    ]


def test_a_taken_port_is_an_error_that_names_it() -> None:
    with closing(listening.listen("127.0.0.1", 0, 1.0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(listening.CannotListen, match=f"127.0.0.1:{port}: Address already in use"):
            listening.listen("127.0.0.1", port, 1.0)


def test_silent_machines_are_noticed_by_the_system() -> None:
    """Options of the listener are those of what it accepts."""
    with closing(listening.listen("127.0.0.1", 0, 30.0)) as listener, connected(listener, "127.0.0.1"):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 35_000
