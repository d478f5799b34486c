"""Small JSON bodies, decoded into types: what doesn't fit is named by its path."""

import re
from typing import Final, TypeVar

import msgspec

from ocr_inference.errors import ApiError

_AT: Final = re.compile(r"(?P<message>.*?) - at `\$\.?(?P<path>[^`]*)`")
_T = TypeVar("_T")


def decode(body: bytes | bytearray | msgspec.Raw, kind: type[_T]) -> _T:
    """Decode a body; raises 422 that names the field by its JSON path, and 400 where it is no JSON."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        message = found["message"] if found else str(error)
        path = found["path"] if found else None
        raise ApiError(422, "invalid_value", message[:1].lower() + message[1:300], param=path) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"the body is no valid JSON: {str(error)[:200]}") from None
