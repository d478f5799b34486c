"""Decides which requests of browsers are answered: by the page that sends them, and by the name they ask for.

A browser sends what any page asks it to, from inside the network that a firewall protects, so being reachable from
there proves nothing. Two things tell a page's request from that of a program or of our own page:

* Where it comes from: `Sec-Fetch-Site`, or `Origin` of browsers and addresses without it. A page of another site may
  look (it can't read the answer) but change nothing. The rules are those of `http.CrossOriginProtection` of Go 1.25,
  whose documentation has the reasons and why the page needs no token for it. Programs send neither header and pass.
* Which name it asks for: `Host`. A page of evil.example whose name leads to our address by now (DNS rebinding) is of
  our own origin to the browser; only the name gives it away. So only names are answered that can't be made to lead
  here from outside.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from ocr_wire.text import shown

ANY: Final = "*"

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_OWN_SITES: Final = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` of our own page, and of what a person typed."""
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_NAME: Final = re.compile(r"(?P<name>[a-z0-9_.-]+)(:[0-9]{0,5})?")
_IPV6: Final = re.compile(r"\[(?P<address>[^\]]*)\](:[0-9]{0,5})?")
_IPV4: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")

_PRIVATE: Final = (".localhost", ".local", ".internal", ".svc")
"""Endings that public DNS doesn't have: RFC 6761, RFC 6762 (and a cluster's `cluster.local`), ICANN's resolution
2024.07.29.06, and the names of Services."""

_PREFLIGHT_SECONDS: Final = 600
"""Time for which a browser needn't ask again."""


@dataclass(frozen=True)
class Policy:
    """Pages and names that are answered, as the settings say."""

    cors_origins: frozenset[str] = frozenset()
    """Origins of other sites' pages that may do what programs may; `*` is each."""
    allowed_hosts: tuple[str, ...] = ()
    """Names besides those that are always answered; `*` is each, `*.ocr` each name below `ocr`."""
    checks_hosts: bool = True


@dataclass(frozen=True)
class Caller:
    """Headers of a request that tell its sender; None where one is missing."""

    method: str
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None
    preflight_for: str | None = None
    """`Access-Control-Request-Method`."""


@dataclass(frozen=True)
class Passed:
    """Verdict on a request that goes on."""


@dataclass(frozen=True)
class Preflight:
    """Verdict on a browser's question whether a page may send a request: it may."""


@dataclass(frozen=True)
class Refused:
    """Verdict on a request that does nothing; `message` names the setting that allows it."""

    code: str
    message: str


Verdict = Passed | Preflight | Refused


def policy(
    *, cors_origins: tuple[str, ...], allowed_hosts: tuple[str, ...], machine: str, has_tokens: bool
) -> Policy:
    """Return the policy of a server on `machine`.

    Without a token every caller may do everything, so names are checked. With one, a page under a foreign name has no
    token to show, and what stands before the server (an Ingress) has a public name that we can't know; then names are
    checked where some are listed.
    """
    return Policy(
        cors_origins=frozenset(cors_origins),
        allowed_hosts=(*allowed_hosts, machine.lower()),
        checks_hosts=bool(allowed_hosts) or not has_tokens,
    )


def decide(policy: Policy, caller: Caller) -> Verdict:
    """Return what becomes of a request."""
    if policy.checks_hosts and not _is_known(policy, caller.host):
        name = shown(caller.host or "")
        return Refused(
            "unknown_host",
            f"this server doesn't answer as {name!r}: list the name in OCR_ALLOWED_HOSTS, or configure a token",
        )
    preflight = caller.method == "OPTIONS" and caller.preflight_for is not None
    if caller.method in _SAFE and not preflight:
        return Passed()
    if _is_allowed(policy, caller.origin):
        return Preflight() if preflight else Passed()
    if _is_own(caller):
        return Passed()
    return Refused(
        "cross_origin",
        f"pages of {shown(caller.origin or 'another site')!r} may not use this server: list the page's origin in"
        " OCR_CORS_ORIGINS",
    )


def headers(policy: Policy, verdict: Verdict, origin: str | None) -> dict[str, str]:
    """Return the headers that let a page of `origin` read the answer; never with credentials, which we don't use."""
    if not policy.cors_origins:
        return {}
    # The answer differs by origin, which a cache between must know, also where this one isn't allowed.
    found = {} if ANY in policy.cors_origins else {"Vary": "Origin"}
    if origin is None or not _is_allowed(policy, origin):
        return found
    found["Access-Control-Allow-Origin"] = ANY if ANY in policy.cors_origins else origin
    if isinstance(verdict, Preflight):
        found["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
        # The wildcard means each header but the first, for browsers that know it: client libraries send a dozen.
        found["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Client-ID, X-Request-ID, *"
        found["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
    else:
        found["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
    return found


def _is_allowed(policy: Policy, origin: str | None) -> bool:
    return ANY in policy.cors_origins or (origin is not None and origin.lower() in policy.cors_origins)


def _is_own(caller: Caller) -> bool:
    """Return whether a request is of our own page, or of a program."""
    if caller.fetch_site is not None:
        # A proxy may have changed the host on the way, so the browser's word counts more than a comparison.
        return caller.fetch_site in _OWN_SITES
    if caller.origin is None:
        return True
    scheme, _, authority = caller.origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is None or not authority or caller.host is None:
        return False
    return authority.removesuffix(port) == caller.host.lower().removesuffix(port)


def _is_known(policy: Policy, host: str | None) -> bool:
    """Return whether a host is one that no name server outside can make lead to us.

    A request without one is no browser's. An address is what a person or program typed. A name without a dot is of this
    network: public DNS has none.
    """
    if not host or ANY in policy.allowed_hosts:
        return True
    if bracketed := _IPV6.fullmatch(host):
        return _is_ipv6(bracketed["address"])
    matched = _NAME.fullmatch(host.lower())
    if matched is None:
        return False
    name = matched["name"].removesuffix(".")
    if "." not in name or _IPV4.fullmatch(name) or name.endswith(_PRIVATE):
        return True
    return any(
        name.endswith(listed[1:]) if listed.startswith("*.") else name == listed
        for listed in policy.allowed_hosts
    )


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
