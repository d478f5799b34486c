"""The schemas of the definitions of this version, by their digests: whether a cluster has another one."""

import hashlib
import json
from typing import Final

from ocr_wire import names

DIGESTS: Final = {
    names.PLURAL: "a399286de59cd357",
    names.POLICY_PLURAL: "fc5545ed537604fc",
}
"""By the plural of the kind, of the schema as the API server stores it, which is as `crds/` has it."""


def digest(schema: object) -> str:
    """Return 16 hex digits of the hash of an `openAPIV3Schema`, in whatever order its fields are."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
