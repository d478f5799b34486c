import pytest

from ocr_wire import addresses


@pytest.mark.parametrize(
    ("ip", "url"),
    [
        ("10.1.2.3", "http://10.1.2.3:80"),
        ("fd00::17", "http://[fd00::17]:80"),
        ("FD00:0:0::0017", "http://[fd00::17]:80"),
        ("::ffff:10.1.2.3", "http://[::ffff:a01:203]:80"),
    ],
)
def test_addresses_of_both_kinds_become_urls(ip: str, url: str) -> None:
    assert addresses.base_url(ip, 80) == url


@pytest.mark.parametrize(
    "ip", ["", "localhost", "10.1.2", "10.1.2.3:80", "evil.example/", "fe80::1%eth0", "::1]@evil.example/["]
)
def test_what_is_no_address_is_refused(ip: str) -> None:
    with pytest.raises(ValueError, match="address"):
        addresses.base_url(ip, 80)
