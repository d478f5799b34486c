"""URLs of pods, from the addresses in their status."""

import ipaddress


def base_url(ip: str, port: int) -> str:
    """Return the URL of an address, IPv4 or IPv6, without a path.

    Raises ValueError for what is no address: a name would be looked up, and lead anywhere; a zone (`fe80::1%eth0`)
    means something on the machine that wrote it only.
    """
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"an address with a zone: {ip[:64]!r}")
        return f"http://[{address}]:{port}"
    return f"http://{address}:{port}"
