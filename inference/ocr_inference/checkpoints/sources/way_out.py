"""What is wrong with the environment's variables for the way to a hub, by name; no value of a proxy is repeated, since
it may have a password."""

import importlib.util
import os
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from ocr_inference.checkpoints.sources import faults

VARIABLES: Final = "see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SOCKS: Final = ("socks5", "socks5h")
_SCHEMES: Final = ("http", "https", *_SOCKS)


def fault(environ: Mapping[str, str]) -> str | None:
    """Return what is wrong and what to do, or None where nothing is found. Reads the files that are named."""
    for name, value in environ.items():
        if name.upper() in _PROXIES and (wrong := _of_proxy(value)) is not None:
            return f"{name} {wrong}"
    return _of_certificates(environ)


def _of_proxy(value: str) -> str | None:
    if not value:
        return None
    if any(each.isspace() for each in value):
        return "has white space in it"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        if not parts.hostname or parts.port == 0:
            raise ValueError("no host")
    except ValueError:
        return "is no address of a proxy, such as http://proxy.example.com:3128 (with %2F for a / in its password)"
    if parts.scheme not in _SCHEMES:
        return f"has the scheme {faults.shown(parts.scheme)!r}; {', '.join(_SCHEMES)} can be used"
    if parts.scheme in _SOCKS and importlib.util.find_spec("socksio") is None:
        return "is a SOCKS proxy, which needs the package socksio: pip install 'ocr-operator[transformers]'"
    return None


def _of_certificates(environ: Mapping[str, str]) -> str | None:
    if not (path := environ.get("SSL_CERT_FILE")):
        return None
    if not os.path.isfile(path):
        return f"SSL_CERT_FILE names {faults.shown(path)!r}, which is no file"
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        return f"SSL_CERT_FILE names {faults.shown(path)!r}, whose certificates can't be read ({why})"
    return None
