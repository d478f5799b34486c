"""Users of the API server: static tokens, kubeconfigs, and the key that signs service account tokens."""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ADMIN: Final = "devcluster-admin"
COMPONENTS: Final = ("system:kube-controller-manager", "system:kube-scheduler")

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_DER_P256: Final = bytes.fromhex("06082a8648ce3d030107")
"""The object identifier prime256v1 (1.2.840.10045.3.1.7)."""


@dataclass(frozen=True)
class User:
    """Line of the token file."""

    name: str
    groups: tuple[str, ...]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


def users(nodes: Iterable[str]) -> dict[str, User]:
    """Return the administrator, the components and the nodes, each with a new token, keyed by name."""
    return {
        ADMIN: User(ADMIN, ("system:masters",)),
        **{name: User(name, ()) for name in COMPONENTS},
        **{name: User(f"system:node:{name}", ("system:nodes",)) for name in nodes},
    }


def token_file(known: Mapping[str, User]) -> str:
    """Return the CSV that `--token-auth-file` reads: token, user, uid, groups."""
    return "".join(
        f'{user.token},{user.name},{user.name},"{",".join(user.groups)}"\n' for user in known.values()
    )


def kubeconfig(url: str, authority: bytes, user: User) -> str:
    """Return a kubeconfig without references to other files (JSON, which is YAML)."""
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "devcluster",
        "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": user.name}}],
        "clusters": [
            {
                "name": "devcluster",
                "cluster": {
                    "server": url,
                    "certificate-authority-data": base64.b64encode(authority).decode(),
                },
            }
        ],
        "users": [{"name": user.name, "user": {"token": user.token}}],
    }
    return json.dumps(document, indent=1) + "\n"


def signing_key() -> str:
    """Return a new P-256 private key as PEM (SEC 1, RFC 5915).

    The public half is optional in that format and Go computes it, so a random number and 20 bytes of DER make the key:
    no cryptography package is needed.
    """
    number = secrets.randbelow(_P256_ORDER - 1) + 1
    body = b"\x02\x01\x01" + b"\x04\x20" + number.to_bytes(32, "big") + b"\xa0\x0a" + _DER_P256
    encoded = base64.encodebytes(b"\x30" + bytes([len(body)]) + body).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{encoded}-----END EC PRIVATE KEY-----\n"
