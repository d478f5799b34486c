"""The digest of what a resource says about its pods' template: tells a person's change from one of the operator's.

Only what the resource itself says counts, and nothing that has its default: so a version that knows more fields, or
builds the template otherwise, gives the same digest. What may change live isn't in it.
"""

import hashlib
import json
from typing import Any

import msgspec

from ocr_operator.resources.spec import IdleOverride, Model, OcrDeployment, fields


def asked(resource: OcrDeployment) -> str:
    spec = resource.spec
    said = {
        "models": [_said(_fixed(model)) for model in spec.models],
        "gpu": _said(spec.gpu),
        "cache": _said(spec.cache),
        "server": _said(spec.server),
        "template": _said(spec.template),
    }
    if resources := _said(spec.asked):
        said["resources"] = (
            resources  # a field that 0.1.0 didn't have: the digest of who doesn't use it stays
        )
    return digest(said)


def digest(value: object) -> str:
    """Return 16 hex digits of the hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _fixed(model: Model) -> Model:
    """Drop what is live."""
    return msgspec.structs.replace(model, idle=IdleOverride(), priority=0, preload=False)


def _said(value: Any) -> Any:
    match value:
        case msgspec.Struct():
            return {
                each.encode_name: _said(getattr(value, each.name))
                for each in fields(type(value))
                if getattr(value, each.name) != _default(each)
            }
        case dict():
            return {str(key): _said(item) for key, item in value.items()}
        case list() | tuple():
            return [_said(item) for item in value]
        case int() if not isinstance(value, bool):
            return int(value)
    return value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
